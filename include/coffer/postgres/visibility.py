"""Which transactions a reader of a cluster saw, and where in the log that was.

A transaction writes its commit record first, waits for the disk, and only then becomes visible to others. So the
position that is read beside a snapshot says little: commits before it may be invisible still. The log itself says which
transactions had committed at which position, and so at which position exactly those are committed that were seen.

Source: PostgreSQL documentation, "Transaction ID and Snapshot Information Functions"; `src/include/access/xact.h` and
`src/backend/access/transam/xact.c`, RecordTransactionCommit and XactLogCommitRecord (versions 15 to 18).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_records import Moment, MomentKind

_FORM = re.compile(r"([0-9]{1,20}):([0-9]{1,20}):((?:[0-9]{1,20},)*[0-9]{1,20})?")
_MAX_XID = (1 << 64) - 1
_XID_RANGE = 1 << 32
_U32 = struct.Struct("<I")
_HAS_DATABASE, _HAS_SUBTRANSACTIONS, _HAS_FILES, _HAS_MESSAGES, _HAS_PREPARED = 1, 2, 4, 8, 16
_HAS_STATISTICS = 1 << 8
_TIME_BYTES, _DATABASE_BYTES, _FILE_BYTES, _MESSAGE_BYTES = 8, 8, 12, 16
_PAGE_HEADER_BYTES = 40  # of WAL; a record may begin behind one
_FIRST_LONG_STATISTICS = 18  # major version: the id of a statistics object has 64 bits from it on


@dataclass(frozen=True, slots=True)
class VisibleSet:
    """The transactions that a snapshot sees, as `pg_current_snapshot()` writes it: `xmin:xmax:xip,...`.

    Attributes:
        first_running: All before it have ended.
        end: None from it on was seen.
        running: Those between that were running still, rising.
    """

    first_running: int
    end: int
    running: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it.

        Raises:
            SourceFormatError: It is not of that form.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise SourceFormatError(f"snapshot {text[:40]!r}: expected numbers of transactions")
        first, end = int(found[1]), int(found[2])
        running = tuple(sorted(map(int, found[3].split(",")))) if found[3] else ()
        if not 0 < first <= end <= _MAX_XID or any(not first <= xid < end for xid in running):
            raise SourceFormatError(f"snapshot {text[:40]!r}: its transactions are out of order")
        return cls(first, end, running)

    def __str__(self) -> str:
        return f"{self.first_running}:{self.end}:{','.join(map(str, self.running))}"

    def widen(self, xid: int) -> int:
        """Return the number of a transaction with its upper half, of which a record has only the lower."""
        full = self.end - self.end % _XID_RANGE + xid
        if full > self.end + _XID_RANGE // 2:
            return full - _XID_RANGE
        return full + _XID_RANGE if full < self.end - _XID_RANGE // 2 else full

    def sees(self, xid: int) -> bool:
        """Say whether what this transaction wrote was seen, given that it has committed; `xid` as records have it."""
        full = self.widen(xid)
        return full < self.end and full not in self.running


@dataclass(frozen=True, slots=True)
class Seen:
    """A snapshot, and what is known of where it was taken.

    Attributes:
        visible: What it sees.
        before: Position of the log right before it was taken.
        after: Right after.
        of_standby: Whether it is a standby's. Its list of running transactions is empty: only the positions tell
            then, and they are those of the replay.
    """

    visible: VisibleSet
    before: Lsn
    after: Lsn
    of_standby: bool = False


def exact_position(seen: Sequence[Seen], commits: Iterable[Moment], begin: Lsn, major: int) -> Lsn | None:
    """Return the position at which exactly the transactions are committed that every one of some snapshots sees.

    A recovery that stops before the first record at or behind the position has replayed the commits that all of them
    see, and none that one of them does not.

    Args:
        seen: The snapshots, at least one.
        commits: The ends of transactions in the log, in its order, from `begin` on and beyond the last snapshot.
        begin: The first position that is wanted. Whoever committed before it is taken to be visible.
        major: The server's major version.

    Returns:
        None where there is no such position: commits became visible in another order than they were written, or one
        fell between two snapshots.
    """
    position = begin
    is_behind = False
    for commit in commits:
        if commit.kind not in (MomentKind.COMMIT, MomentKind.COMMIT_PREPARED):
            continue
        answers = {_is_seen(one, commit, major) for one in seen}
        if answers == {True}:
            if is_behind:
                return None
            position = max(position, commit.span.end)
        elif answers == {False}:
            if commit.span.start < begin:
                return None  # it had committed before the position, and was not seen
            is_behind = True
        else:
            return None
    return position


def _is_seen(one: Seen, commit: Moment, major: int) -> bool | None:
    """Say whether a snapshot sees a transaction that committed; None where nobody can tell."""
    xid: int | None = commit.xid
    if commit.kind is MomentKind.COMMIT_PREPARED:
        xid = prepared_xid(commit.payload, major)
    if xid is None:
        return None
    if not one.of_standby:
        return one.visible.sees(xid)
    if one.visible.widen(xid) >= one.visible.end:
        return False
    if commit.span.end <= one.before:
        return True
    # One record may be replayed and visible already without being counted: the one that begins at `after`.
    return False if commit.span.start > one.after + _PAGE_HEADER_BYTES else None


def prepared_xid(payload: bytes, major: int) -> int | None:
    """Return which prepared transaction a COMMIT PREPARED ends; None where the record is too long to tell."""
    try:
        (what,) = _U32.unpack_from(payload, _TIME_BYTES)
        at = _TIME_BYTES + 4 + (_DATABASE_BYTES if what & _HAS_DATABASE else 0)
        statistics_bytes = 16 if major >= _FIRST_LONG_STATISTICS else 12
        for flag, size in (
            (_HAS_SUBTRANSACTIONS, 4),
            (_HAS_FILES, _FILE_BYTES),
            (_HAS_STATISTICS, statistics_bytes),
            (_HAS_MESSAGES, _MESSAGE_BYTES),
        ):
            if what & flag:
                at += 4 + _U32.unpack_from(payload, at)[0] * size
        return int(_U32.unpack_from(payload, at)[0]) if what & _HAS_PREPARED else None
    except struct.error:
        return None
