"""What a manifest says of one file, and of where its content lies."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from coffer.ids import ChunkId, ContentId


class Kind(Enum):
    """Kind of a file, by the words that the command line shows."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    CHARACTER_DEVICE = "character-device"
    BLOCK_DEVICE = "block-device"
    SOCKET = "socket"


_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
    stat.S_IFSOCK: Kind.SOCKET,
}


class Extent(NamedTuple):
    """A run of a file's content, in file order.

    Attributes:
        chunk_id: The chunk that holds it; None for a hole; for `indirect`, a list chunk.
        offset: Where the run starts in the chunk [bytes].
        length: Its length in the file [bytes].
        indirect: The chunk is a list of further extents (very large files).
    """

    chunk_id: ChunkId | None
    offset: int
    length: int
    indirect: bool = False


@dataclass(slots=True)
class Content:
    """Content of one regular file that is not empty.

    Attributes:
        content_id: Keyed id of the whole content [16 bytes].
        extents: Contiguous from 0 to the file's size; `expand` in the reader resolves indirect ones.
    """

    content_id: ContentId
    extents: tuple[Extent, ...]


@dataclass(slots=True)
class Entry:
    """One file of a snapshot.

    Attributes:
        path: Relative to the root of the file system, without a leading slash; any bytes but NUL.
        mode: st_mode, with the kind.
        uid, gid: Numeric owner and group.
        size_bytes: Of a regular file, as it was read; of others as the system says [bytes].
        mtime_ns, ctime_ns: [ns since the Unix epoch]; ctime 0 where the file may have changed right after the reading.
        ino, dev, nlink: Identity on the source; entries with nlink > 1 and the same (dev, ino) are hard links of one
            file.
        rdev: Of device nodes, else 0.
        link_target: Of symbolic links, else empty.
        xattrs: Extended attributes, POSIX ACLs and capabilities among them, sorted by name.
        content: Of regular files that are not empty, else None.
    """

    path: bytes
    mode: int
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    dev: int
    nlink: int
    rdev: int = 0
    link_target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = field(default=())
    content: Content | None = None

    @property
    def kind(self) -> Kind:
        """The file's kind."""
        return _KINDS[stat.S_IFMT(self.mode)]

    @property
    def name(self) -> bytes:
        """The last component of the path."""
        return self.path.rpartition(b"/")[2]


def known_kind(mode: int) -> bool:
    """Say whether a mode has one of the kinds above (a stored one may be hostile)."""
    return stat.S_IFMT(mode) in _KINDS


def path_key(path: bytes) -> list[bytes]:
    """Return the key that sorts folders as a manifest has them: by components, a folder before what is in it."""
    return path.split(b"/") if path else []
