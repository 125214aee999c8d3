"""The moment that a recovery is to stop at, as the user says it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from coffer.errors import SourceFormatError, UsageError
from coffer.postgres.lsn import MAX_TIMELINE, Lsn

MAX_NAME_BYTES = 63  # of a restore point: MAXFNAMELEN of xlog_internal.h, less its zero byte
_XID = re.compile(r"[0-9]{1,20}")
_FIRST_XID = 3  # FirstNormalTransactionId of transam.h
_FORMS = "latest, immediate, time:2026-11-25T08:00:00Z, lsn:0/3000028, name:before_deploy or xid:1234"


class TargetKind(Enum):
    """Kinds of moments."""

    LATEST = "latest"
    IMMEDIATE = "immediate"
    TIME = "time"
    LSN = "lsn"
    NAME = "name"
    XID = "xid"


@dataclass(frozen=True, slots=True)
class RecoveryTarget:
    """A moment, as it was asked for.

    Attributes:
        kind: LATEST: the end of all WAL that was saved. IMMEDIATE: the end of the backup itself.
        value: A position ``0/3000028``, a time in ISO 8601 with its zone, a name, or a transaction's number; empty for
            the others.
        timeline: The one that is meant; None for the newest that leads on from a snapshot.
        inclusive: Whether the record or transaction at the moment is restored too. Of an LSN: True also replays the
            record that begins there, as PostgreSQL does; False gives what the server had when pg_current_wal_lsn()
            said this LSN.
        note: What was taken for granted while it was read, for people; empty if nothing.
    """

    kind: TargetKind
    value: str = ""
    timeline: int | None = None
    inclusive: bool = True
    note: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.value}" if self.value else self.kind.value

    @property
    def lsn(self) -> Lsn:
        """The position, of a target of kind LSN."""
        return Lsn.parse(self.value)

    @property
    def time_us(self) -> int:
        """The time, of a target of kind TIME [us since the Unix epoch]."""
        moment = datetime.fromisoformat(self.value)
        delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds

    @property
    def xid(self) -> int:
        """The transaction as records have it: the low 32 bits, of a target of kind XID."""
        return int(self.value) & 0xFFFF_FFFF


def parse_target(text: str, *, timeline: int | None = None, inclusive: bool = True) -> RecoveryTarget:
    """Read a target from a user's words.

    Args:
        text: ``latest``, ``immediate``, or a kind, a colon and a value.
        timeline: The one that is meant.
        inclusive: See `RecoveryTarget`.

    Raises:
        UsageError: It is none; the message says what is wrong with it.
    """
    word, colon, value = text.partition(":")
    try:
        kind = TargetKind(word)
    except ValueError:
        raise UsageError(f"target {text!r}: not of a known kind", hint=f"Give {_FORMS}.") from None
    if timeline is not None and not 1 <= timeline <= MAX_TIMELINE:
        raise UsageError(f"timeline {timeline}: not from 1 to {MAX_TIMELINE}")
    takes_value = kind not in (TargetKind.LATEST, TargetKind.IMMEDIATE)
    if takes_value != bool(value) or (colon and not value):
        what = "needs a value behind a colon" if takes_value else "takes no value"
        raise UsageError(f"target {text!r}: {word} {what}", hint=f"Give {_FORMS}.")
    if not inclusive and not takes_value:
        raise UsageError(f"target {text!r}: nothing can be left out at it", hint="Leave --exclusive out.")
    note = ""
    if kind is TargetKind.TIME:
        value, note = _time(text, value)
    elif kind is TargetKind.LSN:
        value = _lsn(text, value)
    elif kind is TargetKind.NAME:
        _require_name(text, value)
    elif kind is TargetKind.XID:
        _require_xid(text, value)
    return RecoveryTarget(kind, value, timeline, inclusive, note)


def _time(text: str, value: str) -> tuple[str, str]:
    """Return (time in UTC, note): a time without a zone is one of UTC, and that is said."""
    hint = "Write it like time:2026-11-25T08:00:00Z or time:2026-11-25T09:00:00+01:00."
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise UsageError(f"target {text!r}: not a time", hint=hint) from None
    if len(value) <= len("2026-11-25"):
        raise UsageError(f"target {text!r}: a date without a time of day", hint=hint)
    note = ""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
        note = f"the time {value} was taken as UTC, as it names no zone"
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"target {text!r}: beyond the calendar", hint=hint) from None
    return moment.isoformat(), note


def _lsn(text: str, value: str) -> str:
    try:
        return str(Lsn.parse(value))
    except SourceFormatError:
        raise UsageError(
            f"target {text!r}: not an LSN", hint="Write it as pg_current_wal_lsn() does: lsn:0/3000028."
        ) from None


def _require_name(text: str, value: str) -> None:
    size = len(value.encode("utf-8", "surrogateescape"))
    if size > MAX_NAME_BYTES or "\0" in value:
        raise UsageError(
            f"target {text!r}: no restore point has this name",
            hint=f"A name has at most {MAX_NAME_BYTES} bytes; it is the one given to pg_create_restore_point().",
        )


def _require_xid(text: str, value: str) -> None:
    if not _XID.fullmatch(value) or int(value) >= 1 << 64 or int(value) & 0xFFFF_FFFF < _FIRST_XID:
        raise UsageError(
            f"target {text!r}: not the number of a transaction", hint="Write it as pg_current_xact_id() does: xid:1234."
        )
