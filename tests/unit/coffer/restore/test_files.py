"""Restoring over what is there: replaced whole or not at all, kept, or refused; and full disks."""

import errno
import os
import stat

import pytest

from coffer.errors import RestoreSpaceError, RestoreTargetError
from coffer.restore import Overwrite, files, pagecache
from coffer.restore.files import temporary_name
from coffer.restore.pagecache import RWF_DONTCACHE
from tests.harness.backups import write_tree
from tests.harness.restores import assert_restored, landed, names_below, set_times, write_plain_kinds


@pytest.fixture
def changed(bench, target, give_back):
    """A tree that was restored once, and then changed in the target in every way."""
    write_plain_kinds(bench.root)
    bench.back_up()
    give_back()
    there = landed(target, bench.root)
    (there / "docs" / "000.txt").write_bytes(b"longer than before, or shorter" * 40)
    os.chmod(there / "docs" / "005.txt", 0o640)
    (there / "docs" / "010.txt").unlink()
    (there / "link").unlink()
    (there / "link").symlink_to("elsewhere")
    (there / "fifo").unlink()
    (there / "fifo").write_bytes(b"a file now")
    (there / "large").write_bytes(b"short")
    (there / "sparse").unlink()
    (there / "sparse").symlink_to("large")
    (there / "third name").unlink()
    (there / "third name").write_bytes(b"not linked")
    (there / "extra").write_bytes(b"of the user's own")
    os.chmod(there / "empty folder", 0o700)
    return there


@pytest.mark.parametrize("overwrite", [Overwrite.CHANGED, Overwrite.ALWAYS])
def test_what_differs_is_made_as_it_was(bench, changed, target, give_back, overwrite):
    """Whatever became of the files, they are the snapshot's again; what the snapshot does not have stays."""
    result = give_back(overwrite=overwrite, verify=True)
    assert 0 == result.exit_code, (result.failures, result.warnings)
    assert b"of the user's own" == (changed / "extra").read_bytes()
    (changed / "extra").unlink()
    os.utime(changed, ns=(os.lstat(bench.root).st_mtime_ns,) * 2)
    assert_restored(bench.root, target)
    assert (result.stats["kept"] > 50) == (overwrite is Overwrite.CHANGED)


def test_never_leaves_what_is_there(bench, changed, target, give_back):
    """Files that are there stay as they are, whatever they are; only what is missing is made."""
    before = {name: os.lstat(changed / name) for name in names_below(changed)}
    result = give_back(overwrite=Overwrite.NEVER, verify=True)
    assert (0, 1) == (result.exit_code, result.stats["files"])
    after = {name: os.lstat(changed / name) for name in names_below(changed)}
    assert {"docs/010.txt"} == after.keys() - before.keys()
    # making a file changes its folder's time, and nothing else
    assert {"docs"} == {name for name in before if before[name].st_mtime_ns != after[name].st_mtime_ns}
    assert [before[name].st_mode for name in before] == [after[name].st_mode for name in before]
    assert (bench.root / "docs" / "010.txt").read_bytes() == (changed / "docs" / "010.txt").read_bytes()


def test_nothing_is_overwritten_unasked(changed, target, give_back):
    """Without a word about overwriting, a target that is not empty is refused, and nothing in it is touched."""
    before = {name: os.lstat(changed / name) for name in names_below(changed)}
    with pytest.raises(RestoreTargetError, match="is not empty") as caught:
        give_back()
    assert "--overwrite changed" in caught.value.hint
    assert before == {name: os.lstat(changed / name) for name in names_below(changed)}


def test_a_second_run_passes_over_what_is_right(bench, target, give_back):
    """Files of the same kind, size, time, mode and owner are not read from the store again."""
    write_plain_kinds(bench.root)
    bench.back_up()
    first = give_back()
    second = give_back(overwrite=Overwrite.CHANGED)
    assert (0, 0, 0) == tuple(second.stats[name] for name in ("files", "hardlinks", "written_bytes"))
    names = ("files", "symlinks", "hardlinks", "others")
    assert sum(first.stats[name] for name in names) == second.stats["kept"]
    assert_restored(bench.root, target)


def test_a_folder_is_never_removed(bench, target, give_back):
    """A file whose place is a folder is a failure: what is in the folder was not named by anybody."""
    write_tree(bench.root, {"a": b"1", "b": b"2"})
    bench.back_up()
    there = landed(target, bench.root)
    write_tree(there, {"a/precious": b"3"})
    for overwrite in (Overwrite.CHANGED, Overwrite.ALWAYS):
        result = give_back(overwrite=overwrite)
        assert [("restore-target", 1)] == [(f.code, result.failures_count) for f in result.failures]
        assert b"a folder is in its place" in result.failures[0].message.encode()
    assert (b"3", b"2") == ((there / "a" / "precious").read_bytes(), (there / "b").read_bytes())


def test_an_old_file_is_replaced_in_one_step(bench, target, give_back, monkeypatch):
    """Until the new file is whole the old one stays under its name; a failure leaves the old one and no remains."""
    write_tree(bench.root, {"a": b"new" * 100, "b": os.urandom(9000)})
    bench.back_up()
    there = landed(target, bench.root)
    write_tree(there, {"a": b"old", "b": b"old"})
    for name in ("write", "pwrite"):
        monkeypatch.setattr(os, name, _failing(getattr(os, name), errno.EIO, after=0))
    result = give_back(overwrite=Overwrite.ALWAYS)
    assert {"a", "b"} == {os.path.basename(f.path).decode() for f in result.failures}
    assert {"restore"} == {f.code for f in result.failures}
    assert {"a": b"old", "b": b"old"} == {name: (there / name).read_bytes() for name in os.listdir(there)}


def _failing(real, number, after):
    """A system call that fails from its call of that number on, having done half of it."""
    calls = []

    def call(fd, data, *rest):
        calls.append(fd)
        if len(calls) > after:
            real(fd, data[: len(data) // 2], *rest)
            raise OSError(number, os.strerror(number))
        return real(fd, data, *rest)

    return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("overwrite", [None, Overwrite.ALWAYS])
def test_a_full_target_ends_the_run_with_whole_files(bench, target, give_back, monkeypatch, number, overwrite):
    """No space: one transient error, every file that is there is whole, and a second run finishes."""
    write_tree(bench.root, {f"{n:03d}": bytes([n]) * 600 for n in range(100)} | {"large": os.urandom(9000)})
    set_times(bench.root)
    bench.back_up()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", _failing(os.write, number, after=20))
        with pytest.raises(RestoreSpaceError, match="no space left") as caught:
            give_back(overwrite=overwrite)
    assert caught.value.transient
    there = landed(target, bench.root)
    names = os.listdir(there)
    assert 0 < len(names) < 101
    assert [(bench.root / name).read_bytes() for name in names] == [(there / name).read_bytes() for name in names]
    assert 0 == give_back(overwrite=Overwrite.CHANGED).exit_code
    assert_restored(bench.root, target)


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(bench, target, give_back, monkeypatch):
    """Never means never: a file that somebody puts there between look and leap stays."""
    write_tree(bench.root, {"a": b"new"})
    bench.back_up()
    there = landed(target, bench.root)
    there.mkdir(parents=True)
    real = os.fchmod

    def put_then_chmod(fd, mode):
        (there / "a").write_bytes(b"meanwhile")
        real(fd, mode)

    monkeypatch.setattr(os, "fchmod", put_then_chmod)
    result = give_back(overwrite=Overwrite.NEVER)
    assert ["restore-target"] == [failure.code for failure in result.failures]
    assert {"a": b"meanwhile"} == {name: (there / name).read_bytes() for name in os.listdir(there)}


@pytest.mark.parametrize("number", [errno.EPERM, errno.EIO])
def test_a_file_system_without_hard_links_will_do(bench, target, give_back, monkeypatch, number):
    """Where link(2) is not to be had, a rename that does not replace gives a new file its name; other errors count."""
    write_tree(bench.root, {"a": b"new"})
    bench.back_up()
    there = landed(target, bench.root)
    there.mkdir(parents=True)

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    result = give_back(overwrite=Overwrite.NEVER)
    expected = {"a": b"new"} if number == errno.EPERM else {}
    assert expected == {name: (there / name).read_bytes() for name in os.listdir(there)}
    assert (number == errno.EIO) == bool(result.failures_count)


def test_setgid_folders_do_not_give_files_their_group(bench, target, give_back):
    """A file made in a folder that hands on its group still gets the group of the snapshot."""
    write_tree(bench.root, {"a": b"1"})
    bench.back_up()
    there = landed(target, bench.root)
    there.mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(there, 0, 4321)
    os.chmod(there, 0o2755)
    assert 0 == give_back(overwrite=Overwrite.NEVER).exit_code
    assert (bench.root / "a").stat().st_gid == (there / "a").stat().st_gid
    assert 0o2755 == stat.S_IMODE(there.stat().st_mode)


def test_temporary_names_differ():
    """A temporary's name is hidden, short, and not to be guessed."""
    names = {temporary_name() for _ in range(100)}
    assert (100, {29}) == (len(names), {len(name) for name in names})
    assert all(name.startswith(b".coffer-") for name in names)


def test_files_that_are_not_kept_in_the_page_cache_are_restored_whole(bench, target, give_back, monkeypatch):
    """With every file of several chunks past the page cache, content, holes and attributes are the same as ever."""
    write_plain_kinds(bench.root)
    bench.back_up()
    uncached = []

    def write_at(fd, view, at, flags):
        uncached.append(flags)
        return pagecache.write_at(fd, view, at, flags)

    monkeypatch.setattr(pagecache, "UNCACHED_FROM_BYTES", 0)
    monkeypatch.setattr(pagecache, "_IS_SOUND", True)
    monkeypatch.setattr(files, "write_at", write_at)
    result = give_back(verify=True)
    assert (0, RWF_DONTCACHE) == (result.exit_code, uncached[0])
    assert_restored(bench.root, target)
