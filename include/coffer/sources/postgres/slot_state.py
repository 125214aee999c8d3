"""How far a slot is behind, and how near it is to filling the server's disk or to losing its WAL.

A slot that nobody reads from keeps WAL for ever, until the disk is full and the server stops; or, where
max_slot_wal_keep_size is set, until the server gives it up and there is a gap.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.errors_postgres import PostgresError
from coffer.postgres.lsn import Lsn
from coffer.sources.postgres.failures import server_errors
from coffer.sources.postgres.replication import slot_name

_WARN_SHARE = 2  # warn from one half of the room on: there is then as much time left as has passed
_LOST = "lost"
_UNRESERVED = "unreserved"
_QUERY = """
    SELECT s.slot_name IS NOT NULL, coalesce(s.active, false), s.restart_lsn::text, s.wal_status, s.safe_wal_size,
           (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
           CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                ELSE pg_current_wal_lsn() END::text
    FROM (SELECT 1) one LEFT JOIN pg_replication_slots s ON s.slot_name = %s
"""


class SlotVerdict(Enum):
    """What a slot's state means."""

    OK = "ok"
    WARN = "warn"  # WAL must be saved soon
    LOST = "lost"  # WAL is missing, or will be, for want of a slot


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot and what it holds back.

    Attributes:
        name: Of the slot.
        exists: Whether there is one.
        is_active: Whether somebody reads from it just now.
        restart: The server keeps WAL from here on; None where it keeps none.
        position: The newest WAL of the server; None for a standby that has received nothing.
        wal_status: PostgreSQL's word: reserved, extended, unreserved, lost; None where nothing is reserved.
        safe_wal_bytes: How much may be written before the slot is in danger [bytes]; None where there is no limit.
        keep_bytes: max_slot_wal_keep_size [bytes]; None where there is no limit.
        free_bytes: Free space of the disk with pg_wal [bytes]; None where it is not known.
    """

    name: str
    exists: bool
    is_active: bool
    restart: Lsn | None
    position: Lsn | None
    wal_status: str | None
    safe_wal_bytes: int | None
    keep_bytes: int | None
    free_bytes: int | None = None

    @property
    def lag_bytes(self) -> int:
        """How much WAL the server keeps for it [bytes]."""
        if self.restart is None or self.position is None:
            return 0
        return max(0, self.position - self.restart)

    @property
    def verdict(self) -> SlotVerdict:
        """Whether it is well, near its limit, or lost."""
        return self._judge()[0]

    @property
    def reason(self) -> str:
        """The verdict in words; empty where all is well."""
        return self._judge()[1]

    @property
    def advice(self) -> str:
        """What should be set at the server; empty where nothing."""
        if self.keep_bytes is not None:
            return ""
        return (
            "max_slot_wal_keep_size is not set: if nobody saves WAL, the slot keeps it until the server's disk is full"
        )

    def _judge(self) -> tuple[SlotVerdict, str]:
        if not self.exists:
            return SlotVerdict.LOST, "it does not exist"
        if self.restart is None or self.wal_status == _LOST:
            return SlotVerdict.LOST, "the server gave up its WAL" if self.wal_status == _LOST else "it keeps no WAL"
        if self.wal_status == _UNRESERVED:
            return SlotVerdict.WARN, "the server gives up its WAL at the next checkpoint"
        if self.keep_bytes is not None and self.lag_bytes * _WARN_SHARE >= self.keep_bytes:
            return SlotVerdict.WARN, f"it holds back half of max_slot_wal_keep_size or more ({self.keep_bytes} bytes)"
        if self.free_bytes is not None and self.lag_bytes * _WARN_SHARE >= self.free_bytes:
            return (
                SlotVerdict.WARN,
                f"it holds back half as much as the disk has free, or more ({self.free_bytes} bytes)",
            )
        return SlotVerdict.OK, ""


def slot_state(connection: SqlConnection, slot: str, *, label: str = "", free_bytes: int | None = None) -> SlotState:
    """Ask for the state of a slot; one that does not exist is a state too.

    Args:
        connection: For SQL, in autocommit. Any role may ask.
        slot: Its name.
        label: The cluster, for messages.
        free_bytes: Free space of the server's disk [bytes], where the caller knows it; see `free_disk_bytes`.

    Raises:
        PostgresUnavailableError, PostgresError: No answer.
    """
    with server_errors(label or connection.info.host or "", slot=slot), connection.cursor() as cursor:
        cursor.execute(_QUERY, [slot_name(slot)])
        row = cursor.fetchone()
    assert row is not None, "the query has one row always"
    exists, is_active, restart, wal_status, safe, keep_mb, position = row
    return SlotState(
        name=slot,
        exists=bool(exists),
        is_active=bool(is_active),
        restart=Lsn.parse(restart) if restart else None,
        position=Lsn.parse(position) if position else None,
        wal_status=wal_status,
        safe_wal_bytes=None if safe is None else max(0, int(safe)),
        keep_bytes=None if keep_mb is None or keep_mb < 0 else int(keep_mb) << 20,
        free_bytes=free_bytes,
    )


def free_disk_bytes(connection: SqlConnection, *, label: str = "") -> int | None:
    """Return the free space of the disk that holds pg_wal [bytes], for a server on this machine.

    None where the role may not know the data folder, or this process may not look at it. (pg_monitor is enough.)
    """
    try:
        with server_errors(label), connection.cursor() as cursor:
            cursor.execute("SHOW data_directory")
            (folder,) = cursor.fetchone() or ("",)
        status = os.statvfs(os.path.join(folder, "pg_wal"))
    except (PostgresError, OSError):
        return None
    return status.f_bavail * status.f_frsize
