"""From what a user calls a snapshot to the snapshot: an id's prefix, latest, latest:SOURCE, latest:SOURCE@TIME."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from coffer.backends.base import ObjectInfo
from coffer.errors import (
    CofferError,
    CryptoError,
    ObjectCorruptError,
    RepositoryError,
    ShortReadError,
    SnapshotAmbiguousError,
    SnapshotNotFoundError,
)
from coffer.repository import snapshot as snapshots
from coffer.repository.concern import Concern, damaged
from coffer.repository.snapshot import Snapshot

DAMAGE = (RepositoryError, CryptoError, ShortReadError)  # what says that an object is not what was written
Load = Callable[[str, int | None], Snapshot | None]  # of an object's name and its size, where that is known
_LATEST = re.compile(r"latest(?::(?P<source>[^@]+))?(?:@(?P<time>.+))?")


class Latest(NamedTuple):
    """The newest snapshot, of a source or of all, of now or of a moment."""

    source: str | None
    moment: str | None


def parse_latest(name: str) -> Latest | None:
    """Return what a name of the form latest:SOURCE@TIME asks for; None where it is of another form."""
    match = _LATEST.fullmatch(name)
    return None if match is None else Latest(match["source"], match["time"])


def by_prefix(repository_id: bytes, infos: Iterable[ObjectInfo], load: Load, prefix: str) -> Snapshot:
    """Return the snapshot whose id begins so.

    Raises:
        SnapshotNotFoundError, SnapshotAmbiguousError: None fits, or several.
        ObjectCorruptError, SignatureError, SizeLimitError: One that fits is damaged.
    """
    if not re.fullmatch(r"[0-9a-f]{1,16}", prefix):
        raise SnapshotNotFoundError(
            f"snapshot {prefix!r}: not an id (hex digits), nor latest, latest:SOURCE or latest:SOURCE@DATE"
        )
    fitting = [i for i in infos if snapshots.snapshot_id(repository_id, i.name).startswith(prefix)]
    found = [s for s in (load(info.name, info.size_bytes) for info in fitting) if s is not None]
    if not found:
        raise SnapshotNotFoundError(f"snapshot {prefix!r}: there is none")
    if len(found) > 1:
        ids = ", ".join(s.id for s in found[:5])
        raise SnapshotAmbiguousError(f"snapshot {prefix!r}: fits {len(found)} of them ({ids})")
    return found[0]


def newest_of(infos: Iterable[ObjectInfo], load: Load, name: str, wanted: Latest, concerns: list[Concern]) -> Snapshot:
    """Return the newest snapshot: of each source the one with the highest number, of these the one finished last.

    A source's numbers rise whatever its clock says; between sources there is only the clock.

    Args:
        infos: The objects of the snapshots, of one source or of all.
        load: Reads one.
        name: What the user said, for messages.
        wanted: What that means.
        concerns: Takes the damaged snapshots that were passed over.

    Raises:
        SnapshotNotFoundError: There is none.
        ObjectCorruptError: A damaged one may be the one that is meant; its hint names the one before it.
    """
    limit_ns = None if wanted.moment is None else _parse_moment_ns(wanted.moment)
    chains: dict[str, _Chain] = {}
    for info in sorted(infos, key=lambda i: i.name):
        chain = chains.setdefault(snapshots.parse_name(info.name)[0], _Chain())
        try:
            chain.take(load(info.name, info.size_bytes), limit_ns)
        except DAMAGE as error:
            chain.take_harmed(info.name, error)
    newest = [chain.newest for chain in chains.values() if chain.newest is not None]
    best = max(newest, key=lambda s: (s.finished_ns, s.sequence), default=None)
    for chain in chains.values():
        if chain.harmed:
            _refuse_doubt(*chain.harmed[-1], name, best)
        concerns += [damaged(error, at) for at, error in chain.passed]
    if best is None:
        of = f" of source {wanted.source!r}" if wanted.source else ""
        until = f" until {wanted.moment}" if wanted.moment else ""
        raise SnapshotNotFoundError(f"snapshot {name!r}: there is none{of}{until}")
    return best


class _Chain:
    """One source's snapshots, as they come: by rising number.

    Attributes:
        newest: The newest that was finished in time.
        harmed: Damaged ones that may be newer than that, and in time.
        passed: Damaged ones that cannot be the newest.
    """

    def __init__(self) -> None:
        self.newest: Snapshot | None = None
        self.harmed: list[tuple[str, CofferError]] = []
        self.passed: list[tuple[str, CofferError]] = []
        self._is_over = False

    def take_harmed(self, name: str, error: CofferError) -> None:
        """Take one that is damaged; behind one that was finished too late it is too late as well."""
        (self.passed if self._is_over else self.harmed).append((name, error))

    def take(self, snapshot: Snapshot | None, limit_ns: int | None) -> None:
        """Take one that is whole, or the mark of a revoked writer."""
        if snapshot is None:
            return
        if limit_ns is not None and snapshot.finished_ns > limit_ns:
            self._is_over = True
            return
        self.newest = snapshot
        self.passed += self.harmed
        self.harmed.clear()


def _refuse_doubt(object_: str, error: CofferError, name: str, best: Snapshot | None) -> None:
    before = "No other one is whole."
    if best is not None:
        before = f"The newest that is whole is {best.id}, number {best.sequence} of {best.source!r}: name it by its id."
    raise ObjectCorruptError(
        f"snapshot {name!r}: {object_} is damaged and may be the one that is meant ({error.message})",
        object=object_,
        hint=before,
    ) from None


def _parse_moment_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SnapshotNotFoundError(
            f"time {text!r}: not of the form 2026-11-01 or 2026-11-01T03:00 (UTC unless it says otherwise)"
        ) from None
    if len(text) <= len("2026-11-01"):  # no form of a date is longer, and none with an hour is as short
        moment += timedelta(days=1, microseconds=-1)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000) * 1000 + 999
