"""Gather groups into blocks, cut by the folders' names so that one change moves no other block (docs/format.md §6)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from blake3 import blake3

from coffer.repository.blocks import Group
from coffer.repository.manifest import FINGERPRINT_BYTES

MIN_ENTRIES = 1024
_MEAN_BEYOND = 3072  # so a block has about 4,096 entries: 100-200 KiB to read for one path
MAX_ENTRIES = 12288
_PIECE = 2048  # a folder with more entries than MAX_ENTRIES is cut into pieces of at least this many
_PIECE_MASK = 0x7FF  # at names whose CRC ends so: about 2,048 further on

_ROW = struct.Struct("<IIIQQQQqq")

AnyGroup = TypeVar("AnyGroup", bound=Group)


def cut_blocks(groups: Iterable[AnyGroup]) -> Iterator[list[AnyGroup]]:
    """Yield lists of groups, in order: the blocks of a manifest. Deterministic; needs one block of memory."""
    block: list[AnyGroup] = []
    count = 0
    for whole in groups:
        for group in _pieces(whole):
            block.append(group)
            count += len(group.names)
            if count >= MAX_ENTRIES or (count >= MIN_ENTRIES and _ends(group)):
                yield block
                block, count = [], 0
    if block:
        yield block


def fingerprint(groups: Iterable[Group]) -> bytes:
    """Return a digest over folders, names and rows [16 bytes]. Equal means that nothing in the block changed.

    It never leaves the sealed manifest, so it needs no key.
    """
    hasher = blake3()
    pack = _ROW.pack
    for group in groups:
        # NUL ends a name and cannot be in one, so no two lists of names give the same bytes.
        try:
            rows = b"".join([pack(*row) for row in group.rows])
        except struct.error:
            # A time beyond the year 2262 takes more than 64 bits. No mode is 0xffffffff: the two forms never meet.
            rows = b"\xff\xff\xff\xff" + repr(group.rows).encode()
        hasher.update(b"\0".join([group.folder, *group.names]) + b"\0\0" + rows)
    return hasher.digest(FINGERPRINT_BYTES)


def _ends(group: Group) -> bool:
    """Decide by the folder's path (and the piece's last name), with a chance proportional to the group's size."""
    draw = (
        zlib.crc32(group.names[-1], zlib.crc32(group.folder))
        if len(group.names) >= _PIECE
        else zlib.crc32(group.folder)
    )
    return draw * _MEAN_BEYOND < len(group.names) << 32


def _pieces(group: AnyGroup) -> Iterator[AnyGroup]:
    if len(group.names) <= MAX_ENTRIES:
        yield group
        return
    start = 0
    for at, name in enumerate(group.names):
        if (at - start >= _PIECE and (zlib.crc32(name) & _PIECE_MASK) == 0) or at - start >= MAX_ENTRIES:
            yield _piece(group, start, at)
            start = at
    yield _piece(group, start, len(group.names))


def _piece(group: AnyGroup, start: int, stop: int) -> AnyGroup:
    """As `Group.piece`, of the same class; the walk knows names and rows only."""
    return replace(group, names=group.names[start:stop], rows=group.rows[start:stop], extras={}, contents={})
