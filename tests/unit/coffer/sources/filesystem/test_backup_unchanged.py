"""What did not change is not read; what only moved, or was only touched, is not stored again."""

from __future__ import annotations

import os
import random
import shutil

import pytest

from coffer.ids import pack_name
from coffer.repository.manifest import NO_FINGERPRINT
from coffer.repository.pack import TYPE_DATA
from coffer.sources.assembly import blockcut
from coffer.sources.filesystem import walk
from tests.harness.backups import Workbench, write_tree
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.syscalls import FileCalls, scripted

READING = ("open", "read", "pread", "preadv", "listxattr", "getxattr", "readlink")  # folders that are listed aside


def data_bytes(bench):
    """How much of files' content the store holds, each chunk once [bytes before compression]."""
    return bench.reopen().index().totals()[TYPE_DATA][1]


def reads_of(bench, **options):
    """Back up; return (result, names of the calls that read anything of the source)."""
    with scripted(FileCalls(), READING) as calls:
        result = bench.back_up(**options)
    return result, calls.made


def tree_of(bench, files=60, seed=1, **options):
    """Small and large files, a link, attributes, in three folders; return what is stored of it [bytes]."""
    draw = random.Random(seed)
    write_tree(bench.root, {f"d{n % 3}/f{n:03}": draw.randbytes(50 + 61 * n % 900) for n in range(files)})
    write_tree(bench.root, {f"large/{n}": draw.randbytes(9000) for n in range(3)})
    (bench.root / "link").symlink_to("d0")
    os.setxattr(bench.root / "d0", "user.mark", b"m")
    return bench.back_up(**options).stats["raw_bytes_new"]


class TestNotRead:
    def test_nothing_is_opened_when_nothing_changed(self, bench):
        """Neither files nor links nor attributes are read; nothing is stored but the snapshot."""
        tree_of(bench)
        before = bench.stored_names()
        result, calls = reads_of(bench)
        assert [] == calls
        assert (0, 0, 0, 63) == tuple(
            result.stats[key] for key in ("read_bytes", "chunks_new", "files_changed", "files_unchanged")
        )
        assert {result.snapshot.name} == set(bench.stored_names()) - set(before)
        bench.assert_saved(result)

    def test_one_changed_file_is_the_only_one_opened(self, bench):
        """Its neighbours in the same block are taken over as they were."""
        tree_of(bench)
        (bench.root / "d1" / "f001").write_bytes(b"changed")
        result, calls = reads_of(bench)
        assert (1, 7) == (calls.count("open"), result.stats["read_bytes"])
        assert (1, 62) == (result.stats["files_changed"], result.stats["files_unchanged"])
        bench.assert_saved(result)

    @pytest.mark.parametrize("what", ["mode", "owner", "xattr", "mtime", "size", "inode", "link count"])
    def test_any_attribute_that_changed_is_saved(self, bench, what):
        """Each of them changes the ctime, and so the row that is compared."""
        tree_of(bench)
        path = bench.root / "d1" / "f001"
        if what == "mode":
            path.chmod(0o600 if path.stat().st_mode & 0o77 else 0o640)
        elif what == "owner":
            os.chown(path, -1, 1234 if os.geteuid() == 0 else os.getegid())
        elif what == "xattr":
            os.setxattr(path, "user.new", b"v")
        elif what == "mtime":
            os.utime(path, ns=(0, 1_000_000_007))
        elif what == "size":
            with path.open("ab") as file:
                file.write(b"more")
        elif what == "inode":
            shutil.copy2(path, bench.root / "copy")
            (bench.root / "copy").replace(path)
        else:
            os.link(path, bench.root / "another name")
        bench.assert_saved(bench.back_up())

    def test_a_file_changed_under_its_old_time_is_noticed(self, bench):
        """Size and mtime are as before (touch -r), the content is not: the ctime tells."""
        tree_of(bench)
        path = bench.root / "d1" / "f001"
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        result = bench.back_up()
        assert 1 == result.stats["files_changed"]
        bench.assert_saved(result)

    def test_files_come_go_and_change_their_kind(self, bench):
        """A file where a folder was, a folder where a file was, a link where a file was; others gone, others new."""
        tree_of(bench)
        shutil.rmtree(bench.root / "d1")
        (bench.root / "d1").write_bytes(b"a file now")
        (bench.root / "large" / "0").unlink()
        (bench.root / "large" / "0").mkdir()
        (bench.root / "large" / "1").unlink()
        (bench.root / "large" / "1").symlink_to("2")
        write_tree(bench.root, {"a new one": b"n"})
        bench.assert_saved(bench.back_up())
        bench.assert_saved(bench.back_up())

    def test_force_read_reads_everything_and_stores_nothing_new(self, bench):
        """Whatever the parent says; the chunks that come of it are the ones that are there."""
        tree_of(bench)
        result, calls = reads_of(bench, force_read=True)
        assert 63 == calls.count("open")
        assert result.stats["size_bytes"] == result.stats["read_bytes"]
        assert result.stats["raw_bytes_new"] < 3000
        bench.assert_saved(result)

    def test_each_source_compares_with_its_own_last_snapshot(self, bench):
        """Another source of the same files is read in full, and stores none of them."""
        stored = tree_of(bench)
        bench.change_source(name="another")
        result = bench.back_up()
        assert 63 == result.stats["files_new"]
        assert result.stats["raw_bytes_new"] < stored / 10


class TestRacyFiles:
    """A file that changed within two seconds before it was read may change again under the same time stamps."""

    def test_a_file_changed_just_before_the_reading_is_read_again(self, bench):
        """By the next run, once; the run after that takes it for granted."""
        tree_of(bench)
        write_tree(bench.root, {"fresh": b"first state"})
        changed_ns = (bench.root / "fresh").stat().st_ctime_ns
        bench.clock.set_wall(changed_ns + 500_000_000)
        result = bench.back_up()
        bench.assert_saved(result)
        bench.clock.set_wall(changed_ns + 3_600_000_000_000)
        second, calls = reads_of(bench)
        assert "open" in calls
        assert second.stats["read_bytes"] >= len(b"first state")
        bench.assert_saved(second)
        third, calls = reads_of(bench)
        assert [] == calls
        bench.assert_saved(third)

    def test_a_change_that_no_time_stamp_shows_is_saved_all_the_same(self, bench, monkeypatch):
        """Content changed after the reading, all stat fields equal: only the mark of the run before gives it away."""
        write_tree(bench.root, {"fresh": b"first state"})
        status = (bench.root / "fresh").stat()
        bench.clock.set_wall(status.st_ctime_ns + 1_000_000)
        bench.back_up()
        (bench.root / "fresh").write_bytes(b"other state")
        make_row = walk.make_row

        def coarse(found):
            row = make_row(found)
            return (*row[:7], status.st_mtime_ns, status.st_ctime_ns) if row[4] == status.st_ino else row

        monkeypatch.setattr(walk, "make_row", coarse)
        bench.clock.set_wall(status.st_ctime_ns + 3_600_000_000_000)
        result = bench.back_up()
        content = bench.saved(result)[os.fsencode(bench.root / "fresh").strip(b"/")].content
        assert b"other state" == content

    @pytest.mark.parametrize("changed", [None, "small", "large", "mode", "xattr"])
    def test_a_file_that_is_read_again_counts_as_changed_only_if_it_is_not_the_same(self, bench, changed):
        """Content, attributes and times as before: unchanged, whatever the size; the mark of the run before is none."""
        large = random.Random(5).randbytes(90_000)
        write_tree(bench.root, {"empty": b"", "small": b"first state", "large": large})
        paths = [bench.root / name for name in ("empty", "small", "large")]
        bench.clock.set_wall(max(path.stat().st_ctime_ns for path in paths) + 1_000_000)
        bench.back_up()
        times = {path: (path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in paths}
        if changed == "small":
            paths[1].write_bytes(b"other state")
        elif changed == "large":
            paths[2].write_bytes(large[:60_000] + bytes(10) + large[60_010:])
        elif changed == "mode":
            paths[0].chmod(0o600 if paths[0].stat().st_mode & 0o077 else 0o644)
        elif changed == "xattr":
            os.setxattr(paths[2], "user.note", b"new")
        for path in paths:
            os.utime(path, ns=times[path])
        bench.clock.set_wall(max(path.stat().st_ctime_ns for path in paths) + 3_600_000_000_000)
        result = bench.back_up()
        assert len(b"first state") + len(large) == result.stats["read_bytes"]
        expected = (0, 3) if changed is None else (1, 2)
        assert expected == (result.stats["files_changed"], result.stats["files_unchanged"])
        assert 3 == result.stats["files"]
        bench.assert_saved(result)

    def test_files_older_than_two_seconds_are_not_racy(self, bench):
        """The mark costs a reading: it is not set without need."""
        write_tree(bench.root, {"file": b"x"})
        bench.clock.set_wall((bench.root / "file").stat().st_ctime_ns + 2_000_000_001 - 1_000_000_000)
        result = bench.back_up()  # a second later
        entry = bench.repo.manifest(result.snapshot).find(os.fsencode(bench.root / "file").strip(b"/"))
        assert (bench.root / "file").stat().st_ctime_ns == entry.ctime_ns


class TestNotStored:
    def test_touching_every_file_stores_times_only(self, bench):
        """All are read, none is stored; the sections of names and of contents stay as they are."""
        tree_of(bench)
        for path in bench.root.rglob("f*"):
            os.utime(path, ns=(0, 1_600_000_000_000_000_000))
        result = bench.back_up()
        bench.assert_saved(result)
        assert (60, 2) == (result.stats["files_changed"], result.stats["chunks_new"])  # times, and the root
        assert result.stats["raw_bytes_new"] < 2500

    def test_moved_files_store_no_data(self, bench):
        """Files moved one by one into new places, in another order."""
        tree_of(bench)
        paths = sorted(bench.root.rglob("f*"))
        (bench.root / "elsewhere").mkdir()
        for number, path in enumerate(reversed(paths)):
            path.rename(bench.root / "elsewhere" / f"{number:03}")
        before = data_bytes(bench)
        result = bench.back_up()
        bench.assert_saved(result)
        assert (60, before) == (result.stats["files_new"], data_bytes(bench))

    def test_a_copied_folder_stores_no_data(self, bench):
        """Small files are found by their content ids, large ones by their chunks."""
        tree_of(bench)
        shutil.copytree(bench.root / "d0", bench.root / "copy of d0")
        shutil.copytree(bench.root / "large", bench.root / "copy of large")
        before = data_bytes(bench)
        result = bench.back_up()
        bench.assert_saved(result)
        assert (23, before) == (result.stats["files_new"], data_bytes(bench))

    def test_equal_files_of_one_run_are_stored_once(self, bench):
        """A hundred copies of one content, small and large."""
        draw = random.Random(5)
        small, large = draw.randbytes(800), draw.randbytes(20_000)
        write_tree(bench.root, {f"s{n}": small for n in range(100)} | {f"l{n}": large for n in range(20)})
        result = bench.back_up()
        bench.assert_saved(result)
        assert 20_800 == data_bytes(bench)

    def test_an_insertion_into_a_large_file_stores_little(self, bench):
        """Cut by content: chunks behind the insertion are the same."""
        draw = random.Random(6)
        data = draw.randbytes(200_000)
        write_tree(bench.root, {"large": data})
        bench.back_up()
        (bench.root / "large").write_bytes(data[:50_000] + b"inserted" + data[50_000:])
        before = data_bytes(bench)
        result = bench.back_up()
        bench.assert_saved(result)
        assert data_bytes(bench) - before < 20_000

    def test_a_change_elsewhere_leaves_a_block_as_it_is(self, bench, monkeypatch):
        """Of a thousand entries one changes: its block is stored anew, the others are taken over whole."""
        monkeypatch.setattr(blockcut, "MIN_ENTRIES", 64)
        monkeypatch.setattr(blockcut, "_MEAN_BEYOND", 64)
        write_tree(bench.root, {f"{n // 20:03}/{n % 20:03}": b"" for n in range(1000)})
        first = bench.back_up()
        (bench.root / "025" / "010").write_bytes(b"changed")
        second = bench.back_up()
        old = set(bench.repo.manifest(first.snapshot).root.blocks)
        new = set(bench.repo.manifest(second.snapshot).root.blocks)
        assert len(old) > 3
        assert 1 == len(new - old)
        bench.assert_saved(second)

    def test_a_block_with_a_racy_file_is_looked_at_again(self, bench):
        """Its fingerprint is left out, so that the next run compares entry by entry."""
        write_tree(bench.root, {"file": b"x"})
        bench.clock.set_wall((bench.root / "file").stat().st_ctime_ns)
        result = bench.back_up()
        assert [NO_FINGERPRINT] == [b.fingerprint for b in bench.repo.manifest(result.snapshot).root.blocks]


class TestDamagedStore:
    def test_chunks_of_a_lost_pack_are_stored_anew(self, tmp_path):
        """Unchanged files are read again where the store lost what they need; the new snapshot is whole."""
        bench = Workbench(tmp_path / "source", backend=TamperableMemoryBackend())
        with (bench.root / "many extents").open("wb") as file:
            for number in range(1100):
                file.seek(number * 8192)
                file.write(b"%d" % number)
        tree_of(bench, pack_size_bytes=8000)
        index = bench.repo.index()
        packs = sorted({where.pack_id for pack in index.pack_ids() for _, where in index.iter_pack(pack)})
        data = [p for p in packs if all(where.type == TYPE_DATA for _, where in index.iter_pack(p))]
        assert len(data) > 4
        for pack_id in data[::2]:
            bench.backend.delete(pack_name(pack_id))
        bench.repo = bench.reopen()
        result = bench.back_up()
        assert 0 < result.stats["files_unchanged"] < result.stats["files_changed"] + result.stats["files_unchanged"]
        bench.assert_saved(result)

    def test_a_file_whose_list_of_chunks_is_lost_is_read_anew(self, tmp_path):
        """The entry is there, and the list that says where its content lies is not."""
        bench = Workbench(tmp_path / "source", backend=TamperableMemoryBackend())
        with (bench.root / "many extents").open("wb") as file:
            for number in range(1100):
                file.seek(number * 8192)
                file.write(b"%d" % number)
        first = bench.back_up(pack_size_bytes=1)
        entry = bench.repo.manifest(first.snapshot).find(os.fsencode(bench.root / "many extents").strip(b"/"))
        bench.backend.delete(pack_name(bench.repo.index().find(entry.content.extents[0].chunk_id).pack_id))
        bench.repo = bench.reopen()
        result = bench.back_up()
        assert 1 == result.stats["files_changed"]
        bench.assert_saved(result)

    def test_a_damaged_manifest_is_as_good_as_none(self, tmp_path):
        """The root of the parent cannot be opened: every file is read, as if there had been no backup."""
        bench = Workbench(tmp_path / "source", backend=TamperableMemoryBackend())
        tree_of(bench)
        first = bench.repo.newest("tree")
        where = bench.repo.index().find(first.manifest_root)
        bench.backend.flip_bit(pack_name(where.pack_id), where.offset + 5)
        write_tree(bench.root, {"new": b"n"})
        bench.repo = bench.reopen()
        result = bench.back_up()
        assert (64, 0) == (result.stats["files_new"], result.stats["files_unchanged"])
        bench.assert_saved(result)

    def test_a_damaged_block_is_read_anew(self, tmp_path):
        """One section of the parent cannot be opened: its files are read, and their changes saved."""
        bench = Workbench(tmp_path / "source", backend=TamperableMemoryBackend())
        tree_of(bench)
        (block,) = bench.repo.manifest(bench.repo.newest("tree")).root.blocks
        where = bench.repo.index().find(block.times)
        bench.backend.flip_bit(pack_name(where.pack_id), where.offset + 5)
        write_tree(bench.root, {"new": b"n"})
        bench.repo = bench.reopen()
        result = bench.back_up()
        assert (64, 0) == (result.stats["files_new"], result.stats["files_unchanged"])
        bench.assert_saved(result)
