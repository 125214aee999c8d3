"""Where every chunk lies by the index, and whether the packs that it names are there and of the right size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from coffer.backends.base import Backend
from coffer.crypto.seal import RootSource
from coffer.errors import ObjectCorruptError, ObjectNotFoundError
from coffer.ids import PackId, pack_name
from coffer.repository.index import ChunkIndex, read_segment
from coffer.repository.pack import pack_size, read_table
from coffer.verification.findings import DAMAGE, FindingLog
from coffer.verification.inventory import Inventory

INDEX_INCOMPLETE = "index-incomplete"


@dataclass(slots=True)
class Placement:
    """Where chunks lie.

    Attributes:
        index: Of the packs that are there.
        lost: Of the packs that are named and missing.
        sizes: Pack → its size in the store [bytes].
        digests: Pack → SHA-256 of the table that the index has of it.
        unindexed: Packs that no segment names; their own tables are in `index`.
        misfits: Packs of another size than their table says.
        damaged_segments: How many segments could not be read.
    """

    sizes: dict[PackId, int]
    index: ChunkIndex = field(default_factory=ChunkIndex)
    lost: ChunkIndex = field(default_factory=ChunkIndex)
    digests: dict[PackId, bytes] = field(default_factory=dict)
    unindexed: set[PackId] = field(default_factory=set)
    misfits: set[PackId] = field(default_factory=set)
    damaged_segments: int = 0


def place_chunks(
    backend: Backend, roots: RootSource, inventory: Inventory, notes: FindingLog, tick: Callable[[], None]
) -> Placement:
    """Read every index segment, and the tables of packs that no segment names.

    A damaged segment is an error; its packs are read themselves. A pack that is named and missing, or of another size,
    is an error; one that no segment names is a hint, as a killed run leaves it and the next backup adopts it.

    Args:
        backend: The store.
        roots: The repository's keys.
        inventory: What the store holds.
        notes: Takes the findings.
        tick: Called before each object is read; may raise.
    """
    placement = Placement(inventory.packs)
    for name, size in sorted(inventory.segments.items()):
        tick()
        try:
            for pack_id, table in read_segment(backend, roots, name, size):
                _place(placement, name, pack_id, bytes(table), notes)
        except DAMAGE as error:
            placement.damaged_segments += 1
            notes.damage(name, error)
    for pack_id, size in sorted(inventory.packs.items()):
        if pack_id not in placement.digests:
            tick()
            _place_unindexed(placement, backend, roots, pack_id, size, notes)
    return placement


def _place(placement: Placement, segment: str, pack_id: PackId, table: bytes, notes: FindingLog) -> None:
    name = pack_name(pack_id)
    expected, digest = pack_size(pack_id, table), hashlib.sha256(table).digest()
    if placement.digests.setdefault(pack_id, digest) != digest:
        raise ObjectCorruptError(f"{segment}: has another table of {name} than another segment", object=segment)
    size = placement.sizes.get(pack_id)
    if size is None:
        placement.lost.add_table(pack_id, table)
        notes.error(name, ObjectNotFoundError.code, f"{name}: missing, {segment} names it", if_needed=True)
        return
    placement.index.add_table(pack_id, table)
    if size != expected:
        placement.misfits.add(pack_id)
        notes.error(name, ObjectCorruptError.code, f"{name}: {size} bytes, {expected} by the index")


def _place_unindexed(
    placement: Placement, backend: Backend, roots: RootSource, pack_id: PackId, size: int, notes: FindingLog
) -> None:
    name = pack_name(pack_id)
    try:
        table = read_table(backend, roots, pack_id, size)
        if pack_size(pack_id, table) != size:
            raise ObjectCorruptError(f"{name}: its table belongs to a pack of another size", object=name)
        placement.index.add_table(pack_id, table)
    except DAMAGE as error:
        # No writer leaves half an object: this was altered, or put there by someone.
        notes.damage(name, error)
        return
    placement.unindexed.add(pack_id)
    if placement.damaged_segments:
        notes.hint(name, "orphan-pack", f"{name}: in no readable index segment; read by its own table")
    else:
        notes.hint(name, "orphan-pack", f"{name}: in no index segment; the next backup takes it in")


def judge_index(placement: Placement, needed: set[PackId], notes: FindingLog) -> None:
    """Report that snapshots need packs that no segment names, unless a damaged segment tells why.

    A segment is durable before the snapshot that relies on it (I2), so one is missing.
    """
    if needed and not placement.damaged_segments:
        names = ", ".join(pack_name(pack_id) for pack_id in sorted(needed)[:3])
        notes.error(
            "index/",
            INDEX_INCOMPLETE,
            f"index/: a segment is missing, {len(needed)} packs that snapshots need are in none ({names})",
        )
