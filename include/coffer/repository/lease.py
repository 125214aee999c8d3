"""Leases: a writer at work says so, and takes the number of its snapshot.

A lease keeps prune away from the writer's packs. It is a write-once object; renewing it puts a further one. Its name
fixes the name of the snapshot that the writer may commit, which one conditional put then does (invariant I3): if the
writer was revoked meanwhile, the *revoked* mark stands at that very name and the put fails.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass

from coffer.backends.base import Backend
from coffer.clock import Clock
from coffer.crypto.keyring import Keyring
from coffer.crypto.seal import KIND_LEASE, open_single, seal_single
from coffer.errors import (
    CofferError,
    CryptoError,
    LeaseLostError,
    ObjectCorruptError,
    ObjectExistsError,
    ObjectNotFoundError,
    RepositoryError,
    ShortReadError,
)
from coffer.repository import snapshot as snapshots
from coffer.repository.objects import read_whole

PREFIX = "leases/"
LEASE_S = 6 * 3600  # longer than a backup window (00:00-06:00) rarely needs to be renewed
RENEW_BEFORE_S = LEASE_S // 2
MAX_OBJECT_BYTES = 4096  # (I7); a lease has about 170
_NAME = re.compile(r"leases/([0-9a-f]{8})-([0-9]{8})-([0-9]{4})")
_NUMBERS_HINT = "Was this object put by hand? 'coffer check' shows it. Move it away, or give the source a new name."
_ATTEMPTS = 1000  # of taking a number; each loss means that another writer of this source won one


@dataclass(slots=True)
class Lease:
    """A writer's claim.

    Attributes:
        source_tag: Of the source.
        sequence: The number that its snapshot will have.
        renewals: How many objects it has put, from 1.
        deadline_ns: Until when it holds, by the writer's clock [ns since the Unix epoch].
    """

    source_tag: str
    sequence: int
    renewals: int
    deadline_ns: int

    @property
    def snapshot_name(self) -> str:
        """The only name at which the writer may commit."""
        return snapshots.object_name(self.source_tag, self.sequence)

    @property
    def object_names(self) -> list[str]:
        """Names of the objects it has put."""
        return [_name(self.source_tag, self.sequence, number) for number in range(1, self.renewals + 1)]


def acquire(backend: Backend, keyring: Keyring, source_tag: str, clock: Clock, *, above: int = 0) -> Lease:
    """Take the next free number of a source; on return the lease is durable.

    Args:
        backend: The store.
        keyring: The repository's keys.
        source_tag: Of the source.
        clock: Tells the deadline.
        above: A number that was used, as this machine remembers: a store that was rolled back does not show it.

    Raises:
        LeaseLostError: Other writers of the same source won every time.
        ObjectCorruptError: No number is left: an object bears the last one, as no writer does; nothing was put.
    """
    sequence = max(above, newest_number(backend, keyring, source_tag))
    for _ in range(_ATTEMPTS):
        sequence += 1
        if sequence > snapshots.MAX_SEQUENCE:
            name = snapshots.object_name(source_tag, sequence - 1)
            raise ObjectCorruptError(
                f"source {source_tag}: no number is left after {sequence - 1}", object=name, hint=_NUMBERS_HINT
            )
        lease = Lease(source_tag, sequence, 0, 0)
        try:
            renew(backend, keyring, lease, clock)
        except ObjectExistsError:
            continue
        # Between the listing and this put, another writer may have taken the number, committed, and released it.
        if not _ended(backend, source_tag, sequence):
            return lease
        release(backend, lease)
    raise LeaseLostError(f"source {source_tag}: no lease after {_ATTEMPTS} attempts")


def newest_number(backend: Backend, keyring: Keyring, source_tag: str) -> int:
    """Return the highest number that a snapshot, a mark or a lease of the source bears; 0 where there is none.

    A stray name bears none. Nor does a lease that does not open: whoever can write to the store could use up all
    numbers by one; if a writer made it, its name is still taken, and that decides.
    """
    highest = 0
    for info in backend.list(f"{snapshots.PREFIX}{source_tag}-"):
        if snapshots.is_name(info.name):
            highest = max(highest, snapshots.parse_name(info.name)[1])
    for name in _listed(backend, source_tag):
        number = parse_name(name)[1]
        if number > highest and _opens(backend, keyring, name):
            highest = number
    return highest


def _listed(backend: Backend, source_tag: str) -> list[str]:
    """Return the names of a source's lease objects; a stray one among them is for `check` to report."""
    return [info.name for info in backend.list(f"{PREFIX}{source_tag}-") if _NAME.fullmatch(info.name)]


def _opens(backend: Backend, keyring: Keyring, name: str) -> bool:
    try:
        deadline_ns(backend, keyring, name)
    except (ObjectNotFoundError, ShortReadError, RepositoryError, CryptoError):
        return False
    return True


def renew(backend: Backend, keyring: Keyring, lease: Lease, clock: Clock) -> None:
    """Put the lease's next object; on return it holds for `LEASE_S` from now on."""
    deadline_ns = clock.now_ns() + LEASE_S * 1_000_000_000
    body = json.dumps({"deadline_ns": deadline_ns, "writer": secrets.token_hex(8)}).encode()
    backend.put(_name(lease.source_tag, lease.sequence, lease.renewals + 1), [seal_single(keyring, KIND_LEASE, body)])
    lease.renewals += 1
    lease.deadline_ns = deadline_ns


def needs_renewal(lease: Lease, clock: Clock) -> bool:
    """Say whether less than half of the lease is left."""
    return lease.deadline_ns - clock.now_ns() < RENEW_BEFORE_S * 1_000_000_000


def release(backend: Backend, lease: Lease) -> None:
    """Remove the lease's objects after the commit. A store that refuses is left alone: the snapshot says it ended."""
    for name in lease.object_names:
        try:
            backend.delete(name)
        except CofferError:
            return


def revoke(backend: Backend, keyring: Keyring, source_tag: str, sequence: int) -> bool:
    """Put the *revoked* mark at a writer's snapshot name; say whether the mark stands there.

    False means that the writer committed first. Safe to repeat.
    """
    name = snapshots.object_name(source_tag, sequence)
    try:
        backend.put(name, [snapshots.encode_revoked(keyring, name)])
    except ObjectExistsError:
        return snapshots.is_revoked(keyring, name, read_whole(backend, name, snapshots.MAX_OBJECT_BYTES))
    return True


def deadline_ns(backend: Backend, keyring: Keyring, name: str) -> int:
    """Return until when one lease object holds [ns since the Unix epoch].

    Raises:
        ObjectCorruptError, SizeLimitError: It is damaged or forged.
        ObjectNotFoundError: It was released meanwhile.
    """
    plain = open_single(keyring, KIND_LEASE, read_whole(backend, name, MAX_OBJECT_BYTES), name)
    try:
        return int(json.loads(plain)["deadline_ns"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ObjectCorruptError(f"{name}: lease is damaged", object=name) from None


def sweep(backend: Backend, keyring: Keyring, source_tag: str, clock: Clock) -> tuple[int, bool]:
    """Tidy up after writers of a source that ended without releasing their lease.

    A lease whose snapshot exists is removed. A lease past its deadline is revoked first, then removed. A lease that
    still holds is left: its writer may live. So is a damaged one, which cannot be judged: `check` names it.

    Returns:
        (how many leases were removed, whether any unfinished one was seen: its packs may be in no index segment).
    """
    latest: dict[int, list[str]] = {}
    for name in _listed(backend, source_tag):
        latest.setdefault(parse_name(name)[1], []).append(name)
    removed, unfinished = 0, False
    for sequence, names in sorted(latest.items()):
        if not _ended(backend, source_tag, sequence):
            unfinished = True
            try:
                if deadline_ns(backend, keyring, max(names)) > clock.now_ns():
                    continue
                revoke(backend, keyring, source_tag, sequence)
            except (ObjectNotFoundError, ShortReadError, RepositoryError, CryptoError):
                continue
        for name in names:
            backend.delete(name)
        removed += 1
    return removed, unfinished


def parse_name(name: str) -> tuple[str, int, int]:
    """Return (source tag, sequence, renewal) of a lease's object name.

    Raises:
        ObjectCorruptError: No writer makes such a name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ObjectCorruptError(f"{name}: not the name of a lease", object=name)
    return match[1], int(match[2]), int(match[3])


def _ended(backend: Backend, source_tag: str, sequence: int) -> bool:
    try:
        backend.stat(snapshots.object_name(source_tag, sequence))
    except ObjectNotFoundError:
        return False
    return True


def _name(source_tag: str, sequence: int, number: int) -> str:
    return f"{PREFIX}{source_tag}-{sequence:08d}-{number:04d}"
