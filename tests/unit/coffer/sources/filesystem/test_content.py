"""Reading files and attributes: ranges of data, holes, and what the system answers."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from coffer.sources.assembly.result import WarningLog
from coffer.sources.filesystem import content
from coffer.sources.filesystem.content import data_ranges, has_holes, read_special, read_xattrs
from coffer.sources.filesystem.folder import VanishedError

ENDLESS = 1 << 62


@pytest.fixture
def opened(tmp_path):
    fds = []

    def make(size, *data_at):
        path = tmp_path / "file"
        with path.open("wb") as file:
            for at in data_at:
                file.seek(at)
                file.write(b"d" * 4096)
            file.truncate(size)
        fds.append(os.open(path, os.O_RDWR))
        return fds[-1], os.fstat(fds[-1])

    yield make
    for fd in fds:
        os.close(fd)


class TestRanges:
    @pytest.mark.parametrize(
        ("size", "data_at", "expected"),
        [
            (4096, [0], [(0, ENDLESS)]),
            (1 << 20, [], []),
            (1 << 20, [0], [(0, 4096)]),
            (1 << 20, [65536, 131072], [(65536, 69632), (131072, 135168)]),
            ((1 << 20) + 4096, [1 << 20], [(1 << 20, (1 << 20) + 4096)]),
        ],
    )
    def test_data_ranges_are_what_the_file_system_says(self, opened, size, data_at, expected):
        """In rising order; a file without holes is one range without an end, so that growth is read."""
        fd, status = opened(size, *data_at)
        assert expected == list(data_ranges(fd, status))
        assert (expected != [(0, ENDLESS)]) == has_holes(fd, size)

    def test_a_file_system_that_knows_no_holes_has_one_range(self, opened, monkeypatch):
        """It refuses the question: everything is data."""
        fd, status = opened(1 << 20, 0)

        def lseek(*_):
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(os, "lseek", lseek)
        assert not has_holes(fd, 1 << 20)
        assert [(0, ENDLESS)] == list(data_ranges(fd, status))

    def test_a_compressed_file_is_no_sparse_one(self, opened, monkeypatch):
        """It takes less room than its size and has no hole: one range (btrfs, ZFS)."""
        fd, status = opened(1 << 20, 0)
        monkeypatch.setattr(os, "lseek", lambda fd, at, how: 1 << 20)
        assert [(0, ENDLESS)] == list(data_ranges(fd, status))


class TestAttributes:
    def test_attributes_are_sorted_and_whole(self, tmp_path):
        """By descriptor and by path alike."""
        path = tmp_path / "file"
        path.touch()
        for name in ("user.b", "user.a"):
            os.setxattr(path, name, name.encode())
        expected = ((b"user.a", b"user.a"), (b"user.b", b"user.b"))
        warnings = WarningLog()
        assert expected == read_xattrs(os.fsencode(path), os.fsencode(path), warnings)
        with path.open("rb") as file:
            assert expected == read_xattrs(file.fileno(), os.fsencode(path), warnings)
        assert 0 == warnings.total

    def test_attributes_of_a_link_are_its_own(self, tmp_path):
        """The target's are not taken for them."""
        (tmp_path / "file").touch()
        os.setxattr(tmp_path / "file", "user.a", b"v")
        (tmp_path / "link").symlink_to("file")
        path = os.fsencode(tmp_path / "link")
        assert () == read_xattrs(path, path, WarningLog())

    def test_more_attributes_than_an_entry_can_have_are_a_warning(self, tmp_path, monkeypatch):
        """Some file systems take more than a chunk does: the file is saved with as many as fit."""
        (tmp_path / "file").touch()
        path = os.fsencode(tmp_path / "file")
        monkeypatch.setattr(os, "listxattr", lambda *_, **__: [f"user.{n:03}" for n in range(300)])
        monkeypatch.setattr(os, "getxattr", lambda *_, **__: bytes(64_000))
        warnings = WarningLog()
        pairs = read_xattrs(path, path, warnings)
        assert 131 == len(pairs)
        assert [(path, "xattr")] == [(w.path, w.code) for w in warnings.kept]
        assert "more than 8388608 bytes, saved without 'user.131'" in warnings.kept[0].message

    @pytest.mark.parametrize("call", ["listxattr", "getxattr"])
    def test_a_file_that_is_gone_has_vanished(self, tmp_path, monkeypatch, call):
        """That is no failure of an attribute: whoever asked drops the entry."""
        path = os.fsencode(tmp_path / "file")
        (tmp_path / "file").touch()
        os.setxattr(path, "user.a", b"v")

        def gone(*_, **__):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

        monkeypatch.setattr(os, call, gone)
        with pytest.raises(FileNotFoundError):
            read_xattrs(path, path, WarningLog())


def test_a_reading_never_waits_and_never_follows():
    """The flags of every opening: no fifo is waited for, no link followed, no descriptor inherited."""
    for flag in (os.O_NONBLOCK, os.O_NOFOLLOW, os.O_CLOEXEC):
        assert content._FLAGS & flag
    assert content._FLAGS & os.O_ACCMODE == os.O_RDONLY


class TestSpecial:
    """What is read of links and devices, and what it means where another file stands there by then."""

    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to("file")
        fd = os.open(tmp_path, os.O_RDONLY)
        yield fd
        os.close(fd)

    @pytest.mark.parametrize(
        ("name", "kind", "expected"),
        [(b"link", stat.S_IFLNK, (0, b"file")), (b"file", stat.S_IFIFO, (0, b"")), (b"file", stat.S_IFSOCK, (0, b""))],
    )
    def test_a_link_has_a_target_and_others_have_nothing(self, folder, name, kind, expected):
        """A fifo or socket is not even looked at."""
        assert expected == read_special(folder, name, kind)

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK])
    def test_another_kind_of_file_in_its_place_is_no_entry(self, folder, kind):
        """A regular file stands where a link or a device was listed."""
        with pytest.raises(VanishedError, match=r"another kind of file took its place"):
            read_special(folder, b"file", kind)

    def test_a_link_that_is_gone_is_not_another_kind(self, folder):
        """The caller tells the two apart."""
        with pytest.raises(FileNotFoundError):
            read_special(folder, b"nothing", stat.S_IFLNK)
