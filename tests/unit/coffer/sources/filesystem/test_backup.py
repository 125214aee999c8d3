"""A backup of a file tree holds every kind of file, with everything that is to come back."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from coffer.chunking.cutter import ChunkParams
from coffer.progress import Progress
from coffer.sources.assembly.extents import MAX_DIRECT_EXTENTS
from coffer.sources.filesystem import BackupOptions, FilesystemSource, backup
from tests.harness.backups import Workbench, needs_root, write_tree

# user::rwx, user:1234:r--, group::r-x, mask::r-x, other::--- as the kernel has it (linux/posix_acl_xattr.h)
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, who)
    for tag, permissions, who in [
        (0x01, 7, 0xFFFFFFFF),
        (0x02, 4, 1234),
        (0x04, 5, 0xFFFFFFFF),
        (0x10, 5, 0xFFFFFFFF),
        (0x20, 0, 0xFFFFFFFF),
    ]
)
# cap_net_bind_service+ep, revision 2 (linux/capability.h)
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


class TestKinds:
    def test_files_of_every_size_come_back(self, bench):
        """Empty, bundled, at the border of bundling, cut in pieces: every content is saved byte for byte."""
        edge = bench.repo.settings.chunking.bundle_below_bytes
        sizes = [0, 1, 2, edge - 1, edge, edge + 1, 4096, 4097, 60_000]
        write_tree(bench.root, {f"{size}": os.urandom(size) for size in sizes})
        result = bench.back_up()
        bench.assert_saved(result)
        assert (len(sizes), sum(sizes), 0) == (
            result.stats["files"],
            result.stats["size_bytes"],
            result.exit_code,
        )

    def test_folders_come_back_with_their_attributes(self, bench):
        """Nested and empty folders, modes and times; the folders above the source too."""
        (bench.root / "a" / "b").mkdir(parents=True)
        (bench.root / "a" / "empty").mkdir(mode=0o1700)
        os.utime(bench.root / "a" / "empty", ns=(1, 981_173_106_123_456_789))
        result = bench.back_up()
        bench.assert_saved(result)
        above = {entry.path for entry in bench.repo.manifest(result.snapshot).entries()}
        assert {os.fsencode(folder).strip(b"/") for folder in [bench.root, *bench.root.parents]} - {b""} <= above

    def test_symbolic_links_are_saved_and_not_followed(self, bench):
        """A link to a file, to a folder, to nothing, to itself, with a target that is no UTF-8, and a long one."""
        write_tree(bench.root, {"folder/file": b"x"})
        targets = [b"folder/file", b"folder", b"nothing", b"loop", b"\xff\xfe", b"t" * 4000]
        for number, target in enumerate(targets):
            os.symlink(target, os.path.join(os.fsencode(bench.root), b"loop" if target == b"loop" else b"%d" % number))
        result = bench.back_up()
        bench.assert_saved(result)
        assert len(targets) == result.stats["others"]

    def test_hard_links_are_read_once(self, bench):
        """Names of one file share its content and its identity; only the first is read."""
        write_tree(bench.root, {"a/first": os.urandom(50_000), "small": b"s" * 100, "empty": b""})
        (bench.root / "b").mkdir()
        for number in range(5):
            os.link(bench.root / "a" / "first", bench.root / "b" / f"link{number}")
        os.link(bench.root / "small", bench.root / "small too")
        os.link(bench.root / "empty", bench.root / "empty too")
        result = bench.back_up()
        bench.assert_saved(result)
        assert 50_100 == result.stats["read_bytes"]
        assert 6 * 50_000 + 200 == result.stats["size_bytes"]

    def test_very_many_hard_links_are_read_once_each(self, bench):
        """Three thousand names of ten files: thirty thousand entries, ten readings."""
        write_tree(bench.root, {f"f{number}": bytes([number]) * 1000 for number in range(10)})
        for number in range(10):
            (bench.root / f"d{number}").mkdir()
            for name in range(300):
                os.link(bench.root / f"f{number}", bench.root / f"d{number}" / f"{name}")
        result = bench.back_up()
        bench.assert_saved(result)
        assert 10_000 == result.stats["read_bytes"]

    def test_fifos_and_sockets_are_saved_without_being_opened(self, bench):
        """Opening a fifo would wait for its writer; a socket cannot be opened at all."""
        os.mkfifo(bench.root / "fifo", 0o620)
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(bench.root)  # the name of a socket has 108 bytes at the most
            try:
                server.bind("socket")
            finally:
                os.chdir(here)
            result = bench.back_up()
        bench.assert_saved(result)
        assert 2 == result.stats["others"]

    @needs_root
    def test_device_nodes_keep_their_numbers(self, bench):
        """Character and block devices, with numbers of more than eight bits."""
        os.mknod(bench.root / "null", 0o020666, os.makedev(1, 3))
        os.mknod(bench.root / "disk", 0o060660, os.makedev(259, 70_000))
        result = bench.back_up()
        bench.assert_saved(result)
        saved = {state.rdev for state in bench.saved(result).values()}
        assert {0, os.makedev(1, 3), os.makedev(259, 70_000)} == saved

    @pytest.mark.parametrize(
        ("data_at", "size"),
        [
            ([], 1 << 20),  # nothing but a hole
            ([0], 1 << 20),  # a hole at the end
            ([(1 << 20) - 100], 1 << 20),  # a hole at the start
            ([0, 1 << 19, (1 << 20) - 100], 1 << 20),  # holes between
            ([1 << 40], (1 << 40) + 100),  # a terabyte of hole
            ([0], 20_000),  # small enough to be bundled under other parameters
        ],
    )
    def test_holes_stay_holes(self, bench, data_at, size):
        """A hole is saved as an extent without a chunk, and is not read."""
        path = bench.root / "sparse"
        with path.open("wb") as file:
            for offset in data_at:
                file.seek(offset)
                file.write(b"d" * 100)
            file.truncate(size)
        result = bench.back_up()
        entry = bench.repo.manifest(result.snapshot).find(os.fsencode(path).strip(b"/"))
        extents = list(bench.repo.manifest(result.snapshot).expand(entry.content))
        holes = [extent.length for extent in extents if extent.chunk_id is None]
        assert size == sum(extent.length for extent in extents)
        assert sum(holes) > size - 8192 * max(1, len(data_at))
        assert result.stats["read_bytes"] <= 8192 * len(data_at)
        if size < 1 << 30:
            bench.assert_saved(result)

    def test_a_small_sparse_file_keeps_its_holes_among_bundled_ones(self, tmp_path):
        """With the usual parameters, where files of 100 KiB are bundled, a sparse one among them is not."""
        bench = Workbench(tmp_path / "source", chunking=ChunkParams())
        write_tree(bench.root, {"a": b"a" * 90_000, "z": b"z" * 90_000})
        with (bench.root / "m").open("wb") as file:
            file.write(b"m" * 100)
            file.truncate(100_000)
        result = bench.back_up()
        bench.assert_saved(result)
        assert b"" != bench.saved(result)[os.fsencode(bench.root / "m").strip(b"/")].holes

    def test_a_file_of_very_many_extents_gets_list_chunks(self, bench):
        """Beyond a thousand extents the entry names lists, so that a block stays small; expanding gives all back."""
        path = bench.root / "many"
        count = MAX_DIRECT_EXTENTS + 300
        with path.open("wb") as file:
            for number in range(count):
                file.seek(number * 16384)
                file.write(b"%d" % number)
        result = bench.back_up()
        entry = bench.repo.manifest(result.snapshot).find(os.fsencode(path).strip(b"/"))
        assert all(extent.indirect for extent in entry.content.extents)
        assert len(entry.content.extents) > 1
        bench.assert_saved(result)


class TestAttributes:
    def test_extended_attributes_come_back(self, bench):
        """Of files and folders: empty, binary and long values."""
        write_tree(bench.root, {"file": b"x"})
        for name in ("file", ""):
            os.setxattr(bench.root / name, "user.empty", b"")
            os.setxattr(bench.root / name, "user.binary", bytes(range(256)))
            os.setxattr(bench.root / name, "user.long", b"v" * 2000)
        bench.assert_saved(bench.back_up())

    def test_acls_come_back(self, bench):
        """POSIX ACLs are extended attributes: access on files, access and default on folders."""
        write_tree(bench.root, {"file": b"x"})
        (bench.root / "folder").mkdir()
        os.setxattr(bench.root / "file", "system.posix_acl_access", ACL)
        os.setxattr(bench.root / "folder", "system.posix_acl_access", ACL)
        os.setxattr(bench.root / "folder", "system.posix_acl_default", ACL)
        result = bench.back_up()
        bench.assert_saved(result)
        saved = bench.saved(result)[os.fsencode(bench.root / "folder").strip(b"/")]
        assert ((b"system.posix_acl_access", ACL), (b"system.posix_acl_default", ACL)) == saved.xattrs

    @needs_root
    def test_capabilities_come_back(self, bench):
        """security.capability, on files; trusted attributes, on symbolic links too."""
        write_tree(bench.root, {"program": b"x"})
        (bench.root / "link").symlink_to("program")
        os.setxattr(bench.root / "program", "security.capability", CAPABILITY)
        os.setxattr(bench.root / "link", "trusted.mark", b"on the link", follow_symlinks=False)
        result = bench.back_up()
        bench.assert_saved(result)
        saved = bench.saved(result)
        assert ((b"security.capability", CAPABILITY),) == saved[os.fsencode(bench.root / "program").strip(b"/")].xattrs
        assert ((b"trusted.mark", b"on the link"),) == saved[os.fsencode(bench.root / "link").strip(b"/")].xattrs

    @needs_root
    def test_owners_and_setuid_bits_come_back(self, bench):
        """Numeric owners up to the largest, setuid, setgid and sticky bits."""
        write_tree(bench.root, {"a": b"1", "b": b"2", "c": b"3"})
        for name, owner, mode in [("a", 0, 0o4755), ("b", 4_294_967_294, 0o2711), ("c", 1000, 0o1000)]:
            os.chown(bench.root / name, owner, owner)
            os.chmod(bench.root / name, mode)
        bench.assert_saved(bench.back_up())

    @pytest.mark.parametrize("mtime_ns", [0, -1, -5_000_000_001, 1, 2**31 * 10**9, 2**33 * 10**9 + 999_999_999])
    def test_times_come_back_to_the_nanosecond(self, bench, mtime_ns):
        """Before 1970, beyond 2038, and with every digit."""
        write_tree(bench.root, {"file": b"x", "now": b"y"})
        os.utime(bench.root / "file", ns=(0, mtime_ns))
        assert mtime_ns == os.stat(bench.root / "file").st_mtime_ns
        bench.assert_saved(bench.back_up())

    def test_a_time_beyond_64_bits_does_not_end_the_run(self, bench):
        """Anybody can give a file the latest time its file system knows; others beside it keep theirs."""
        write_tree(bench.root, {"early": b"x", "late": b"y"})
        os.utime(bench.root / "early", ns=(0, -1))
        os.utime(bench.root / "late", ns=(0, 99_999_999_999_999 * 10**9))
        bench.assert_saved(bench.back_up())
        bench.assert_saved(bench.back_up())


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            b"\xff\xfe\x80",
            b"new\nline",
            b"tab\tquote\"'\\",
            b"n" * 255,
            b"-rf",
            b" ",
            b"*",
            "é".encode(),
            b"\x01\x1b[31m",
        ],
    )
    def test_any_name_that_the_system_allows_is_saved(self, bench, name):
        """Names are bytes: of a file, of a folder, and of a file in it."""
        folder = os.path.join(os.fsencode(bench.root), name)
        os.mkdir(folder)
        for path in (os.path.join(folder, name), os.path.join(os.fsencode(bench.root), b"f" + name[:254])):
            with open(path, "wb") as file:
                file.write(name)
        bench.assert_saved(bench.back_up())

    def test_names_sort_by_their_bytes(self, bench):
        """A file beside a folder of the same beginning, and characters below the slash, do not upset the order."""
        write_tree(bench.root, {"a/x": b"1", "a!": b"2", "a.b/x": b"3", "a0": b"4", "a/x!/y": b"5", "ab/x": b"6"})
        result = bench.back_up()
        bench.assert_saved(result)
        second = bench.back_up()
        bench.assert_saved(second)
        assert 6 == second.stats["files_unchanged"]

    def test_a_path_longer_than_the_system_takes_is_a_warning(self, bench):
        """Below 4096 bytes all is saved; the folder beyond is named in a warning, and the run goes on."""
        here = os.getcwd()
        os.chdir(bench.root)
        try:
            for _ in range(30):
                os.mkdir("d" * 200)
                os.chdir("d" * 200)
                Path("file").write_bytes(b"x")
        finally:
            os.chdir(here)
        try:
            result = bench.back_up()
        finally:
            subprocess.run(["rm", "-r", bench.root / ("d" * 200)], check=True)  # pytest cannot remove such paths
        (warning,) = result.warnings
        assert ("unreadable", 3) == (warning.code, result.exit_code)
        assert len(warning.path) > 4096
        depth = 4096 // 201 - len(os.fsencode(bench.root)) // 201
        assert depth - 2 <= result.stats["files"] <= depth + 1

    @pytest.mark.parametrize("name", ["", "ä/../b", "with space", "n" * 5000, "\0", "x\ny", "latest:a@b"])
    def test_any_text_names_a_source(self, bench, name):
        """A source's name never becomes part of a path; its snapshots are found by it."""
        write_tree(bench.root, {"file": b"x"})
        bench.change_source(name=name)
        result = bench.back_up()
        assert name == bench.reopen().newest(name).source
        bench.assert_saved(result)


class TestSeveral:
    def test_sources_share_a_repository_and_its_chunks(self, bench, tmp_path):
        """Each has its own chain; what both hold is stored once."""
        data = os.urandom(20_000)
        write_tree(bench.root, {"file": data})
        write_tree(tmp_path / "other", {"elsewhere": data})
        first = bench.back_up()
        second = backup(bench.repo, FilesystemSource("other", (tmp_path / "other",)))
        assert 20_000 <= first.stats["raw_bytes_new"]
        assert second.stats["raw_bytes_new"] < 5_000
        assert (1, "", 1, "") == (
            first.snapshot.sequence,
            first.snapshot.parent_id,
            second.snapshot.sequence,
            second.snapshot.parent_id,
        )
        bench.assert_saved(first)

    def test_a_snapshot_says_where_it_came_from(self, bench):
        """Host, tags, paths, parent, and counts that add up."""
        write_tree(bench.root, {"a": b"1", "folder/b": b"22"})
        (bench.root / "link").symlink_to("a")
        bench.change_source(tags=("nightly", "ü"))
        first = bench.back_up(host="elsewhere")
        (bench.root / "a").write_bytes(b"111")
        second = bench.back_up()
        assert ("elsewhere", ("nightly", "ü"), (str(bench.root),)) == (
            first.snapshot.host,
            first.snapshot.tags,
            first.snapshot.paths,
        )
        assert (first.snapshot.id, 1, first.snapshot.sha256) == (
            second.snapshot.parent_id,
            second.snapshot.previous_sequence,
            second.snapshot.previous_sha256,
        )
        assert socket.gethostname() == second.snapshot.host
        stats = second.stats
        assert (0, 1, 1, 2) == tuple(stats[k] for k in ("files_new", "files_changed", "files_unchanged", "files"))
        assert stats["files"] + stats["directories"] + stats["others"] == stats["entries"]
        assert stats["entries"] == bench.repo.manifest(second.snapshot).root.entry_count
        assert stats["size_bytes"] == bench.repo.manifest(second.snapshot).root.size_bytes

    def test_progress_counts_files_and_bytes(self, bench):
        """At the end it shows all that there was; the second run knows beforehand how much there will be."""
        write_tree(bench.root, {"small": b"s" * 10, "large": os.urandom(9000)})
        os.link(bench.root / "large", bench.root / "large too")
        totals = []
        for _ in range(2):
            progress = Progress()
            result = backup(bench.repo, bench.source, options=BackupOptions(workers=1), progress=progress)
            assert ("committing", result.stats["entries"], 18_010) == (
                progress.phase,
                progress.files_done,
                progress.bytes_done,
            )
            totals.append((progress.files_total, progress.bytes_total))
        assert [(0, 0), (3, 18_010)] == totals
