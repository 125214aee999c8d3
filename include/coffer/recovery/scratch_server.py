"""A real server on a restored data folder: for us alone, on a unix socket, and never as root.

It is given a configuration of its own: what the original says of memory, libraries, certificates, archiving and other
servers does not count. Nothing that it could do reaches another machine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.clock import SYSTEM_CLOCK, Clock
from coffer.errors import InterruptedRunError, UsageError
from coffer.errors_postgres import PostgresAuthError, PostgresUnavailableError, ScratchServerError
from coffer.postgres.programs import Programs, find_programs
from coffer.recovery.scratch_space import ScratchSpace, require_open
from coffer.restore.cluster.settings import BEGIN, END
from coffer.sources.postgres.connection import PostgresConnection, connect_sql

PORT = 5432  # of the socket's name; nobody else uses its folder
_POLL_S = 0.05
_MAX_SETTINGS_BYTES = 1 << 20
_STATUS_LINE = 7  # of postmaster.pid, see LOCK_FILE_LINE_PM_STATUS of pidfile.h
_FIRST_TRANSACTION_TIMEOUT = 17
_ACCESS = "local all all trust\n"  # the socket's folder is closed to everybody else
_ERROR_WORDS = ("FATAL", "PANIC", "ERROR")
# What holds whatever the restored files say: these stand on the command line.
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "unix_socket_group": "",
    "ssl": "off",
    "archive_mode": "off",
    "archive_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "external_pid_file": "",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
    "log_statement": "none",
    "lc_messages": "C",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "hot_standby": "off",  # nobody reads before the target; then the original's limits need not be met
    "wal_level": "replica",
    "max_wal_senders": "0",
    "max_connections": "40",
    "max_locks_per_transaction": "1024",  # a dump locks every table
    "max_worker_processes": "8",
    # A copy of a subscriber would fetch from the real publisher, and use up what the original still needs.
    "max_logical_replication_workers": "0",
    "max_sync_workers_per_subscription": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    "jit": "off",
    "restart_after_crash": "off",
    "zero_damaged_pages": "off",
    "ignore_checksum_failure": "off",
    "ignore_invalid_pages": "off",
    "default_transaction_read_only": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "cluster_name": "coffer scratch",
}
_SINCE_17 = {"transaction_timeout": "0", "event_triggers": "off"}
_LEAST_PREPARED = 64  # transactions; the original's number counts where it is larger


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to start.

    Attributes:
        superusers: Names to try as the role that initdb made, in order.
        recorded: Settings of the original, as SHOW wrote them.
        settings: Further ones; these win.
        start_timeout_s: How long recovery may take [s].
    """

    superusers: tuple[str, ...] = ()
    recorded: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    start_timeout_s: float = 6 * 3600.0


class ScratchServer:
    """A server on the data folder of a space. It ends with the space."""

    def __init__(
        self,
        space: ScratchSpace,
        options: ServerOptions | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        stop: threading.Event | None = None,
    ) -> None:
        """Find the programs of the cluster's version.

        Raises:
            ScratchServerError: The folder is no data folder, there are no programs of its version on this machine, or
                the server's user does not get to them.
        """
        self.space = space
        self._options = options or ServerOptions()
        self._clock, self._stop = clock, stop or threading.Event()
        self.major = read_major(space.data)
        self.programs = server_programs(self.major)
        require_open(self.programs.path("postgres"), space.user)
        self._superuser = ""

    # ----------------------------------------------------------------------------------------------- start

    def start(self) -> None:
        """Start it, and wait until it has recovered to its target and takes queries.

        Raises:
            ScratchServerError: It ended, or did not come so far in time; the message has its own words, `details` the
                last lines of its log.
            InterruptedRunError: Asked to stop.
        """
        self._write_configuration()
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PGDATA": str(self.space.data)}
        self.space.run(self._command(), environment)
        until_s = self._clock.monotonic_s() + self._options.start_timeout_s
        while not self._is_ready():
            if self.space.has_ended():
                raise self._failure(f"ended with code {self.space.exit_code}")
            if self._clock.monotonic_s() >= until_s:
                raise self._failure(f"was not ready within {self._options.start_timeout_s:.0f} s")
            if self._stop.wait(_POLL_S):
                raise InterruptedRunError("scratch server: stopped by request", reason="stopped")
        self._end_prepared()

    def _end_prepared(self) -> None:
        """Roll back prepared transactions: at this moment they have not committed, and their locks keep readers out."""
        with self.connected("template1") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT database, gid FROM pg_prepared_xacts")
            prepared = cursor.fetchall()
        for database, gid in prepared:
            with self.connected(database) as connection, connection.cursor() as cursor:
                cursor.execute("ROLLBACK PREPARED %s", [gid])

    def _command(self) -> list[str]:
        root = self.space.root
        settings = {
            **_SETTINGS,
            **(_SINCE_17 if self.major >= _FIRST_TRANSACTION_TIMEOUT else {}),
            "config_file": str(root / "postgresql.conf"),
            "hba_file": str(root / "pg_hba.conf"),
            "ident_file": str(root / "pg_ident.conf"),
            "unix_socket_directories": str(self.space.sockets),
            "max_prepared_transactions": str(self._prepared()),
            **self._options.settings,
        }
        words = [str(self.programs.path("postgres")), "-D", str(self.space.data)]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        return words

    def _prepared(self) -> int:
        recorded = self._options.recorded.get("max_prepared_transactions", "")
        return max(_LEAST_PREPARED, int(recorded) if recorded.isdecimal() and len(recorded) < 7 else 0)

    def _write_configuration(self) -> None:
        for name, text in (("postgresql.conf", ""), ("pg_hba.conf", _ACCESS), ("pg_ident.conf", "")):
            path = self.space.root / name
            path.write_text(text, encoding="ascii")
            path.chmod(0o644)
        self._reduce_settings()

    def _reduce_settings(self) -> None:
        """Leave in the folder's own settings only those of the recovery: others may not even be known to this build."""
        path = self.space.data / "postgresql.auto.conf"
        text = ""
        with suppress(OSError), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            text = file.read(_MAX_SETTINGS_BYTES).decode("utf-8", "surrogateescape")
        begin, end = text.rfind(BEGIN), text.rfind(END)
        kept = f"{text[begin:end]}{END}\n" if 0 <= begin < end else ""
        new = self.space.root / path.name
        new.write_text(kept, encoding="utf-8", errors="surrogateescape")
        new.chmod(0o600)
        if self.space.user is not None:
            os.chown(new, self.space.user.pw_uid, self.space.user.pw_gid)
        new.rename(path)

    def _is_ready(self) -> bool:
        """Say whether it takes queries; the role is found on the way."""
        if not self._says_ready():
            return False
        names = (self._superuser,) if self._superuser else dict.fromkeys((*self._options.superusers, "postgres"))
        for name in filter(None, names):
            try:
                connection = connect_sql(self.address("template1", user=name))
            except PostgresUnavailableError as error:
                if "incompatible with operating system" in str(error):  # no waiting helps
                    raise self._failure("cannot open its databases") from None
                return False
            except PostgresAuthError:
                continue
            self._superuser = name
            with closing(connection), connection.cursor() as cursor:
                cursor.execute("SELECT pg_is_in_recovery()")
                row = cursor.fetchone()
            return row is not None and not row[0]
        raise self._failure("knows none of the roles " + ", ".join(names))

    def _says_ready(self) -> bool:
        """Say whether its own lock file says so: connecting earlier would only fill its log."""
        try:
            lines = (self.space.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return False
        return len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() == "ready"

    def _failure(self, what: str) -> ScratchServerError:
        tail = self.space.log_tail()
        told = next((line for line in reversed(tail) if any(word in line for word in _ERROR_WORDS)), "")
        words = f": {told.split(': ', 1)[-1].strip()[:300]}" if told else ""
        return ScratchServerError(
            f"scratch server of PostgreSQL {self.major}: {what}{words}", hint=_advice(told), log=tail
        )

    # ----------------------------------------------------------------------------------------------- use

    def address(self, dbname: str, *, user: str = "") -> PostgresConnection:
        """Return how a database of it is reached."""
        return PostgresConnection(
            host=str(self.space.sockets), port=PORT, user=user or self._superuser, dbname=dbname, sslmode="disable"
        )

    @contextmanager
    def connected(self, dbname: str) -> Iterator[SqlConnection]:
        """Hand out a connection to a database, in autocommit, and close it.

        Raises:
            PostgresError, PostgresUnavailableError: The database cannot be opened.
        """
        connection = connect_sql(self.address(dbname))
        try:
            yield connection
        finally:
            connection.close()

    def databases(self) -> list[tuple[int, str]]:
        """Return (OID, name) of the databases that take connections, by OID."""
        with self.connected("template1") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT oid::bigint, datname FROM pg_database WHERE datallowconn ORDER BY oid")
            return [(int(oid), str(name)) for oid, name in cursor.fetchall()]

    def stop_server(self) -> None:
        """End it in order; the folder stays until the space is closed."""
        self.space.stop_server()


def read_major(data: Path) -> int:
    """Return the major version of a data folder.

    Raises:
        ScratchServerError: It is none.
    """
    try:
        text = (data / "PG_VERSION").read_text(encoding="ascii").strip()
        return int(text)
    except (OSError, ValueError, UnicodeError):
        raise ScratchServerError(f"scratch server: {data} is no data folder, PG_VERSION is missing or wrong") from None


def server_programs(major: int, also: Sequence[str] = ()) -> Programs:
    """Return the programs of a version.

    Raises:
        ScratchServerError: There are none on this machine.
    """
    try:
        return find_programs(["postgres", *also], exactly=major)
    except UsageError as error:
        raise ScratchServerError(
            f"scratch server of PostgreSQL {major}: {error.message}",
            hint=f"Install the server of that version (Debian: postgresql-{major}), or name its folder of programs in "
            "COFFER_PG_BIN. A cluster starts with its own major version only.",
        ) from None


def _advice(told: str) -> str | None:
    """Return what to do about what a server said last; None where only its words help."""
    if "recovery ended before configured recovery target" in told:
        return (
            "WAL up to the target is missing from the repository. Run 'coffer pg points' to see what can be restored."
        )
    if "could not locate a valid checkpoint record" in told or "could not locate required checkpoint" in told:
        return "WAL of the backup itself is missing. Take a full backup, and look at what 'coffer check' says."
    if "setlocale" in told or "incompatible with operating system" in told:
        return "The cluster's locale is not installed here. Install it (Debian: locales-all)."
    return None
