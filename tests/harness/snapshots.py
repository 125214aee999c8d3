"""Compare what a snapshot holds with what lies on the disk, through the manifest and the chunks and nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coffer.chunking.cutter import ChunkParams
from coffer.crypto.kek import KeyFileUnlocker
from coffer.repository.entries import Entry, Kind
from coffer.repository.manifest import ManifestReader
from coffer.repository.pack import TYPE_DATA
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot

KEY = KeyFileUnlocker(bytes(range(32)))

# Cut a thousand times smaller than the defaults, so that trees of kilobytes have bundles, chunks and packs in number.
SMALL_CHUNKS = ChunkParams(
    min_bytes=1024,
    avg_bytes=2048,
    max_bytes=4096,
    bundle_below_bytes=1024,
    bundle_min_bytes=2048,
    bundle_avg_bytes=1024,
    bundle_max_bytes=6144,
)


@dataclass(frozen=True, slots=True)
class FileState:
    """What must come back of one file.

    Attributes:
        mode, uid, gid, mtime_ns, rdev: As lstat tells them.
        target: Of a symbolic link.
        xattrs: Name and value, sorted.
        content: Of a regular file, holes as zeros; None for others.
        holes: (start, stop) of each hole of a regular file [bytes].
        twin: The first path, in order, that is the same file; the path itself where there is none before it.
    """

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    rdev: int
    target: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]
    content: bytes | None
    holes: tuple[tuple[int, int], ...]
    twin: bytes


Tree = dict[bytes, FileState]


def saved_tree(repo: Repository, snapshot: Snapshot, under: bytes | Path = b"") -> Tree:
    """Return everything a snapshot holds (below a path, itself included), each chunk verified as it is read."""
    manifest = repo.manifest(snapshot)
    chunks: dict[bytes, bytes] = {}
    twins: dict[tuple[int, int], bytes] = {}
    tree: Tree = {}
    for entry in manifest.entries(_stored(under)):
        content, holes = None, ()
        if entry.kind is Kind.FILE:
            content, holes = read_content(repo, manifest, entry, chunks)
        tree[entry.path] = FileState(
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            entry.rdev,
            entry.link_target,
            entry.xattrs,
            content,
            holes,
            _twin(twins, entry.path, entry.mode, entry.nlink, (entry.dev, entry.ino)),
        )
    return tree


def read_content(
    repo: Repository, manifest: ManifestReader, entry: Entry, chunks: dict[bytes, bytes] | None = None
) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """Return (content with holes as zeros, holes) of a regular file."""
    cache = {} if chunks is None else chunks
    parts: list[bytes] = []
    holes: list[tuple[int, int]] = []
    at = 0
    for extent in manifest.expand(entry.content) if entry.content else ():
        if extent.chunk_id is None:
            parts.append(bytes(extent.length))
            holes.append((at, at + extent.length))
        else:
            if extent.chunk_id not in cache:
                cache[extent.chunk_id] = repo.reader().read(extent.chunk_id, TYPE_DATA)
            piece = cache[extent.chunk_id][extent.offset : extent.offset + extent.length]
            assert extent.length == len(piece), f"{entry.path!r}: extent reaches beyond its chunk"
            parts.append(piece)
        at += extent.length
    assert entry.size_bytes == at, f"{entry.path!r}: extents do not add up"
    return b"".join(parts), tuple(holes)


def disk_tree(root: bytes | Path) -> Tree:
    """Return everything below a path on the disk, itself included, keyed as a snapshot keys it."""
    twins: dict[tuple[int, int], bytes] = {}
    return {_stored(path): _disk_state(path, twins) for path in _walk(os.fsencode(root))}


def _walk(path: bytes) -> Iterator[bytes]:
    """Yield a path and all below it, in manifest order: a folder's own entries before those of the folders in it."""
    yield path
    folders = [path] if stat.S_ISDIR(os.lstat(path).st_mode) else []
    while folders:
        folder = folders.pop()
        inside = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        yield from inside
        folders += reversed([child for child in inside if stat.S_ISDIR(os.lstat(child).st_mode)])


def _disk_state(path: bytes, twins: dict[tuple[int, int], bytes]) -> FileState:
    status = os.lstat(path)
    content, holes = None, ()
    if stat.S_ISREG(status.st_mode):
        fd = os.open(path, os.O_RDONLY)
        try:
            content = os.pread(fd, status.st_size + 1, 0)
            holes = tuple(_holes(fd, status.st_size))
        finally:
            os.close(fd)
    is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return FileState(
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        status.st_rdev if is_device else 0,
        os.readlink(path) if stat.S_ISLNK(status.st_mode) else b"",
        tuple((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in names),
        content,
        holes,
        _twin(twins, _stored(path), status.st_mode, status.st_nlink, (status.st_dev, status.st_ino)),
    )


def _holes(fd: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            data = size
        if data > at:
            yield at, data
        at = os.lseek(fd, data, os.SEEK_HOLE) if data < size else size


def _twin(twins: dict[tuple[int, int], bytes], path: bytes, mode: int, links: int, identity: tuple[int, int]) -> bytes:
    if stat.S_ISDIR(mode) or links < 2:
        return path
    return twins.setdefault(identity, path)


def _stored(path: bytes | Path) -> bytes:
    return os.fsencode(path).strip(b"/")
