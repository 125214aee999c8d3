"""One block of a manifest: some thousand entries in columns, in three sections that change at different paces.

*Stable* (names, owners, sizes …), *times* (mtime, ctime) and *content* (ids and places) are chunks of their own, so
that touching every file stores the times anew and nothing else. Layout in docs/format.md §6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from stat import S_ISREG

from coffer.errors import ObjectCorruptError, SizeLimitError
from coffer.ids import CHUNK_ID_BYTES, CONTENT_ID_BYTES, ChunkId, ContentId
from coffer.repository.columns import pack_blob, pack_ints, unpack_blob, unpack_ints
from coffer.repository.entries import Content, Entry, Extent, known_kind
from coffer.repository.pack import MAX_RAW_BYTES

# The stat row of an entry, as the walk makes it: order of the columns in the sections too.
Row = tuple[int, int, int, int, int, int, int, int, int]
MODE, UID, GID, SIZE, INO, DEV, NLINK, MTIME, CTIME = range(9)
_STABLE_COLUMNS = (MODE, UID, GID, SIZE, INO, DEV, NLINK)
_TIME_COLUMNS = (MTIME, CTIME)

# What a row may hold, by column: [low, high). Beyond it no system call takes the value, and some raise OverflowError.
_TIME_S = 1 << 63
_BOUNDS = (
    *((0, 1 << 32),) * 3,  # mode, uid, gid
    (0, 1 << 63),  # size
    *((0, 1 << 64),) * 3,  # ino, dev, nlink
    *((-_TIME_S * 1_000_000_000, _TIME_S * 1_000_000_000),) * 2,
)

MAX_BLOCK_ENTRIES = 1 << 16  # (I7); a writer closes a block far earlier
# PATH_MAX of Linux (I7): no system call takes a longer path, and no file system has longer names: a walk meets none.
MAX_PATH_BYTES = 4096
MAX_BLOCK_EXTENTS = 1 << 18  # (I7); a writer splits a block that has more
_HOLE = 0  # references in the content section: 0 a hole, 2n+2 chunk n, 2n+3 list chunk n

Extras = tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]  # rdev, link target, xattrs
NO_EXTRAS: Extras = (0, b"", ())


@dataclass(slots=True)
class Group:
    """Entries of one folder (or a piece of a very large one).

    Attributes:
        folder: Path of the folder, relative to the root.
        names: Names in the folder, sorted, no two alike.
        rows: A stat row for each.
        extras: A row's index → what only some entries have.
        contents: A row's index → content, for regular files that are not empty.
    """

    folder: bytes
    names: list[bytes]
    rows: list[Row]
    extras: dict[int, Extras] = field(default_factory=dict)
    contents: dict[int, Content] = field(default_factory=dict)

    def piece(self, start: int, stop: int) -> Group:
        """Return the rows from `start` up to, without, `stop` as a group of their own."""
        extras = {at - start: extras for at, extras in self.extras.items() if start <= at < stop}
        contents = {at - start: content for at, content in self.contents.items() if start <= at < stop}
        return Group(self.folder, self.names[start:stop], self.rows[start:stop], extras, contents)

    def entry(self, at: int) -> Entry:
        """Return the entry of one row."""
        mode, uid, gid, size, ino, dev, nlink, mtime, ctime = self.rows[at]
        rdev, target, xattrs = self.extras.get(at, NO_EXTRAS)
        path = self.folder + b"/" + self.names[at] if self.folder else self.names[at]
        content = self.contents.get(at)
        return Entry(path, mode, uid, gid, size, mtime, ctime, ino, dev, nlink, rdev, target, xattrs, content)

    def entries(self) -> Iterator[Entry]:
        """Yield the entries, sorted by name."""
        return map(self.entry, range(len(self.rows)))


# --------------------------------------------------------------------------------------------------------- encoding


def encode_stable(groups: Sequence[Group]) -> bytes:
    """Return the stable section of a block.

    Raises:
        ValueError: A name or folder is longer than a reader takes.
    """
    if any(max(map(len, (group.folder, *group.names))) > MAX_PATH_BYTES for group in groups):
        raise ValueError("name or folder over the cap")
    columns = _columns(groups)
    parts = [
        pack_blob(b"\0".join([group.folder for group in groups])),
        pack_ints([len(group.rows) for group in groups]),
        pack_blob(b"\0".join([name for group in groups for name in group.names])),
    ]
    parts += [pack_ints(columns[column]) for column in _STABLE_COLUMNS]
    parts.append(_encode_extras(groups))
    return b"".join(parts)


def encode_times(groups: Sequence[Group]) -> bytes:
    """Return the times section of a block."""
    columns = _columns(groups)
    return b"".join([pack_ints(columns[column]) for column in _TIME_COLUMNS])


def _columns(groups: Sequence[Group]) -> list[tuple[int, ...]]:
    """Return the rows of all groups, column by column."""
    return list(zip(*chain.from_iterable(group.rows for group in groups), strict=True))


def _encode_extras(groups: Sequence[Group]) -> bytes:
    """Each distinct extra once (one ACL is shared by a whole tree), and which entry has which."""
    table: dict[Extras, int] = {}
    places: list[int] = []
    which: list[int] = []
    base = 0
    for group in groups:
        for at in sorted(group.extras):
            places.append(base + at)
            which.append(table.setdefault(group.extras[at], len(table)))
        base += len(group.rows)
    parts = [pack_ints(places), pack_ints(which), pack_ints([extras[0] for extras in table])]
    for _, target, xattrs in table:
        parts += (pack_blob(target), pack_ints([len(xattrs)]))
        parts += [pack_blob(part) for pair in xattrs for part in pair]
    return b"".join(parts)


def encode_content(groups: Sequence[Group]) -> bytes:
    """Return the content section of a block, or nothing where no entry has content."""
    coder = _ContentEncoder()
    base = 0
    for group in groups:
        coder.add(base, group.contents)
        base += len(group.rows)
    return coder.finish() if coder.places else b""


class _ContentEncoder:
    def __init__(self) -> None:
        self.places: list[int] = []
        self._ids: list[bytes] = []
        self._counts: list[int] = []
        self._refs: list[int] = []
        self._offsets: list[int] = []  # less the end of the last run in the same chunk: 0 for files bundled in order
        self._lengths: list[int] = []
        self._chunks: dict[bytes, int] = {}
        self._ends: list[int] = []

    def add(self, base: int, contents: dict[int, Content]) -> None:
        """Take the contents of a group whose first row has the place `base`."""
        refs, offsets, lengths, chunks, ends = self._refs, self._offsets, self._lengths, self._chunks, self._ends
        for at in sorted(contents):
            content = contents[at]
            self.places.append(base + at)
            self._ids.append(content.content_id)
            self._counts.append(len(content.extents))
            for chunk_id, offset, length, indirect in content.extents:
                lengths.append(length)
                if chunk_id is None:
                    refs.append(_HOLE)
                    offsets.append(0)
                    continue
                known = chunks.get(chunk_id)
                if known is None:
                    known = chunks[chunk_id] = len(chunks)
                    ends.append(0)
                refs.append(2 * known + 2 + indirect)
                offsets.append(offset - ends[known])
                ends[known] = offset + length

    def finish(self) -> bytes:
        single = all(count == 1 for count in self._counts)
        # A file of one extent has the entry's size as its length: not written twice.
        lengths = [] if single else self._lengths
        return b"".join(
            [
                pack_ints(self.places),
                pack_blob(b"".join(self._ids)),
                pack_ints(self._counts),
                pack_ints(self._refs),
                pack_ints(self._offsets),
                pack_ints(lengths),
                pack_blob(b"".join(self._chunks)),
            ]
        )


# --------------------------------------------------------------------------------------------------------- decoding


def decode_block(stable: bytes, times: bytes, content: bytes, what: str) -> list[Group]:
    """Return the groups of a block from its three sections; everything in them is checked.

    Raises:
        ObjectCorruptError: They do not fit together, or hold what no writer writes.
        SizeLimitError: A count is over its cap.
    """
    groups, at = _decode_names(stable, what)
    total = sum(len(group.names) for group in groups)
    columns: list[list[int]] = []
    for _ in _STABLE_COLUMNS:
        values, at = unpack_ints(stable, at, what, total)
        columns.append(values)
    at_times = 0
    for _ in _TIME_COLUMNS:
        values, at_times = unpack_ints(times, at_times, what, total)
        columns.append(values)
    if any(len(values) != total for values in columns) or at_times != len(times):
        raise ObjectCorruptError(f"{what}: columns of different lengths")
    if any(min(values) < low or max(values) >= high for values, (low, high) in zip(columns, _BOUNDS, strict=True)):
        raise ObjectCorruptError(f"{what}: a number that no file has")
    if not all(map(known_kind, set(columns[MODE]))):
        raise ObjectCorruptError(f"{what}: a mode that no file has")
    _deal(groups, list(zip(*columns, strict=True)))
    _decode_extras(groups, stable, at, what)
    filled = sum(size > 0 and S_ISREG(mode) for mode, size in zip(columns[MODE], columns[SIZE], strict=True))
    if content:
        _decode_content(groups, content, filled, what)
    elif filled:
        raise ObjectCorruptError(f"{what}: {filled} files without their content")
    return groups


def decode_names(stable: bytes, what: str) -> list[tuple[bytes, list[bytes]]]:
    """Return (folder, names) of each group, from the stable section alone."""
    return [(group.folder, group.names) for group in _decode_names(stable, what)[0]]


def _decode_names(stable: bytes, what: str) -> tuple[list[Group], int]:
    folders_blob, at = unpack_blob(stable, 0, what)
    counts, at = unpack_ints(stable, at, what, MAX_BLOCK_ENTRIES)
    names_blob, at = unpack_blob(stable, at, what)
    folders = folders_blob.split(b"\0")
    total = sum(counts)
    if len(folders) != len(counts) or (counts and min(counts) < 1):
        raise ObjectCorruptError(f"{what}: folders and counts differ")
    if total > MAX_BLOCK_ENTRIES:
        raise SizeLimitError(f"{what}: block of {total} entries is over the cap of {MAX_BLOCK_ENTRIES}")
    names = names_blob.split(b"\0")
    if len(names) != total:
        raise ObjectCorruptError(f"{what}: {len(names)} names for {total} entries")
    longest = max(map(len, chain(folders, names)))
    if longest > MAX_PATH_BYTES:
        raise SizeLimitError(f"{what}: name or folder of {longest} bytes is over the cap of {MAX_PATH_BYTES}")
    groups: list[Group] = []
    first = 0
    for folder, count in zip(folders, counts, strict=True):
        groups.append(Group(folder, names[first : first + count], []))
        first += count
    return groups, at


def _deal(groups: list[Group], rows: list[Row]) -> None:
    first = 0
    for group in groups:
        group.rows = rows[first : first + len(group.names)]
        first += len(group.names)


def _decode_extras(groups: list[Group], stable: bytes, at: int, what: str) -> None:
    total = sum(len(group.names) for group in groups)
    places, at = unpack_ints(stable, at, what, total)
    which, at = unpack_ints(stable, at, what, total)
    rdevs, at = unpack_ints(stable, at, what, total)
    table: list[Extras] = []
    for rdev in rdevs:
        target, at = unpack_blob(stable, at, what)
        counts, at = unpack_ints(stable, at, what, 1)
        parts: list[bytes] = []
        for _ in range(2 * sum(counts)):
            part, at = unpack_blob(stable, at, what)
            parts.append(part)
        table.append((rdev, target, tuple(zip(parts[::2], parts[1::2], strict=True))))
    fits = (
        at == len(stable)
        and len(places) == len(which)
        and all(0 <= index < len(table) for index in which)
        and all(0 <= rdev < 1 << 64 for rdev in rdevs)
    )
    if not fits:
        raise ObjectCorruptError(f"{what}: extras do not fit")
    for (group, local), index in zip(_locate(groups, places, what), which, strict=True):
        group.extras[local] = table[index]


def _decode_content(groups: list[Group], content: bytes, filled: int, what: str) -> None:
    places, at = unpack_ints(content, 0, what, filled)
    ids, at = unpack_blob(content, at, what)
    counts, at = unpack_ints(content, at, what, filled)
    refs, at = unpack_ints(content, at, what, MAX_BLOCK_EXTENTS)
    offsets, at = unpack_ints(content, at, what, MAX_BLOCK_EXTENTS)
    lengths, at = unpack_ints(content, at, what, MAX_BLOCK_EXTENTS)
    table, at = unpack_blob(content, at, what)
    chunks = [ChunkId(table[i : i + CHUNK_ID_BYTES]) for i in range(0, len(table), CHUNK_ID_BYTES)]
    total = sum(counts)
    fits = (
        at == len(content)
        and len(places) == filled
        and len(ids) == CONTENT_ID_BYTES * len(places)
        and len(table) == CHUNK_ID_BYTES * len(chunks)
        and len(counts) == len(places)
        and len(refs) == len(offsets) == total
        and len(lengths) in ((total,) if total != len(places) else (0, total))
        and not (counts and min(counts) < 1)
        and not (refs and (min(refs) < 0 or max(refs) >= 2 * len(chunks) + 2))
    )
    if not fits:
        raise ObjectCorruptError(f"{what}: content section does not fit together")
    ends = [0] * len(chunks)
    extent = 0
    for number, (group, local) in enumerate(_locate(groups, places, what)):
        row = group.rows[local]
        size = row[SIZE]
        extents: list[Extent] = []
        for _ in range(counts[number]):
            length = lengths[extent] if lengths else size
            extents.append(_extent(refs[extent], offsets[extent], length, chunks, ends, what))
            extent += 1
        content_id = ContentId(ids[CONTENT_ID_BYTES * number : CONTENT_ID_BYTES * (number + 1)])
        if sum(e.length for e in extents) != size or not S_ISREG(row[MODE]):
            raise ObjectCorruptError(f"{what}: extents do not add up to the file's size")
        group.contents[local] = Content(content_id, tuple(extents))


def _extent(ref: int, offset_delta: int, length: int, chunks: list[ChunkId], ends: list[int], what: str) -> Extent:
    if length < 1:
        raise ObjectCorruptError(f"{what}: extent of {length} bytes")
    if ref == _HOLE:
        return Extent(None, 0, length)
    known, indirect = divmod(ref - 2, 2)
    if known < 0:
        raise ObjectCorruptError(f"{what}: reference {ref} means nothing")
    offset = ends[known] + offset_delta
    if offset < 0:
        raise ObjectCorruptError(f"{what}: extent starts before its chunk")
    ends[known] = offset + length
    if ends[known] > MAX_RAW_BYTES and not indirect:
        raise ObjectCorruptError(f"{what}: extent ends behind what a chunk can hold")
    return Extent(chunks[known], offset, length, bool(indirect))


def _locate(groups: list[Group], places: list[int], what: str) -> Iterator[tuple[Group, int]]:
    """Yield (group, index in it) of each place; places are counted over the block and rise."""
    group_iter = iter(groups)
    group, base, limit, last = None, 0, 0, -1
    for place in places:
        if place <= last:
            raise ObjectCorruptError(f"{what}: places do not rise")
        last = place
        while place >= limit:
            group = next(group_iter, None)
            if group is None:
                raise ObjectCorruptError(f"{what}: place {place} is outside the block")
            base, limit = limit, limit + len(group.rows)
        assert group is not None  # limit > 0 only once there is one
        yield group, place - base
