"""Keyed ids: BLAKE3 in keyed mode, one sub-key per use (BLAKE3 specification, §2.3 and §6.2).

Keyed, so that whoever sees the store cannot test whether it holds a file that they have too.
"""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

from coffer.ids import CHUNK_ID_BYTES, CONTENT_ID_BYTES, ChunkId, ContentId

_CHUNK = "coffer/1 chunk id"
_CONTENT = "coffer/1 content id"
_SOURCE = "coffer/1 source tag"
_CDC = "coffer/1 chunker seed"
_WAL = "coffer/1 wal id"
_PAGE = "coffer/1 page digest"
PAGE_BYTES = 8192  # of a database's files
# A collision would lose a change. A page is compared with its own predecessor only, so that is 2^-128 for each.
PAGE_DIGEST_BYTES = 16
_HOLE = bytes(CHUNK_ID_BYTES)
_WITH_OFFSET = 1 << 63  # no extent is as long


class IdKeys:
    """Sub-keys of the chunk-id key, which never rotates (deduplication would end with it)."""

    __slots__ = ("_chunk", "_content", "_page", "_secret", "_source", "_wal", "chunker_seed")

    def __init__(self, chunk_id_key: bytes) -> None:
        self._secret = chunk_id_key
        self._chunk: dict[int, bytes] = {}
        self._content = blake3(chunk_id_key, derive_key_context=_CONTENT).digest()
        self._source = blake3(chunk_id_key, derive_key_context=_SOURCE).digest()
        self._wal = blake3(chunk_id_key, derive_key_context=_WAL).digest()
        self._page = blake3(chunk_id_key, derive_key_context=_PAGE).digest()
        seed = blake3(chunk_id_key, derive_key_context=_CDC).digest(8)
        # [1, 2^63): pyfastcdc shifts it left by one. It hides where files are cut from whoever sees pack sizes.
        self.chunker_seed = (int.from_bytes(seed, "big") >> 1) | 1

    def chunk_id(self, data: bytes | bytearray | memoryview, type_: int = 1) -> ChunkId:
        """Return the id of a chunk's plaintext [32 bytes].

        Each type of chunk has a key of its own. Else a file with the very bytes of a manifest's section, which can be
        foreseen, would make that section "known" as data, and the manifest unreadable.

        Args:
            data: The plaintext.
            type_: What it holds (docs/format.md §4); data where omitted.
        """
        key = self._chunk.get(type_)
        if key is None:
            key = self._chunk[type_] = blake3(self._secret, derive_key_context=f"{_CHUNK} {type_}").digest()
        return ChunkId(blake3(data, key=key).digest())

    def content_id(self, data: bytes | bytearray | memoryview) -> ContentId:
        """Return the id of a whole file's content [16 bytes]."""
        return ContentId(blake3(data, key=self._content).digest(CONTENT_ID_BYTES))

    def extents_id(self, extents: Iterable[tuple[bytes | None, int, int]]) -> ContentId:
        """Return the content id of a file of several extents [16 bytes]: over its chunk ids, not its bytes.

        The chunks' ids are there anyway, so a large file is hashed once and holes cost nothing.

        Args:
            extents: (chunk id or None for a hole, offset in the chunk [bytes], length [bytes]) in file order, list
                chunks resolved.
        """
        hasher = self.extents_hasher()
        for chunk_id, offset, length in extents:
            hasher.add(chunk_id, offset, length)
        return hasher.finish()

    def extents_hasher(self) -> ExtentsHasher:
        """Return what makes an `extents_id` extent by extent."""
        return ExtentsHasher(self._content)

    def page_digests(self, pages: bytes | memoryview) -> bytes:
        """Return the digest of each page of 8 KiB, one after another [16 bytes for each; the last page may be short].

        For telling whether a page changed since it was stored; nothing is found by them.
        """
        key, view = self._page, memoryview(pages)
        return b"".join(
            [
                blake3(view[at : at + PAGE_BYTES], key=key).digest(PAGE_DIGEST_BYTES)
                for at in range(0, len(view), PAGE_BYTES)
            ]
        )

    def wal_hasher(self) -> blake3:
        """Return what makes the id [32 bytes] of a range of write-ahead log piece by piece: `update`, then `digest`."""
        return blake3(key=self._wal)

    def source_tag(self, source: str) -> str:
        """Return 8 hex digits that let a source's snapshots be found by name without telling the source's name."""
        # No source has a name that is not text, but it can be asked for: the tag is then one that nothing has.
        return blake3(source.encode(errors="surrogatepass"), key=self._source).digest(4).hex()


class ExtentsHasher:
    """The content id of a file of several extents in the making."""

    __slots__ = ("_hasher",)

    def __init__(self, content_key: bytes) -> None:
        self._hasher = blake3(b"extents\0", key=content_key)

    def add(self, chunk_id: bytes | None, offset: int, length: int) -> None:
        """Take the next extent: its chunk, or None for a hole, where it begins in it and its length [bytes].

        An offset is written only where there is one, and the highest bit of the length says so: extents that begin
        with their chunk, as those of files are, have the ids that they always had.
        """
        if offset:
            place = (length | _WITH_OFFSET).to_bytes(8, "little") + offset.to_bytes(8, "little")
        else:
            place = length.to_bytes(8, "little")
        self._hasher.update((chunk_id or _HOLE) + place)

    def finish(self) -> ContentId:
        """Return the id [16 bytes]."""
        return ContentId(self._hasher.digest(CONTENT_ID_BYTES))
