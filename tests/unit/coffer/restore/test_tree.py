"""Folders: private until the end, never entered through links, and right when a run ends early too."""

import os
import stat
import threading

import pytest

from coffer.errors import InterruptedRunError, RestoreSpaceError
from coffer.repository.repository import Repository
from coffer.restore import Overwrite, RestoreOptions, restore
from tests.harness.backups import Workbench, folder_for_everybody, needs_root, unprivileged, write_tree
from tests.harness.forgery import Forger
from tests.harness.restores import assert_restored, landed, names_below, set_times

FOLDER = stat.S_IFDIR | 0o755


class StopAfter:
    """A stop event that sets itself when it has been asked so many times."""

    def __init__(self, count):
        self.left = count
        self._lock = threading.Lock()

    def is_set(self):
        with self._lock:
            self.left -= 1
            return self.left < 0


@pytest.fixture
def tree(bench):
    """Small and large files, links and empty ones, in several folders."""
    for folder in "abcdefgh":
        write_tree(bench.root, {f"{folder}/{n}": os.urandom(700) for n in range(20)})
        write_tree(bench.root, {f"{folder}/large": os.urandom(20_000), f"{folder}/empty": b""})
        os.link(bench.root / folder / "1", bench.root / folder / "again")
        os.chmod(bench.root / folder, 0o750)
    set_times(bench.root)
    bench.back_up()
    return bench


@pytest.mark.parametrize("count", [0, 1, 3, 10, 30, 60, 120, 200, 300])
def test_a_run_that_is_stopped_leaves_whole_files(tree, target, give_back, count):
    """Stopped at any moment: each file is whole or not there, and the next run finishes what is missing."""
    hint = ""
    try:
        give_back(stop=StopAfter(count), verify=count % 2 == 0)
    except InterruptedRunError as error:
        hint = error.hint
    assert ("--overwrite changed" in hint) or count > 200
    there = landed(target, tree.root)
    names = names_below(there) if there.exists() else set()
    files = [name for name in names if (there / name).is_file()]
    assert [(tree.root / name).read_bytes() for name in files] == [(there / name).read_bytes() for name in files]
    assert not [name for name in names if name.endswith(".part")]
    second = give_back(overwrite=Overwrite.CHANGED, verify=True)
    assert 0 == second.exit_code, second.failures
    assert second.stats["kept"] >= len(files)
    assert_restored(tree.root, target)


def test_a_run_that_is_stopped_sets_its_folders_attributes(tree, target, give_back):
    """Folders that are there when a run ends early are not left closed to those who may read them."""
    with pytest.raises(InterruptedRunError):
        give_back(stop=StopAfter(100))
    there = landed(target, tree.root)
    modes = {stat.S_IMODE((there / name).stat().st_mode) for name in os.listdir(there)}
    assert {0o750} == modes


def test_an_unexpected_error_is_not_swallowed(tree, target, give_back, monkeypatch):
    """A programmer's mistake in a worker comes out as it is, and leaves no thread and no half file."""
    from coffer.restore.attributes import Attributes

    monkeypatch.setattr(Attributes, "set_file", lambda *_: 1 / 0)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        give_back()
    assert before == threading.active_count()
    assert not [name for name in names_below(target) if os.path.isfile(target / name)]


def test_notes_that_cannot_be_kept_end_the_run(tree, target, give_back, monkeypatch):
    """A full temporary folder is an error with a name, and what was restored is whole."""
    import sqlite3

    from coffer.restore.ledger import Ledger

    def fail(*_, **__):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Ledger, "let_wait", fail)
    with pytest.raises(RestoreSpaceError, match=r"temporary folder.*disk is full"):
        give_back()
    monkeypatch.undo()
    assert 0 == give_back(overwrite=Overwrite.CHANGED).exit_code
    assert_restored(tree.root, target)


def test_folders_are_private_while_files_are_written(tree, target, give_back, monkeypatch):
    """Until everything is there nobody else can look into a folder that the run made."""
    seen = set()
    real = os.utime

    def look_then_utime(path, *args, **kwargs):
        if isinstance(path, int) and stat.S_ISREG(os.fstat(path).st_mode):
            there = landed(target, tree.root)
            seen.update(stat.S_IMODE((there / name).stat().st_mode) for name in os.listdir(there))
        real(path, *args, **kwargs)

    monkeypatch.setattr(os, "utime", look_then_utime)
    give_back()
    assert {0o700} == seen


def test_a_file_in_a_folders_place_is_replaced_if_allowed(tree, target, give_back):
    """Changed and always put the folder there; never refuses it and all below it."""
    there = landed(target, tree.root)
    write_tree(there, {"b": b"a file"})
    refused = give_back(overwrite=Overwrite.NEVER)
    assert (1 + 23, b"a file") == (refused.failures_count, (there / "b").read_bytes())
    assert 0 == give_back(overwrite=Overwrite.CHANGED).exit_code
    assert_restored(tree.root, target)


def test_attributes_that_a_folder_gained_are_removed(tree, target, give_back):
    """Restored over an old folder, its attributes are those of the snapshot and no others."""
    give_back()
    there = landed(target, tree.root)
    os.setxattr(there / "a", "user.more", b"x")
    give_back(overwrite=Overwrite.CHANGED)
    assert_restored(tree.root, target)


def test_entries_in_any_order_make_their_tree(bench, target, give_back):
    """A folder's contents before its own entry, and the entry twice: the last attributes count."""
    forger = Forger(bench.repo)
    snapshot = forger.commit(
        [
            forger.folder(b"a/b", [(b"file", b"1")]),
            forger.folder(b"a", [(b"b", stat.S_IFDIR | 0o711)]),
            forger.folder(b"", [(b"a", stat.S_IFDIR | 0o710)]),
            forger.folder(b"a", [(b"b", stat.S_IFDIR | 0o751)]),
        ]
    )
    result = give_back(snapshot)
    assert 0 == result.exit_code, result.failures
    assert [0o710, 0o751] == [stat.S_IMODE((target / name).stat().st_mode) for name in ("a", "a/b")]


def test_a_folder_that_vanishes_is_a_warning(bench, target, give_back, monkeypatch):
    """Attributes of a folder that somebody removed meanwhile cannot be set: the rest is."""
    from coffer.restore.ledger import Ledger

    write_tree(bench.root, {"a/x": b"1"})
    (bench.root / "gone").mkdir()
    set_times(bench.root)
    bench.back_up()
    real = Ledger.folders_upwards

    def remove_first(ledger):
        (landed(target, bench.root) / "gone").rmdir()
        yield from real(ledger)

    monkeypatch.setattr(Ledger, "folders_upwards", remove_first)
    result = give_back()
    assert [("attributes", b"gone")] == [(w.code, os.path.basename(w.path)) for w in result.warnings]


@needs_root
def test_a_folder_that_forbids_its_owner_to_write_is_written_into():
    """An ordinary user's second restore over a read-only folder works, and the folder is read-only again."""
    with folder_for_everybody() as top:
        bench = Workbench(top / "source")
        write_tree(bench.root, {"sealed/a": b"1", "sealed/b": b"2"})
        os.chmod(bench.root / "sealed", 0o555)
        bench.back_up()
        repo = bench.reopen()
        with unprivileged():
            sealed = landed(top / "target", bench.root) / "sealed"
            _restore(repo, top / "target")
            os.chmod(sealed, 0o755)
            (sealed / "a").unlink()
            os.chmod(sealed, 0o555)
            denied = _restore(repo, top / "target", Overwrite.NEVER)
            done = _restore(repo, top / "target", Overwrite.CHANGED)
        assert (1, 0) == (denied.failures_count, done.failures_count)
        assert (b"1", 0o555) == ((sealed / "a").read_bytes(), stat.S_IMODE(sealed.stat().st_mode))


def _restore(repo: Repository, target, overwrite=None):
    return restore(repo, repo.resolve("latest"), target, options=RestoreOptions(overwrite=overwrite))


@needs_root
def test_a_folder_that_cannot_be_entered_fails_with_its_contents():
    """No permission is a failure of each entry below, not the end of the run."""
    with folder_for_everybody() as top:
        bench = Workbench(top / "source")
        write_tree(bench.root, {"closed/a": b"1", "open/b": b"2"})
        bench.back_up()
        repo = bench.reopen()
        closed = landed(top / "target", bench.root) / "closed"
        closed.mkdir(parents=True, mode=0o700)
        for folder in closed.parents:
            if top in folder.parents:
                os.chmod(folder, 0o777)
        with unprivileged():
            result = _restore(repo, top / "target", Overwrite.ALWAYS)
        failures = {os.path.basename(failure.path): failure.message for failure in result.failures}
        assert {b"a", b"closed"} == set(failures)
        assert "permission denied" in failures[b"a"]
        assert b"2" == (closed.parent / "open" / "b").read_bytes()
