"""Compare two file trees, byte for byte and attribute by attribute.

The judge of a restore must not share its eyes: this module knows nothing of repositories, and reads files by plain
system calls only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from coffer.verification.hardlinks import LinkGroups

MAX_DIFFERENCES_KEPT = 1000  # their count is exact; beyond this many only the count is kept, so memory stays bounded

ASPECTS = frozenset(
    {
        "root",
        "missing",
        "extra",
        "unreadable",
        "kind",
        "mode",
        "uid",
        "gid",
        "mtime_ns",
        "size",
        "content",
        "holes",
        "link_target",
        "xattrs",
        "rdev",
        "hardlinks",
    }
)

_READ_BYTES = 1024 * 1024
# A run of data may be longer by this in a copy: blocks of another file system are larger, and both ends are rounded.
_HOLE_SLACK_BYTES = 64 * 1024
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character-device",
    stat.S_IFBLK: "block-device",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One aspect in which one entry differs.

    Attributes:
        path: Relative to the roots, without leading slash; "." for the roots themselves.
        what: One of `ASPECTS`.
        expected, actual: For people; empty on the side that has nothing.
    """

    path: bytes
    what: str
    expected: str
    actual: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found.

    Attributes:
        differences: The first thousand, sorted by path component by component, a folder before what is in it.
        files: Regular files of the expected tree that were compared.
        entries: Entries of any kind of the expected tree, those that are missing included, the root not.
        size_bytes: Sum of the files' sizes [bytes].
        differences_count: How many differences there were, exactly.
    """

    differences: tuple[Difference, ...]
    files: int
    entries: int
    size_bytes: int
    differences_count: int

    @property
    def ok(self) -> bool:
        """Whether the trees are alike."""
        return not self.differences_count


def compare_trees(expected: Path, actual: Path, *, ignore: Collection[str] = ()) -> Comparison:
    """Compare two trees, or two single files; symbolic links are compared and never followed.

    Compared are: names, kind, mode, owner, group, mtime [ns] (folders' too), size and content, link target, extended
    attributes (POSIX ACLs and capabilities are among them), device numbers, which names are hard links of one file, and
    holes. Attributes of the roots themselves count unless `ignore` holds "root". Access and change times, inode numbers
    and the count of links are no part of what a copy can keep.

    Holes: where the expected file takes less room than its size, the actual file may hold at most 64 KiB more data per
    run of data (SEEK_DATA, SEEK_HOLE) than the expected one. More holes than expected are no difference: the content is
    the same.

    A folder that is missing, or one too many, is one difference whatever it holds. An entry that cannot be read is one
    of kind "unreadable", and the rest goes on. Memory: the names of the folders on one path, 4 MiB of content, and
    one record per file with several names until all of them were seen.

    Args:
        expected: The tree that is right.
        actual: The tree in question.
        ignore: Aspects that may differ, of `ASPECTS`.

    Raises:
        ValueError: `ignore` holds what is no aspect.
        OSError: A root does not exist or cannot be looked at.
    """
    unknown = set(ignore) - ASPECTS
    if unknown:
        raise ValueError(f"not an aspect of a file: {sorted(unknown)}")
    run = _Run(os.fsencode(expected), os.fsencode(actual), frozenset(ignore))
    run.execute()
    return Comparison(tuple(run.kept), run.files, run.entries, run.size_bytes, run.count)


class _Run:
    def __init__(self, expected: bytes, actual: bytes, ignore: frozenset[str]) -> None:
        self.expected, self.actual, self.ignore = expected, actual, ignore
        self.kept: list[Difference] = []
        self.count = self.files = self.entries = self.size_bytes = 0
        self._links = LinkGroups()

    def execute(self) -> None:
        status, other = os.stat(self.expected), os.stat(self.actual)
        folders = stat.S_ISDIR(status.st_mode) and stat.S_ISDIR(other.st_mode)
        if not folders:
            self.entries += 1
        if not (folders and "root" in self.ignore):
            self._compare_entry(b".", os.path.realpath(self.expected), os.path.realpath(self.actual), status, other)
        if not folders:
            return
        # Each level is a suspended iterator: as deep as the tree, never as wide as all of it.
        stack = [self._folder(b"")]
        while stack:
            child = next(stack[-1], None)
            if child is None:
                stack.pop()
            else:
                stack.append(self._folder(child))

    def _folder(self, folder: bytes) -> Iterator[bytes]:
        """Compare the entries of a folder in order; yield each subfolder that both trees have, right after itself."""
        there = self._names(self.expected, folder)
        here = self._names(self.actual, folder)
        if there is None or here is None:
            return
        for name in sorted(there | here):
            path = folder + b"/" + name if folder else name
            self.entries += name in there
            if name not in here:
                self._add(path, "missing", _describe(self._join(self.expected, path)), "")
            elif name not in there:
                self._add(path, "extra", "", _describe(self._join(self.actual, path)))
            elif self._compare_path(path):
                yield path

    def _names(self, root: bytes, folder: bytes) -> set[bytes] | None:
        try:
            return set(os.listdir(self._join(root, folder)))
        except OSError as error:
            self._unreadable(folder or b".", root, error)
            return None

    def _compare_path(self, path: bytes) -> bool:
        """Compare one entry; say whether it is a folder on both sides."""
        one, two = self._join(self.expected, path), self._join(self.actual, path)
        statuses = []
        for root, full in ((self.expected, one), (self.actual, two)):
            try:
                statuses.append(os.lstat(full))
            except OSError as error:
                self._unreadable(path, root, error)
                return False
        return self._compare_entry(path, one, two, *statuses)

    def _compare_entry(
        self, path: bytes, one: bytes, two: bytes, status: os.stat_result, other: os.stat_result
    ) -> bool:
        kind = stat.S_IFMT(status.st_mode)
        if kind != stat.S_IFMT(other.st_mode):
            self._add(path, "kind", _kind(status), _kind(other))
            return False
        self._differ(path, "mode", f"{status.st_mode & 0o7777:04o}", f"{other.st_mode & 0o7777:04o}")
        self._differ(path, "uid", status.st_uid, other.st_uid)
        self._differ(path, "gid", status.st_gid, other.st_gid)
        self._differ(path, "mtime_ns", status.st_mtime_ns, other.st_mtime_ns)
        first = kind == stat.S_IFDIR or self._first_met(path, status, other)
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            self._differ(path, "rdev", _device(status.st_rdev), _device(other.st_rdev))
        try:
            if kind == stat.S_IFLNK:
                self._differ(path, "link_target", *(_text(os.readlink(full)) for full in (one, two)))
            self._compare_xattrs(path, one, two)
            if kind == stat.S_IFREG:
                self.files += 1
                self.size_bytes += status.st_size
                if first:
                    self._compare_file(path, one, two, status, other)
        except OSError as error:  # a failed read names no file: then both sides are in doubt
            text = error.strerror or str(error)
            self._add(path, "unreadable", text * (error.filename != two), text * (error.filename != one))
        return kind == stat.S_IFDIR

    def _first_met(self, path: bytes, status: os.stat_result, other: os.stat_result) -> bool:
        """Say whether these two inodes are met for the first time: the content is read once only."""
        first, note = self._links.meet(status, other)
        if note is not None:
            self._add(path, "hardlinks", *note)
        return first

    def _compare_xattrs(self, path: bytes, one: bytes, two: bytes) -> None:
        if "xattrs" in self.ignore:
            return
        there, here = read_xattrs(one), read_xattrs(two)
        if there == here:
            return
        for name in sorted({*there, *here}):
            self._differ(path, "xattrs", _show_xattr(name, there.get(name)), _show_xattr(name, here.get(name)))

    # ----------------------------------------------------------------------------------------------- regular files

    def _compare_file(self, path: bytes, one: bytes, two: bytes, status: os.stat_result, other: os.stat_result) -> None:
        if status.st_size != other.st_size:
            self._differ(path, "size", status.st_size, other.st_size)
            return
        if "content" in self.ignore and "holes" in self.ignore:
            return
        fd = os.open(one, _OPEN)
        try:
            fd_other = os.open(two, _OPEN)
            try:
                sparse = status.st_blocks * 512 < status.st_size
                if "content" not in self.ignore:
                    self._compare_content(path, fd, fd_other, status.st_size, sparse=sparse)
                if sparse:
                    self._compare_holes(path, fd, fd_other, status.st_size)
            finally:
                os.close(fd_other)
        finally:
            os.close(fd)

    def _compare_content(self, path: bytes, fd: int, fd_other: int, size: int, *, sparse: bool) -> None:
        """Read both from start to end, past what is a hole on both sides; the first differing byte is named."""
        at = 0
        while at < size:
            if sparse:
                at = min(_next_data(fd, at, size), _next_data(fd_other, at, size))
                if at >= size:
                    return
            length = min(size - at, _READ_BYTES)
            one, two = os.pread(fd, length, at), os.pread(fd_other, length, at)
            if one != two or not one:
                place = _first_difference(one, two)
                there, here = (f"{view[place]:#04x}" if place < len(view) else "end" for view in (one, two))
                self._add(path, "content", f"byte {at + place}: {there}", f"byte {at + place}: {here}")
                return
            at += len(one)

    def _compare_holes(self, path: bytes, fd: int, fd_other: int, size: int) -> None:
        data_bytes, runs = _data(fd, size)
        other_bytes, _ = _data(fd_other, size)
        if other_bytes > data_bytes + (runs + 1) * _HOLE_SLACK_BYTES:
            self._add(path, "holes", f"{data_bytes} bytes of data", f"{other_bytes} bytes of data")

    # ----------------------------------------------------------------------------------------------- findings

    def _differ(self, path: bytes, what: str, expected: object, actual: object) -> None:
        if expected != actual:
            self._add(path, what, str(expected), str(actual))

    def _unreadable(self, path: bytes, root: bytes, error: OSError) -> None:
        text = error.strerror or str(error)
        self._add(path, "unreadable", *((text, "") if root == self.expected else ("", text)))

    def _add(self, path: bytes, what: str, expected: str, actual: str) -> None:
        if what in self.ignore:
            return
        self.count += 1
        if len(self.kept) < MAX_DIFFERENCES_KEPT:
            self.kept.append(Difference(path, what, expected, actual))

    @staticmethod
    def _join(root: bytes, path: bytes) -> bytes:
        return root.rstrip(b"/") + b"/" + path if path else root


def read_xattrs(path: bytes) -> dict[str, bytes]:
    """Return all extended attributes of a file, a link's own; none where the file system has no such thing."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            return {}
        raise
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


# ------------------------------------------------------------------------------------------------ reading


def _first_difference(one: bytes, two: bytes) -> int:
    """Return the index of the first byte that differs, or the shorter length; by halving, so in C."""
    first, stop = 0, min(len(one), len(two))
    if one[:stop] == two[:stop]:
        return stop
    while stop - first > 1:
        middle = (first + stop) // 2
        if one[first:middle] == two[first:middle]:
            first = middle
        else:
            stop = middle
    return first


def _next_data(fd: int, at: int, size: int) -> int:
    """Return where the next data lies, or the size; `at` itself where the file system cannot tell (lseek(2))."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else at


def _data(fd: int, size: int) -> tuple[int, int]:
    """Return (bytes of data, count of runs of data) of a file; all of it where the file system cannot tell."""
    total = runs = at = 0
    while (start := _next_data(fd, at, size)) < size:
        try:
            at = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError:
            return size, 1
        total += min(at, size) - start
        runs += 1
    return total, runs


# ------------------------------------------------------------------------------------------------ for people


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "unknown")


def _describe(path: bytes) -> str:
    try:
        return _kind(os.lstat(path))
    except OSError as error:
        return error.strerror or str(error)


def _device(rdev: int) -> str:
    return f"{os.major(rdev)}:{os.minor(rdev)}"


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _show_xattr(name: str, value: bytes | None) -> str:
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if value is None:
        return f"no {shown}"
    return f"{shown}={value[:32].hex()}{'...' if len(value) > 32 else ''} ({len(value)} bytes)"
