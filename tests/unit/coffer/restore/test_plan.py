"""A dry run says what a restore would do, entry by entry, and writes nothing."""

import os
import stat

import pytest

from coffer.errors import PathNotInSnapshotError, RestoreTargetError
from coffer.repository.entries import Kind
from coffer.restore import Overwrite, RestoreOptions, plan_restore
from tests.harness.backups import write_tree
from tests.harness.restores import landed, names_below, write_plain_kinds, write_socket


@pytest.fixture
def plan(bench, target):
    """Return the plan as a dict: path below the source → (kind, action, size)."""

    def run(**options):
        repo = bench.reopen()
        prefix = os.fsencode(bench.root).strip(b"/") + b"/"
        entries = plan_restore(repo, repo.resolve("latest"), target, RestoreOptions(**options))
        return {
            os.fsdecode(entry.path[len(prefix) :]): (entry.kind, entry.action, entry.size_bytes)
            for entry in entries
            if entry.path.startswith(prefix)
        }

    return run


def test_a_new_target_gets_everything(bench, target, plan, give_back):
    """Every entry is to be created, with its kind and size; the counts are those of the restore that follows."""
    write_plain_kinds(bench.root)
    bench.back_up()
    found = plan()
    assert names_below(bench.root) == set(found)
    assert {"create"} == {action for _, action, _ in found.values()}
    assert (Kind.FILE, "create", 60_000) == found["large"]
    assert (Kind.FIFO, "create", 0) == found["fifo"]
    assert (Kind.SYMLINK, "create", 0) == found["link"]
    dry = give_back(dry_run=True)
    assert (True, 0, False) == (dry.dry_run, dry.exit_code, target.exists())
    wet = give_back()
    names = ("directories", "symlinks", "others", "kept")
    assert [wet.stats[name] for name in names] == [dry.stats[name] for name in names]
    assert wet.stats["files"] + wet.stats["hardlinks"] == dry.stats["files"]


@pytest.mark.parametrize(
    ("overwrite", "same", "changed", "folder", "file_for_folder"),
    [
        (Overwrite.NEVER, "keep", "keep", "refuse", "keep"),
        (Overwrite.CHANGED, "keep", "overwrite", "overwrite", "refuse"),
        (Overwrite.ALWAYS, "overwrite", "overwrite", "overwrite", "refuse"),
    ],
)
def test_an_old_target_is_looked_at(bench, target, plan, give_back, overwrite, same, changed, folder, file_for_folder):
    """What is there decides, and a folder's place that is taken decides about all below it."""
    write_plain_kinds(bench.root)
    write_tree(bench.root, {"plain": b"1"})
    bench.back_up()
    give_back()
    there = landed(target, bench.root)
    os.chmod(there / "docs" / "deep", 0o755)
    (there / "docs" / "deep" / "er" / "empty").unlink()
    (there / "docs" / "deep" / "er").rmdir()
    (there / "docs" / "deep" / "er").symlink_to("/")
    (there / "docs" / "002.txt").unlink()
    (there / "large").write_bytes(b"other")
    (there / "link").unlink()
    (there / "link").symlink_to("elsewhere")
    (there / "plain").unlink()
    (there / "plain").mkdir()
    before = names_below(target)
    found = {name: action for name, (_, action, _) in plan(overwrite=overwrite).items()}
    assert "create" == found["docs/002.txt"]
    assert (same, same, same) == (found["docs/001.txt"], found["dangling"], found["fifo"])
    assert (changed, changed) == (found["large"], found["link"])
    assert (folder, file_for_folder) == (found["docs/deep/er"], found["plain"])
    assert ("refuse" if overwrite is Overwrite.NEVER else "create") == found["docs/deep/er/empty"]
    assert "keep" == found["empty folder"]
    dry = give_back(dry_run=True, overwrite=overwrite)
    assert list(found.values()).count("refuse") == dry.failures_count
    assert before == names_below(target)


def test_a_socket_is_refused_and_warned_of(bench, plan, give_back):
    """It is listed, and of the result it is a warning as it is of a restore."""
    write_socket(bench.root / "sock")
    bench.back_up()
    assert {"sock": (Kind.SOCKET, "refuse", 0)} == plan()
    dry = give_back(dry_run=True)
    assert (["socket"], 0, 3) == ([warning.code for warning in dry.warnings], dry.failures_count, dry.exit_code)


def test_a_plan_is_of_what_is_wanted(bench, plan):
    """Paths and patterns narrow a plan as they narrow a restore."""
    write_tree(bench.root, {"a/x.py": b"1", "a/y.txt": b"2", "b/z.py": b"3"})
    bench.back_up()
    assert ["a/x.py"] == list(plan(paths=(os.fsencode(bench.root / "a"),), include=("*.py",)))


def test_mistakes_are_told_at_once(bench, target):
    """A wrong path or target is an error of the call, not of the first step of the iteration."""
    write_tree(bench.root, {"a": b"1"})
    bench.back_up()
    repo = bench.reopen()
    with pytest.raises(PathNotInSnapshotError):
        plan_restore(repo, repo.resolve("latest"), target, RestoreOptions(paths=(b"nowhere",)))
    write_tree(target, {"x": b"1"})
    with pytest.raises(RestoreTargetError):
        plan_restore(repo, repo.resolve("latest"), target, RestoreOptions())


def test_a_plan_gives_back_what_it_opened(bench, target, plan, give_back):
    """Descriptors are closed, also when nobody reads the plan to its end."""
    write_plain_kinds(bench.root)
    bench.back_up()
    give_back()
    before = len(os.listdir("/proc/self/fd"))
    repo = bench.reopen()
    entries = plan_restore(repo, repo.resolve("latest"), target, RestoreOptions(overwrite=Overwrite.CHANGED))
    next(entries)
    entries.close()
    assert before == len(os.listdir("/proc/self/fd"))
    assert stat.S_ISDIR(os.lstat(target).st_mode)
