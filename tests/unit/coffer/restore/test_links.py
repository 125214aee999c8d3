"""Hard links: one file under all its names again, or files of their own with a warning."""

import errno
import os

import pytest

from coffer.restore import Overwrite
from coffer.restore.ledger import Ledger, WaitingLink
from tests.harness.backups import Workbench, write_tree
from tests.harness.forgery import Forger, forged_row
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.restores import assert_restored, landed, names_below, set_times, spoil_content


@pytest.fixture
def linked(bench):
    """Three files of three names each, in several folders."""
    for number in range(3):
        write_tree(bench.root, {f"a/{number}": bytes([number]) * 700, "b/x": b"", "c/x": b""})
        for folder in "bc":
            os.link(bench.root / "a" / str(number), bench.root / folder / str(number))
    set_times(bench.root)
    bench.back_up()
    return bench


def same(folder, *names):
    return len({os.lstat(folder / name).st_ino for name in names}) == 1


def test_names_of_one_file_are_one_file_again(linked, target, give_back):
    """The content is written once, and every further name is a link to it."""
    result = give_back(verify=True)
    assert (5, 6, 0) == (result.stats["files"], result.stats["hardlinks"], result.exit_code)
    assert 3 * 700 == result.stats["written_bytes"]
    assert_restored(linked.root, target)


def test_a_name_whose_others_are_not_wanted_is_a_file(linked, target, give_back):
    """The first name that is selected is the file, whichever it is."""
    result = give_back(paths=(os.fsencode(linked.root / "c"), os.fsencode(linked.root / "b" / "1")))
    assert (4, 1, 0) == (result.stats["files"], result.stats["hardlinks"], result.exit_code)
    assert same(landed(target, linked.root), "b/1", "c/1")


def test_links_are_made_again_where_files_are_apart(linked, target, give_back):
    """A copy in the place of a link is replaced, though it looks the same; a link that is right is kept."""
    give_back()
    there = landed(target, linked.root)
    (there / "b" / "1").unlink()
    (there / "b" / "1").write_bytes((there / "a" / "1").read_bytes())
    time_ns = os.lstat(there / "a" / "1").st_mtime_ns
    os.utime(there / "b" / "1", ns=(time_ns, time_ns))
    result = give_back(overwrite=Overwrite.CHANGED)
    assert (1, 0) == (result.stats["hardlinks"], result.stats["files"])
    assert_restored(linked.root, target)


def test_a_first_name_that_is_kept_is_not_linked_to(linked, target, give_back):
    """Never: the user's own file under the first name keeps its content; the other names are the snapshot's."""
    there = landed(target, linked.root)
    write_tree(there, {"a/1": b"the user's own", "c/2": b"too"})
    result = give_back(overwrite=Overwrite.NEVER, verify=True)
    assert 0 == result.exit_code, result.failures
    assert (b"the user's own", b"too") == ((there / "a" / "1").read_bytes(), (there / "c" / "2").read_bytes())
    assert [b"\1" * 700] * 2 == [(there / name).read_bytes() for name in ("b/1", "c/1")]
    assert same(there, "b/1", "c/1")
    assert same(there, "a/2", "b/2")
    assert same(there, "a/0", "b/0", "c/0")


def test_an_old_file_is_not_linked_to_where_the_new_one_failed(bench, target, give_back, monkeypatch):
    """Where the first name cannot be written, an old file under it must not stand for the content of the others."""
    write_tree(bench.root, {"a": b"new" * 100})
    for name in "bc":
        os.link(bench.root / "a", bench.root / name)
    bench.back_up()
    there = landed(target, bench.root)
    write_tree(there, {"a": b"old"})
    real = os.write
    fails = [True]

    def fail_once(fd, data):
        if fails:
            fails.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, data)

    monkeypatch.setattr(os, "write", fail_once)
    result = give_back(overwrite=Overwrite.ALWAYS)
    assert ["a"] == [os.path.basename(failure.path).decode() for failure in result.failures]
    assert {"a": b"old", "b": b"new" * 100, "c": b"new" * 100} == {n: (there / n).read_bytes() for n in "abc"}
    assert same(there, "b", "c")


def test_all_names_fail_with_their_content(tmp_path, give_back, target):
    """Content that cannot be had fails under every name, each told once."""
    bench = Workbench(tmp_path / "linked", backend=TamperableMemoryBackend())
    write_tree(bench.root, {"a": os.urandom(700)})
    for name in "bcd":
        os.link(bench.root / "a", bench.root / name)
    bench.back_up()
    spoil_content(bench, "a")
    result = give_back(repo=bench.reopen())
    assert [b"a", b"b", b"c", b"d"] == sorted(os.path.basename(failure.path) for failure in result.failures)
    assert set() == names_below(landed(target, bench.root))


def test_where_a_file_system_has_no_links_each_name_is_a_file(linked, target, give_back, monkeypatch):
    """A warning for each name, and the content under all of them."""

    def refuse(*_, **__):
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))

    monkeypatch.setattr(os, "link", refuse)
    result = give_back()
    assert ({"link"}, 6, 0) == ({w.code for w in result.warnings}, result.warnings_count, result.failures_count)
    assert_restored(linked.root, target, ignore={"hardlinks"})


def test_a_link_whose_folder_was_refused_fails(linked, target, give_back):
    """A name in a folder that cannot be made is a failure; the others are linked."""
    there = landed(target, linked.root)
    there.mkdir(parents=True)
    (there / "b").write_bytes(b"a file")
    result = give_back(overwrite=Overwrite.NEVER)
    failed = {os.path.relpath(b"/" + failure.path, os.fsencode(linked.root)) for failure in result.failures}
    assert {b"b", b"b/0", b"b/1", b"b/2", b"b/x"} == failed
    assert same(there, "a/0", "c/0")


def test_more_links_than_memory_holds_are_remembered_on_disk(linked, target, give_back, monkeypatch):
    """Beyond a number of files the ledger spills; the links come out the same."""
    monkeypatch.setattr("coffer.restore.ledger.LINKS_IN_MEMORY", 1)
    assert 6 == give_back().stats["hardlinks"]
    assert_restored(linked.root, target)


def test_links_wait_in_turn():
    """Links that come while others are taken out wait for the next time."""
    ledger = Ledger()
    links = [WaitingLink(b"%d" % number, b"first", 0, 0, number) for number in range(1200)]
    for link in links:
        ledger.let_wait(link)
    seen = []
    for link in ledger.waiting_links():
        seen.append(link)
        if link.row_at % 400 == 0:
            ledger.let_wait(link)
    assert links == seen
    assert [links[0], links[400], links[800]] == list(ledger.waiting_links())
    assert [] == list(ledger.waiting_links())
    ledger.close()


def test_files_of_one_inode_number_and_other_contents_are_files_of_their_own(bench, target, give_back):
    """A number that was given to another file during the walk joins nothing: each name has what was read under it."""
    forger = Forger(bench.reopen())
    entries = [
        (name, (forged_row(size=len(data), ino=7, nlink=2), None, forger.content(data)))
        for name, data in ((b"a", b"first"), (b"b", b"first"), (b"c", b"other"))
    ]
    snapshot = forger.commit([forger.folder(b"", entries)])
    assert 0 == give_back(snapshot, verify=True).exit_code
    assert [b"first", b"first", b"other"] == [(target / name).read_bytes() for name in "abc"]
    assert same(target, "a", "b")
    assert not same(target, "a", "c")
