"""Sample entries, blocks and manifests, in a store that is a dict."""

from __future__ import annotations

import stat

from coffer.crypto.hashing import IdKeys
from coffer.ids import ChunkId, ContentId
from coffer.repository.blocks import Group, encode_content, encode_stable, encode_times
from coffer.repository.entries import Content, Extent
from coffer.repository.manifest import NO_FINGERPRINT, BlockRef, ManifestReader, encode_root
from coffer.repository.pack import TYPE_ROOT, TYPE_SECTION

FILE, FOLDER, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777
MIB = 1024 * 1024


def chunk_id(number: int) -> ChunkId:
    """Return a chunk id that is told from others by its number."""
    return ChunkId(number.to_bytes(4, "big") * 8)


def content(number: int, *extents: Extent) -> Content:
    """Return a content with an id that is told from others by its number."""
    return Content(ContentId(number.to_bytes(4, "big") * 4), extents)


def row(mode: int = FILE, size: int = 0, *, mtime: int = 1_700_000_000_000_000_000, nlink: int = 1, ino: int = 7):
    """Return a stat row."""
    return (mode, 1000, 100, size, ino, 2049, nlink, mtime, mtime + 5)


def sample_groups() -> list[Group]:
    """Return the groups of one block: every kind of content, extras shared and single, an empty file, a link."""
    top = Group(b"", [b"etc", b"srv"], [row(FOLDER, 4096), row(FOLDER, 4096)])
    etc = Group(
        b"etc",
        [b"empty", b"hosts", b"link", b"tty"],
        [row(), row(size=30), row(LINK, 5), row(stat.S_IFCHR | 0o620)],
        extras={
            1: (0, b"", ((b"user.a", b"1"), (b"user.b", b""))),
            2: (0, b"hosts", ()),
            3: (1281, b"", ()),
        },
        contents={1: content(1, Extent(chunk_id(1), 0, 30))},
    )
    large = (Extent(chunk_id(2), 0, MIB), Extent(None, 0, 1 << 40), Extent(chunk_id(1), 30, 70))
    listed = (Extent(chunk_id(3), 0, 1 << 33, indirect=True), Extent(chunk_id(3), 1 << 33, 5, indirect=True))
    srv = Group(
        b"srv",
        [b"a", b"b\xff\n", b"c"],
        [row(size=sum(e.length for e in large)), row(size=sum(e.length for e in listed)), row(size=10, nlink=2)],
        extras={2: (0, b"", ((b"user.a", b"1"), (b"user.b", b"")))},
        contents={0: content(2, *large), 1: content(3, *listed), 2: content(4, Extent(chunk_id(1), 100, 10))},
    )
    return [top, etc, srv]


class DictStore:
    """A `ChunkSource` over a dict; also stores blocks and roots.

    Attributes:
        chunks: Chunk id → (type, plaintext).
        reads: The ids that were read, in order.
    """

    def __init__(self) -> None:
        self.chunks: dict[bytes, tuple[int, bytes]] = {}
        self.reads: list[bytes] = []
        self._ids = IdKeys(b"k" * 32)

    def read(self, chunk_id: bytes, type_: int) -> bytes:
        """Return what was put under an id, if it is of that type."""
        self.reads.append(chunk_id)
        found_type, data = self.chunks[chunk_id]
        assert found_type == type_, f"a chunk of type {found_type} was read as type {type_}"
        return data

    def put(self, type_: int, data: bytes) -> ChunkId:
        """Store a chunk; return its id."""
        found = self._ids.chunk_id(data)
        self.chunks[found] = type_, data
        return found

    def put_block(self, groups: list[Group], fingerprint: bytes = NO_FINGERPRINT) -> BlockRef:
        """Store a block's sections."""
        sections = [self.put(TYPE_SECTION, data) for data in (encode_stable(groups), encode_times(groups))]
        contents = encode_content(groups)
        return BlockRef(
            groups[0].folder,
            groups[0].names[0],
            sum(len(group.rows) for group in groups),
            sum(group.rows[at][3] for group in groups for at in group.contents),
            fingerprint,
            *sections,
            self.put(TYPE_SECTION, contents) if contents else None,
        )

    def manifest(self, *blocks: list[Group]) -> ManifestReader:
        """Store blocks below a root; return their reader."""
        root = encode_root([self.put_block(groups) for groups in blocks])
        return ManifestReader(self, self.put(TYPE_ROOT, root))
