"""Read one pack from its first byte to its last, and prove everything in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from coffer.backends.base import Backend
from coffer.crypto.keyring import Keyring
from coffer.crypto.seal import HEADER_BYTES, KIND_PACK, ObjectKey, open_header
from coffer.errors import ObjectCorruptError, SizeLimitError
from coffer.ids import ChunkId, PackId, pack_name
from coffer.repository.pack import MAX_PACK_BYTES, TRAILER, ChunkLocation, iter_rows, open_table, parse_trailer
from coffer.repository.reader import open_chunk
from coffer.verification.findings import DAMAGE
from coffer.verification.placement import Placement

# One read of the store: large enough that a remote one answers at its full rate, small enough that each thread's fits
# in memory beside a chunk and its plaintext (16 MiB each at most). [bytes]
_READ_BYTES = 4 * 1024 * 1024
_MAX_PROBLEMS_SHOWN = 3

Row = tuple[ChunkId, ChunkLocation]


@dataclass(slots=True)
class PackVerdict:
    """What was found of one pack.

    Attributes:
        pack_id: The pack.
        proved: How many chunks were opened and have the id that they should.
        lost: Positions of frames that did not open.
        all_lost: No frame can be opened.
        code: Of the first problem; empty where there is none.
        problems: In words; the first few.
        problems_count: How many there were.
    """

    pack_id: PackId
    proved: int = 0
    lost: list[int] = field(default_factory=list)
    all_lost: bool = False
    code: str = ""
    problems: list[str] = field(default_factory=list)
    problems_count: int = 0

    def note(self, code: str, text: str) -> None:
        """Record one problem."""
        self.code = self.code or code
        self.problems_count += 1
        if len(self.problems) < _MAX_PROBLEMS_SHOWN:
            self.problems.append(text)

    @property
    def message(self) -> str:
        """All problems in one line."""
        more = self.problems_count - len(self.problems)
        text = "; ".join(dict.fromkeys(self.problems)) + (f"; and {more} more" if more else "")
        if self.proved and (self.lost or self.all_lost):
            text += f"; {self.proved} other chunks are whole"
        return text


class PackProver:
    """Proves packs. Thread-safe: it keeps nothing between two packs."""

    def __init__(self, backend: Backend, keyring: Keyring, placement: Placement, count: Callable[[int], None]) -> None:
        """Read from a store.

        Args:
            backend: The store.
            keyring: The repository's keys.
            placement: What the index says of the packs.
            count: Called with the length of each piece that was read [bytes], from whichever thread; may raise.
        """
        self._backend, self._keyring, self._placement, self._count = backend, keyring, placement, count

    def prove(self, pack_id: PackId, size_bytes: int) -> PackVerdict:
        """Read every byte of a pack once (its header and table twice).

        Proved are: the header's commitment, the table's seal and that it is the table that the index has, each frame's
        seal, decompressed length and chunk id, and the SHA-256 of all bytes, which is the pack's name.

        Raises:
            TransientError, BackendLocationError: The store failed.
        """
        self._count(0)  # a pack that waited while the run was stopped is not begun
        verdict = PackVerdict(pack_id)
        name = pack_name(pack_id)
        if size_bytes > MAX_PACK_BYTES:
            verdict.note(SizeLimitError.code, f"{name}: {size_bytes} bytes, over the cap of {MAX_PACK_BYTES}")
            verdict.all_lost = True
            return verdict
        key: ObjectKey | None = None
        table: bytes | None = None
        try:
            key = open_header(self._keyring, self._backend.get(name, 0, HEADER_BYTES), KIND_PACK, name)
            table = self._table(key, name, size_bytes)
        except DAMAGE as error:
            verdict.note(error.code, error.message)
        verdict.all_lost = key is None
        self._read_all(verdict, key, self._rows(verdict, table), size_bytes)
        return verdict

    def _rows(self, verdict: PackVerdict, table: bytes | None) -> list[Row]:
        """Return what lies in the pack, by offset: by its own table where that is the index's, else by the index."""
        pack_id = verdict.pack_id
        known = self._placement.digests.get(pack_id)
        if table is not None:
            if known in (None, hashlib.sha256(table).digest()):
                return list(iter_rows(pack_id, table))
            verdict.note(ObjectCorruptError.code, f"{pack_name(pack_id)}: has another table than the index")
        return list(self._placement.index.iter_pack(pack_id))

    def _table(self, key: ObjectKey, name: str, size_bytes: int) -> bytes:
        trailer = self._backend.get(name, max(0, size_bytes - TRAILER.size), TRAILER.size)
        offset, sealed_length, rows = parse_trailer(trailer, size_bytes, name)
        return open_table(key, self._backend.get(name, offset, sealed_length), rows, name)

    def _read_all(self, verdict: PackVerdict, key: ObjectKey | None, rows: list[Row], size_bytes: int) -> None:
        name = pack_name(verdict.pack_id)
        digest = hashlib.sha256()
        read_until = 0
        try:
            for start, stop, inside in windows(rows, size_bytes):
                data = self._backend.get(name, start, stop - start)
                digest.update(data)
                if key is not None:
                    self._prove_frames(verdict, key, memoryview(data), start, inside)
                read_until = stop
                self._count(len(data))
        except DAMAGE as error:
            verdict.note(error.code, error.message)
        else:
            if digest.digest() != verdict.pack_id:
                verdict.note(ObjectCorruptError.code, f"{name}: content does not match its name")
        if key is not None and verdict.proved + len(verdict.lost) < len(rows):
            unread = [where.position for _, where in rows if where.offset + where.sealed_length > read_until]
            verdict.note(ObjectCorruptError.code, f"{name}: {len(unread)} frames lie behind its end")
            verdict.lost += unread

    def _prove_frames(
        self, verdict: PackVerdict, key: ObjectKey, data: memoryview, start: int, inside: list[Row]
    ) -> None:
        for chunk_id, where in inside:
            at = where.offset - start
            try:
                open_chunk(key, self._keyring.ids, chunk_id, where, data[at : at + where.sealed_length])
                verdict.proved += 1
            except DAMAGE as error:
                verdict.note(error.code, error.message)
                verdict.lost.append(where.position)


def windows(rows: list[Row], size_bytes: int) -> Iterator[tuple[int, int, list[Row]]]:
    """Cut a pack into pieces of whole frames, to be read one after the other: (start, stop, the frames inside).

    The pieces cover the pack from 0 to `size_bytes` without gap or overlap; each has at most 4 MiB, or is one frame.
    Frames that lie behind the end are in no piece.

    Args:
        rows: What lies in the pack, by offset; none begins inside another (`pack_size` has seen to that).
        size_bytes: Its size [bytes].
    """
    start = stop = 0
    inside: list[Row] = []
    for row in rows:
        offset, end = row[1].offset, row[1].offset + row[1].sealed_length
        if end > size_bytes:
            break
        if inside and end - start > _READ_BYTES:
            yield start, stop, inside
            start, inside = stop, []
        while offset - start > _READ_BYTES:  # what no row claims is read for the digest
            yield start, start + _READ_BYTES, []
            start += _READ_BYTES
        inside.append(row)
        stop = end
    if inside:
        yield start, stop, inside
    while stop < size_bytes:
        start, stop = stop, min(stop + _READ_BYTES, size_bytes)
        yield start, stop, []
