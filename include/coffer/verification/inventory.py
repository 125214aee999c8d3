"""Which objects a store holds, by kind; what belongs to no repository is named."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from coffer.backends.base import Backend
from coffer.errors import ObjectNameInvalidError
from coffer.ids import PackId
from coffer.postgres import wal_object
from coffer.repository import checkpoint, index, keys, lease, settings, snapshot
from coffer.repository.repository import PACKS_PREFIX
from coffer.verification.findings import FindingLog

_HEX = "0123456789abcdef"
_NAMES = {
    snapshot.PREFIX: re.compile(r"snapshots/[0-9a-f]{8}-[0-9]{8}"),
    checkpoint.PREFIX: re.compile(r"checkpoints/[0-9a-f]{8}-[0-9]{20}"),
    lease.PREFIX: re.compile(r"leases/[0-9a-f]{8}-[0-9]{8}-[0-9]{4}"),
    index.PREFIX: re.compile(r"index/[0-9a-f]{64}"),
    PACKS_PREFIX: re.compile(r"packs/([0-9a-f]{2})/\1[0-9a-f]{62}"),
    keys.PREFIX: re.compile(r"keys/(?:[0-9]{4}|chunk-id|signing)-[0-9]{1,9}"),
    wal_object.PREFIX: re.compile(r"wal/[0-9a-f]{8}/[0-9a-f]{8}(?:-[0-9a-f]{16}-[0-9a-f]{16}|\.history)"),
}
# Where one false name makes a listing fail, the parts of it are listed: what the names there can start with.
_PARTS = {
    "": tuple(_NAMES),
    snapshot.PREFIX: tuple(_HEX),
    checkpoint.PREFIX: tuple(_HEX),
    lease.PREFIX: tuple(_HEX),
    index.PREFIX: tuple(_HEX),
    PACKS_PREFIX: tuple(a + b + "/" for a in _HEX for b in _HEX),
    keys.PREFIX: (*_HEX[:10], "c", "s"),
}


@dataclass(slots=True)
class Inventory:
    """The objects of a repository by kind: name → size [bytes].

    Attributes:
        snapshots, checkpoints, leases, segments, keys, wal: By name.
        packs: By pack id.
        count: Objects of any kind.
        size_bytes: Sum of their sizes.
    """

    snapshots: dict[str, int] = field(default_factory=dict)
    checkpoints: dict[str, int] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    segments: dict[str, int] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    wal: dict[str, int] = field(default_factory=dict)
    packs: dict[PackId, int] = field(default_factory=dict)
    count: int = 0
    size_bytes: int = 0


def take_inventory(backend: Backend, notes: FindingLog) -> Inventory:
    """List the store: snapshots first, then the index, then the rest.

    So a backup that commits meanwhile is seen from its end: whatever a listed snapshot needs is in a later listing.
    """
    found = Inventory()
    found.snapshots = _of_kind(_list(backend, snapshot.PREFIX, notes), snapshot.PREFIX)
    found.segments = _of_kind(_list(backend, index.PREFIX, notes), index.PREFIX)
    everything = _list(backend, "", notes)
    found.checkpoints = _of_kind(everything, checkpoint.PREFIX)
    found.leases = _of_kind(everything, lease.PREFIX)
    found.keys = _of_kind(everything, keys.PREFIX)
    found.wal = _of_kind(everything, wal_object.PREFIX)
    found.packs = {
        PackId(bytes.fromhex(name.rpartition("/")[2])): size
        for name, size in _of_kind(everything, PACKS_PREFIX).items()
    }
    found.count, found.size_bytes = len(everything), sum(everything.values())
    for name in everything:
        if name != settings.NAME and not any(pattern.fullmatch(name) for pattern in _NAMES.values()):
            notes.hint(name, "stray-object", f"{name}: no object of a repository; nothing refers to it")
    return found


def _of_kind(names: dict[str, int], prefix: str) -> dict[str, int]:
    pattern = _NAMES[prefix]
    return {name: size for name, size in names.items() if pattern.fullmatch(name)}


def _list(backend: Backend, prefix: str, notes: FindingLog) -> dict[str, int]:
    """Return name → size of the objects below a prefix, past names that no object can have."""
    found: dict[str, int] = {}
    _list_part(backend, prefix, notes, found)
    return found


def _list_part(backend: Backend, prefix: str, notes: FindingLog, found: dict[str, int]) -> bool:
    """Add what lies below a prefix; say whether the listing failed. The smallest part that fails names the cause."""
    try:
        found.update((info.name, info.size_bytes) for info in backend.list(prefix))
    except ObjectNameInvalidError as error:
        failed = [_list_part(backend, prefix + part, notes, found) for part in _parts(prefix)]
        if not any(failed):
            name = str(error.details.get("name", prefix))
            notes.error(name, error.code, f"{error.message}; other commands fail at it")
        return True
    return False


def _parts(prefix: str) -> tuple[str, ...]:
    if re.fullmatch(r"wal/[0-9a-f]{0,7}|wal/[0-9a-f]{8}/", prefix):
        return tuple(_HEX)
    if re.fullmatch(r"wal/[0-9a-f]{8}", prefix):
        return ("/",)
    fan_out = re.fullmatch(r"packs/([0-9a-f]{2})/", prefix)
    return (fan_out[1],) if fan_out else _PARTS.get(prefix, ())
