"""A delta: the folder becomes the snapshot, few pages are written, nothing outside of it is touched."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.errors import ObjectCorruptError, RestoreIncompleteError
from coffer.ids import pack_name
from coffer.restore.cluster import ClusterRestoreOptions, restore_cluster
from coffer.restore.selection import Selection
from tests.harness.clusters import SmallCluster
from tests.harness.memory_store import TamperableMemoryBackend

PAGE = 8192
LARGE = random.Random(5).randbytes(300 * PAGE)
FILES = {
    b"base/5/16384": LARGE,
    b"base/5/16384_fsm": b"f" * 3 * PAGE,
    b"base/5/pg_filenode.map": b"m" * 512,
    b"pg_xact": None,
    b"pg_xact/0000": b"x" * PAGE,
}


@pytest.fixture(params=[True, False], ids=["digests", "no digests"])
def restored(request, target):
    """A cluster that was restored; its snapshot has digests of pages, or has none."""
    made = SmallCluster(FILES, digests=request.param)
    made.restore(target)
    made.target = target
    return made


def delta(made, **options):
    """Restore it again over what is there; returns the counts."""
    return made.restore(made.target, delta=True, **options).stats


def must_be_whole(made):
    """Compare the tree with the snapshot, byte for byte; nothing else may be there."""
    own = {"recovery.signal", "backup_label", "postgresql.auto.conf"}
    found = {}
    for top, folders, names in os.walk(made.target):
        for name in (*folders, *names):
            path = os.path.relpath(os.path.join(top, name), made.target)
            if not path.startswith("pg_wal/") and path not in own:
                full = Path(top, name)
                found[os.fsencode(path)] = None if full.is_dir() else full.read_bytes()
    expected = {path: content for path, content in made.files.items() if os.fsdecode(path) not in own}
    expected = {path: content for path, content in expected.items() if not path.startswith(b"pg_wal/")}
    assert expected == found


def test_what_is_the_same_is_not_written(restored):
    """Every page is compared, none is written, nothing is removed but what the first restore added."""
    stats = delta(restored)
    assert (0, 0) == (stats["pages_written"], stats["written_bytes"])
    assert stats["pages_compared"] >= 300 + 3 + 5
    must_be_whole(restored)


@pytest.mark.parametrize("pages", [[0], [299], [5, 6, 7, 200], list(range(0, 300, 2)), list(range(300))])
def test_only_pages_that_differ_are_written(restored, pages):
    """One bit in each of them: these pages and no other."""
    path = restored.target / "base/5/16384"
    changed = bytearray(LARGE)
    for page in pages:
        changed[page * PAGE + 77] ^= 1
    path.write_bytes(changed)
    stats = delta(restored)
    assert (len(pages), len(pages) * PAGE) == (stats["pages_written"], stats["written_bytes"])
    must_be_whole(restored)


@pytest.mark.parametrize("size", [0, 100, PAGE * 12, PAGE * 300 - 1, PAGE * 300 + 1, PAGE * 500])
def test_a_file_of_another_size_gets_its_own_back(restored, size):
    """Longer ones are cut, shorter ones filled."""
    (restored.target / "base/5/16384").write_bytes(LARGE.ljust(size, b"z")[:size])
    delta(restored)
    must_be_whole(restored)


def test_what_is_missing_comes_back_and_what_is_too_much_goes(restored):
    """Files, folders, empty folders, and whole trees in the place of others."""
    target = restored.target
    (target / "base/5/16384").unlink()
    (target / "base/5/pg_filenode.map").write_bytes(b"n" * 512)
    os.rename(target / "pg_xact", target / "pg_old")
    (target / "base/99/deep/er").mkdir(parents=True)
    (target / "base/99/deep/er/file").write_text("x")
    (target / "pg_tblspc/left").write_text("x")
    (target / "base/5/1259").unlink()
    (target / "base/5/1259").mkdir()
    (target / "base/5/1259/file").write_text("x")
    (target / "standby.signal").write_text("")
    (target / "postmaster.pid").write_text("")
    stats = delta(restored)
    assert stats["files_removed"] >= 4
    must_be_whole(restored)


def test_links_are_removed_and_never_followed(restored, tmp_path):
    """For a file, a folder, or pg_wal itself: what they lead to stays as it is."""
    outside = tmp_path / "outside"
    (outside / "5").mkdir(parents=True)
    (outside / "5/16384").write_bytes(b"mine" * 4000)
    (outside / "file").write_bytes(b"mine")
    target = restored.target
    for name, link in (("pg_xact", outside), ("base/5/pg_filenode.map", outside / "file"), ("added", outside)):
        path = target / name
        if path.is_dir():
            os.rename(path, tmp_path / "away")
        elif path.exists():
            path.unlink()
        os.symlink(link, path)
    os.rename(target / "pg_wal", tmp_path / "wal away")
    os.symlink(tmp_path / "wal away", target / "pg_wal")
    before = sorted(os.listdir(tmp_path / "wal away"))
    delta(restored)
    must_be_whole(restored)
    assert not (target / "pg_wal").is_symlink()
    assert before == sorted(os.listdir(tmp_path / "wal away"))
    assert b"mine" * 4000 == (outside / "5/16384").read_bytes()
    assert b"mine" == (outside / "file").read_bytes()


def test_a_file_with_a_second_name_is_not_written_into(restored, tmp_path):
    """A copy by hard links is a backup that somebody keeps: it stays what it is."""
    path = restored.target / "base/5/16384"
    path.write_bytes(b"k" * len(LARGE))
    os.link(path, tmp_path / "kept")
    delta(restored)
    must_be_whole(restored)
    assert b"k" * len(LARGE) == (tmp_path / "kept").read_bytes()


def test_old_wal_does_not_stay(restored):
    """Segments of another history would be replayed."""
    stale = restored.target / "pg_wal/000000070000000000000009"
    stale.write_bytes(b"old")
    (restored.target / "pg_wal/00000007.history").write_text("1\t0/1000000\told\n")
    delta(restored)
    names = {path.name for path in (restored.target / "pg_wal").iterdir()}
    assert names == {
        f"{number:024X}" for number in (0x1_0000000000000001, 0x1_0000000000000002, 0x1_0000000000000003)
    } | {"archive_status"}


def test_modes_are_set_again(restored):
    """What others may read since is private again."""
    (restored.target / "base/5/16384").chmod(0o644)
    (restored.target / "base").chmod(0o755)
    restored.target.chmod(0o750)
    delta(restored)
    assert [0o600, 0o700, 0o700] == [
        (restored.target / name).stat().st_mode & 0o777 for name in ("base/5/16384", "base", ".")
    ]


def test_damage_costs_only_what_needs_it(target):
    """A page that is right already needs no chunk: the file is whole although its chunk is damaged."""
    backend = TamperableMemoryBackend()
    made = SmallCluster(FILES, digests=True, backend=backend)
    made.restore(target)
    made.target = target
    manifest = made.repo.manifest(made.snapshot)
    first = next(iter(manifest.expand(manifest.find(b"base/5/16384").content)))
    where = made.repo.reader().locate(first.chunk_id)
    backend.flip_bit(pack_name(where.pack_id), where.offset + 3)
    assert 0 == delta(made)["pages_written"]
    changed = bytearray(LARGE)
    changed[200 * PAGE] ^= 1  # in the second chunk
    (target / "base/5/16384").write_bytes(changed)
    assert 1 == delta(made)["pages_written"]
    changed[0] ^= 1
    (target / "base/5/16384").write_bytes(changed)
    with pytest.raises(RestoreIncompleteError, match="base/5/16384"):
        delta(made)
    assert not (target / "global/pg_control").exists()


def test_a_block_of_the_manifest_that_is_damaged_removes_nothing(target, monkeypatch):
    """What it names would be taken for too much: the files that are there are better than none."""
    made = SmallCluster(FILES)
    made.restore(target)
    (target / "mine").write_text("x")

    def damaged(_selection, _ordinal):
        raise ObjectCorruptError("planted")

    monkeypatch.setattr(Selection, "groups", damaged)
    with pytest.raises(RestoreIncompleteError, match="entries from here on cannot be read: planted"):
        made.restore(target, delta=True)
    assert (target / "mine").exists()
    assert LARGE == (target / "base/5/16384").read_bytes()
    assert not (target / "global/pg_control").exists()


def test_another_snapshot_of_the_cluster_takes_its_place(target):
    """From one moment to another, there and back."""
    made = SmallCluster(FILES, digests=True, backend=MemoryBackend())
    made.target = target
    first, files = made.snapshot, made.files
    draw = random.Random(6)
    other = bytearray(LARGE[: 250 * PAGE])
    for _ in range(20):
        other[draw.randrange(len(other))] ^= 255
    changed = {**files, b"base/5/16384": bytes(other), b"base/5/20000": b"n" * PAGE}
    del changed[b"base/5/16384_fsm"]
    made.keep(changed, digests=True)
    made.restore(target)
    made.files = changed
    must_be_whole(made)
    options = ClusterRestoreOptions(workers=2, durable=False, delta=True)
    restore_cluster(made.repo, made.plan(snapshot=first.id), target, options=options)
    made.files = files
    must_be_whole(made)
