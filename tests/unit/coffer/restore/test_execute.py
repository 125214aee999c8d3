"""Restoring real trees: everything comes back, or the result says what did not and why."""

import os
import stat
from pathlib import Path

import pytest

from coffer.backends.local import LocalBackend
from coffer.backends.metering import MeteringBackend
from coffer.progress import Progress
from coffer.restore import RestoreOptions, restore
from tests.harness.backups import Workbench, folder_for_everybody, needs_root, unprivileged, write_tree
from tests.harness.restores import (
    assert_restored,
    landed,
    names_below,
    write_plain_kinds,
    write_root_kinds,
    write_socket,
)

CLEAN = {"failures_count": 0, "warnings_count": 0, "exit_code": 0}


def outcome(result):
    return {name: getattr(result, name) for name in CLEAN}


def test_every_kind_of_file_comes_back(bench, target, give_back):
    """Content, holes, modes, times, xattrs, links, hard links, fifos and odd names are as they were."""
    write_plain_kinds(bench.root)
    bench.back_up()
    result = give_back()
    assert CLEAN == outcome(result), (result.failures, result.warnings)
    assert_restored(bench.root, target)


@needs_root
def test_what_only_root_can_make_comes_back(bench, target, give_back):
    """Owners, devices, setuid bits, capabilities and ACLs are as they were."""
    write_plain_kinds(bench.root)
    write_root_kinds(bench.root)
    bench.back_up()
    result = give_back(verify=True)
    assert CLEAN == outcome(result), (result.failures, result.warnings)
    assert_restored(bench.root, target)
    assert 0o6751 == stat.S_IMODE(os.lstat(landed(target, bench.root) / "owned" / "setuid").st_mode)


def test_the_result_counts_what_was_done(bench, give_back):
    """Files, folders, links and sizes are those of the snapshot; holes are not written."""
    write_plain_kinds(bench.root)
    snapshot = bench.back_up().snapshot
    stats = give_back().stats
    above = len(bench.root.resolve().parents) - 1
    assert (above + 1 + 4, 3, 2, 1) == tuple(stats[name] for name in ("directories", "symlinks", "hardlinks", "others"))
    assert snapshot.stats["files"] == stats["files"] + stats["hardlinks"]
    assert snapshot.stats["size_bytes"] - 2 * 500 == stats["size_bytes"]
    assert stats["written_bytes"] < 200_000 < stats["size_bytes"]
    assert (0, 0) == (stats["kept"], stats["verified_files"])


def test_progress_tells_what_is_done(bench, give_back):
    """The counters end at the snapshot's own figures, and name the phase."""
    write_tree(bench.root, {f"f{n}": bytes([n]) * 700 for n in range(50)})
    snapshot = bench.back_up().snapshot
    progress = Progress()
    give_back(progress=progress)
    assert snapshot.stats["files"] == progress.files_total == progress.files_done
    assert snapshot.stats["size_bytes"] == progress.bytes_total == progress.bytes_done
    assert "restoring" == progress.phase


@pytest.mark.parametrize(
    ("options", "phases"),
    [({}, ["restoring"]), ({"durable": True}, ["flushing"]), ({"verify": True}, ["flushing", "verifying"])],
)
def test_a_restore_is_flushed_where_it_is_to_last(bench, give_back, monkeypatch, options, phases):
    """Who asks for durability or verification gets a flush of the disks, before anything is read back."""
    write_tree(bench.root, {"a": b"1"})
    bench.back_up()
    progress = Progress()
    seen = []
    monkeypatch.setattr("coffer.restore.execute.flush_file_systems", lambda _: seen.append(progress.phase))
    give_back(progress=progress, **options)
    assert phases == list(dict.fromkeys([*seen, progress.phase]))


def test_a_socket_is_a_warning(bench, target, give_back):
    """What exists only while a program listens is named and left out; the rest is restored."""
    write_tree(bench.root, {"a": b"1"})
    write_socket(bench.root / "sock")
    bench.back_up()
    result = give_back(verify=True)
    assert (3, ["socket"]) == (result.exit_code, [w.code for w in result.warnings])
    assert {"a"} == names_below(landed(target, bench.root))


def test_an_empty_snapshot_restores_to_an_empty_folder(bench, target, give_back):
    """The folder that was backed up comes back, though nothing is in it."""
    bench.back_up()
    assert CLEAN == outcome(give_back(verify=True))
    assert landed(target, bench.root).is_dir()


def test_the_target_and_what_is_above_it_are_made(bench, tmp_path, give_back):
    """A target that does not exist is made, closed to others."""
    write_tree(bench.root, {"a": b"1"})
    bench.back_up()
    target = tmp_path / "some" / "where"
    give_back(to=target)
    assert 0o700 == stat.S_IMODE(target.stat().st_mode)
    assert_restored(bench.root, target)


def test_an_empty_target_is_taken(bench, target, give_back):
    """An empty folder needs no word about overwriting, and keeps its mode."""
    write_plain_kinds(bench.root)
    bench.back_up()
    target.mkdir(mode=0o711)
    assert CLEAN == outcome(give_back())
    assert 0o711 == stat.S_IMODE(target.stat().st_mode)
    assert_restored(bench.root, target)


def test_large_files_with_chunk_lists_come_back(bench, target, give_back):
    """A file of more extents than a block takes has list chunks; several such files are open at a time."""
    for number in range(70):
        write_tree(bench.root, {f"many/{number}": os.urandom(5000)})
    write_tree(bench.root, {"listed": os.urandom(4_000_000)})
    bench.back_up()
    result = give_back(verify=True)
    assert CLEAN == outcome(result)
    assert 71 == result.stats["verified_files"]
    assert_restored(bench.root, target)


@pytest.mark.parametrize("workers", [1, 3])
def test_any_count_of_workers_restores_the_same(bench, target, give_back, workers):
    """One thread or several: the tree is the same."""
    write_plain_kinds(bench.root)
    bench.back_up()
    assert CLEAN == outcome(give_back(workers=workers))
    assert_restored(bench.root, target)


def test_a_target_with_inherited_acls_changes_no_file(bench, target, give_back):
    """A default ACL of the target is not handed on: files get the attributes of the snapshot and no others."""
    write_plain_kinds(bench.root)
    bench.back_up()
    target.mkdir()
    acl = bytes.fromhex("02000000 01000700ffffffff 04000500ffffffff 20000500ffffffff".replace(" ", ""))
    os.setxattr(target, "system.posix_acl_default", acl)
    os.chmod(target, 0o2755)
    assert CLEAN == outcome(give_back(verify=True))
    assert_restored(bench.root, target)


def test_one_small_file_reads_little_of_the_store(tmp_path):
    """A path costs its own chunk and a few blocks of the manifest, not the store."""
    bench = Workbench(tmp_path / "source", backend=LocalBackend(tmp_path / "store", create=True))
    write_tree(bench.root, {f"{n % 40}/{n}": os.urandom(900) for n in range(4000)})
    bench.back_up()
    metered = MeteringBackend(bench.backend)
    repo = bench.reopen(metered)
    repo.index()
    before = metered.total("get", "bytes")
    path = os.fsencode(bench.root / "7" / "47")
    options = RestoreOptions(paths=(path,), verify=True)
    result = restore(repo, repo.resolve("latest"), tmp_path / "target", options=options)
    assert (1, 0) == (result.stats["verified_files"], result.exit_code)
    assert 400_000 > metered.total("get", "bytes") - before
    assert result.stats["read_bytes"] < 10_000


@needs_root
def test_an_ordinary_user_restores_what_is_his(give_back):
    """Owners are one warning for all files, setuid bits of others go with them, devices are a warning each."""
    with folder_for_everybody() as top:
        bench = Workbench(top / "source")
        write_plain_kinds(bench.root)
        write_root_kinds(bench.root)
        os.chmod(bench.root, 0o755)
        bench.back_up()
        repo = bench.reopen()
        with unprivileged():
            result = restore(repo, repo.resolve("latest"), top / "target", options=RestoreOptions(verify=True))
        ignore = {"uid", "gid", "mode", "xattrs", "missing", "root"}
        assert_restored(bench.root, top / "target", ignore=ignore)
        codes = [warning.code for warning in result.warnings]
        assert (0, 3) == (result.failures_count, result.exit_code), result.failures
        assert (1, 2) == (codes.count("owner"), codes.count("device"))
        assert {b"setuid", b"003.txt"} == {os.path.basename(w.path) for w in result.warnings if w.code == "mode"}
        got = landed(top / "target", bench.root)
        assert 0o751 == stat.S_IMODE((got / "owned" / "setuid").stat().st_mode)
        assert 0o400 == stat.S_IMODE((got / "docs" / "002.txt").stat().st_mode)


def test_files_are_closed_to_others_until_their_attributes_are_set(bench, target, give_back, monkeypatch):
    """Every file and folder is made with a mode for its owner alone."""
    write_plain_kinds(bench.root)
    bench.back_up()
    made = []
    real_open, real_mkdir = os.open, os.mkdir

    def spy_open(path, flags, mode=0o777, **kwargs):
        if flags & os.O_CREAT:
            made.append((mode, bool(flags & os.O_EXCL), bool(flags & os.O_NOFOLLOW)))
        return real_open(path, flags, mode, **kwargs)

    def spy_mkdir(path, mode=0o777, **kwargs):
        if "dir_fd" in kwargs:
            made.append((mode, True, True))
        return real_mkdir(path, mode, **kwargs)

    monkeypatch.setattr(os, "open", spy_open)
    monkeypatch.setattr(os, "mkdir", spy_mkdir)
    give_back()
    assert {(0o600, True, True), (0o700, True, True)} == set(made)
    assert len(made) > 60


def test_nothing_is_left_open(bench, target, give_back):
    """Descriptors of folders and files are given back, also those of many folders."""
    for number in range(300):
        write_tree(bench.root, {f"{number}/file": os.urandom(800)})
    bench.back_up()
    before = len(os.listdir("/proc/self/fd"))
    give_back()
    assert before == len(os.listdir("/proc/self/fd"))
    assert_restored(bench.root, target)
    assert not [path for path in names_below(target) if Path(path).name.startswith(".coffer")]
