"""The small commands of the replication protocol, each as a function with types.

Source: PostgreSQL documentation, "Streaming Replication Protocol" (versions 15 to 18 are alike here). A replication
connection takes simple queries only, so names are checked against their alphabet and then written into the command.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.errors import UsageError
from coffer.errors_postgres import PostgresSlotLostError, PostgresSystemChangedError
from coffer.postgres.lsn import Lsn
from coffer.sources.postgres.connection import PostgresConnection, connect_replication
from coffer.sources.postgres.failures import server_errors

_SLOT_NAME = re.compile(r"[a-z0-9_]{1,63}")
_SETTING_NAME = re.compile(r"[a-z_]+")


@dataclass(frozen=True, slots=True)
class SystemIdentity:
    """Which cluster answers, and where it is.

    Attributes:
        system_id: Made by initdb; another one is another cluster.
        timeline: The one that the server writes, or for a standby the one that it replays.
        flushed: End of the WAL that is on the server's disk.
    """

    system_id: int
    timeline: int
    flushed: Lsn


@dataclass(frozen=True, slots=True)
class SlotPosition:
    """Where a physical slot stands.

    Attributes:
        restart: The server keeps WAL from here on; None where nothing is reserved, or the slot was invalidated.
        timeline: Of `restart`; None with it.
    """

    restart: Lsn | None
    timeline: int | None


class ReplicationSession:
    """A replication connection and its commands. Not for several threads; closed by `close` or `with`."""

    def __init__(self, target: PostgresConnection) -> None:
        """Connect.

        Raises:
            PostgresUnavailableError, PostgresError: As `connect_replication`.
        """
        self.target = target
        self.connection = connect_replication(target)

    def __enter__(self) -> ReplicationSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a command that runs is broken off. Idempotent."""
        self.connection.close()

    @property
    def version(self) -> int:
        """The server's version as in server_version_num (150018 for 15.18)."""
        return int(self.connection.server_version)

    def identify(self, expected_system_id: int | None = None) -> SystemIdentity:
        """Ask which cluster this is, and where its WAL ends.

        Args:
            expected_system_id: Of the cluster that was backed up before; None where there was none.

        Raises:
            PostgresSystemChangedError: It is another one.
        """
        system_id, timeline, flushed, _ = self._rows("IDENTIFY_SYSTEM")[0]
        found = SystemIdentity(int(system_id), int(timeline), Lsn.parse(flushed))
        if expected_system_id is not None and found.system_id != expected_system_id:
            raise PostgresSystemChangedError(
                f"postgres {self.target.label}: system identifier is {found.system_id}, the backups are of "
                f"{expected_system_id}",
                found=found.system_id,
                expected=expected_system_id,
            )
        return found

    def show(self, setting: str) -> str:
        """Return the value of a setting, as SHOW writes it (with its unit)."""
        if not _SETTING_NAME.fullmatch(setting):
            raise ValueError(f"not a setting's name: {setting!r}")
        return str(self._rows(f"SHOW {setting}")[0][0])

    def wal_segment_bytes(self) -> int:
        """Return the size of a WAL segment [bytes]; a power of two from 1 MiB to 1 GiB."""
        number, unit = re.fullmatch(r"(\d+)(MB|GB)", self.show("wal_segment_size")).groups()  # type: ignore[union-attr]  # SHOW has no other form
        return int(number) << (20 if unit == "MB" else 30)

    def timeline_history(self, timeline: int) -> bytes:
        """Return the history file of a timeline; empty for the first, which has none.

        Raises:
            PostgresError: The server does not have it.
        """
        if timeline == 1:
            return b""
        content = self._rows(f"TIMELINE_HISTORY {int(timeline)}")[0][1]
        return content.encode() if isinstance(content, str) else bytes(content)

    def read_slot(self, name: str) -> SlotPosition | None:
        """Return where a slot stands; None where there is no such slot."""
        kind, restart, timeline = self._rows(f"READ_REPLICATION_SLOT {slot_name(name)}")[0]
        if kind is None:
            return None
        return SlotPosition(Lsn.parse(restart) if restart else None, int(timeline) if timeline else None)

    def create_slot(self, name: str) -> bool:
        """Create a physical slot that keeps WAL from now on, where there is none.

        Returns:
            bool: False where there was one; it is as it was.

        Raises:
            PostgresSettingError: No slot is left, or the server's wal_level does not allow any.
            PostgresReplicationDeniedError: The role may not.
        """
        if self.read_slot(name) is not None:
            return False
        self._rows(f"CREATE_REPLICATION_SLOT {slot_name(name)} PHYSICAL (RESERVE_WAL)")
        return True

    def drop_slot(self, name: str) -> bool:
        """Drop a slot; the server may remove the WAL that it kept.

        Returns:
            bool: False where there was none.

        Raises:
            PostgresSlotBusyError: Somebody reads from it; it stays.
        """
        if self.read_slot(name) is None:
            return False
        with server_errors(self.target.label, slot=name), self.connection.cursor() as cursor:
            cursor.execute(f"DROP_REPLICATION_SLOT {slot_name(name)}")
        return True

    def _rows(self, command: str) -> list[Any]:
        with server_errors(self.target.label), self.connection.cursor() as cursor:
            cursor.execute(command)
            return cursor.fetchall()


def slot_name(name: str) -> str:
    """Return the name as a command may hold it.

    Raises:
        UsageError: It is outside PostgreSQL's alphabet for slots.
    """
    if not _SLOT_NAME.fullmatch(name):
        raise UsageError(f"slot {name!r}: a slot's name has 1 to 63 of a-z, 0-9 and _")
    return name


def advance_slot(connection: SqlConnection, label: str, name: str, to: Lsn) -> Lsn:
    """Let the server remove WAL before a position. Only for what is durable in the repository. Idempotent.

    A slot never goes back: where it is further already, nothing happens.

    Args:
        connection: For SQL, in autocommit.
        label: The cluster, for messages.
        name: Of the slot.
        to: The first byte that is still needed.

    Returns:
        Lsn: Where the slot stands now.

    Raises:
        PostgresSlotLostError: There is no such slot, or it was invalidated.
        PostgresSlotBusyError: Somebody reads from it.
    """
    with server_errors(label, slot=name), connection.cursor() as cursor:
        cursor.execute("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = %s", [name])
        row = cursor.fetchone()
        if row is None or row[0] is None:
            state = "does not exist" if row is None else "has lost its WAL"
            raise PostgresSlotLostError(f"postgres {label}: replication slot {name} {state}", slot=name)
        at = Lsn.parse(row[0])
        if at >= to:
            return at
        cursor.execute("SELECT end_lsn FROM pg_replication_slot_advance(%s, %s::pg_lsn)", [name, str(to)])
        (end,) = cursor.fetchone() or (str(at),)
        return Lsn.parse(end)
