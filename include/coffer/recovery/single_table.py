"""One database, or a few of its tables, as they were at a moment: out of a physical backup, by way of a scratch server.

Of the other databases only the few small files are restored that a recovery must find; their tables are left out, so
that a small table of a large cluster costs little. What WAL says of them is replayed into files that nobody reads, and
where a page is not there, passed over. That the wanted database missed none is looked up in the server's log.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from coffer.clock import SYSTEM_CLOCK, Clock
from coffer.errors import InterruptedRunError, ObjectCorruptError, RestoreError, RestoreTargetError, UsageError
from coffer.errors_postgres import ScratchServerError
from coffer.postgres.children import Child, conninfo, environment, started
from coffer.postgres.names import quoted_name
from coffer.postgres.proof import Proof
from coffer.progress import Progress
from coffer.recovery.scratch_server import ScratchServer, ServerOptions, server_programs
from coffer.recovery.scratch_space import ScratchSpace
from coffer.repository.repository import Repository
from coffer.restore.cluster.execute import restore_cluster
from coffer.restore.cluster.plan import ClusterPlan, plan_cluster_restore
from coffer.restore.cluster.spec import ClusterRestoreOptions
from coffer.restore.cluster.target import RecoveryTarget
from coffer.sources.postgres.connection import PostgresConnection

_SLACK_BYTES = 256 << 20  # what a server writes of its own
_STEP_BYTES = 1 << 20
_FIRST_OWN_OID = 16384  # databases below it are initdb's: small, and templates of others
# As xlogutils.c reports a page that WAL refers to.
_MISSING_PAGE = re.compile(r"page \d+ of relation (\S+/\d+)\S* (?:does not exist|is uninitialized)")


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """What to get, and how.

    Attributes:
        database: Its name at the moment of the backup.
        tables: `schema.table` or `table` each, unquoted, dots only between the two; none for the whole database.
        snapshot: Where to begin; chosen where None.
        scratch: A folder on a disk with room for the database; None: the system's temporary folder.
        schema_only: Definitions without rows.
        data_only: Rows without definitions.
        no_owner: Leave out whose the objects are and who may use them.
        superuser: The role that initdb made, where the snapshot does not say it and it is not "postgres".
        workers: Threads that restore; 0 for one per core.
        start_timeout_s: How long the recovery may take [s].
    """

    database: str
    tables: tuple[str, ...] = ()
    snapshot: str | None = None
    scratch: Path | None = None
    schema_only: bool = False
    data_only: bool = False
    no_owner: bool = False
    superuser: str = ""
    workers: int = 0
    start_timeout_s: float = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class ExtractResult:
    """What was got.

    Attributes:
        snapshot: Id of the snapshot that it began with.
        moment: That it was recovered to, in words.
        database: The database.
        tables: Those that fitted, qualified; empty for the whole database.
        dumped_bytes: Size of the dump [bytes].
        stats: Of the restore: size_bytes, written_bytes, read_bytes, wal_bytes.
        notes: What was decided, for people.
    """

    snapshot: str
    moment: str
    database: str
    tables: tuple[str, ...]
    dumped_bytes: int
    stats: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def extract(
    repo: Repository,
    source: str,
    target: RecoveryTarget,
    options: ExtractOptions,
    *,
    into: BinaryIO | Path | PostgresConnection,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> ExtractResult:
    """Write a database or tables of it, as they were at a moment, as SQL or straight into another database.

    A file appears when it is whole; an existing one is refused. Into another database everything is done in one
    transaction: on any error nothing has changed there. What was restored is removed.

    Args:
        repo: The repository.
        source: Name of the cluster.
        target: The moment.
        options: What of it.
        into: A stream, a new file, or a database, whose dbname counts.
        progress: Counters to keep up to date.
        stop: Once set, the run ends.
        clock: For limits.

    Raises:
        UsageError: The snapshot has no such database, or the database no such table.
        RestoreTargetError: The file exists.
        RestorePointError: Nothing leads to the moment.
        RestoreSpaceError: The scratch folder is too small; nothing was restored.
        ScratchServerError: The server cannot be run, or does not recover.
        RestoreError: pg_dump or psql failed; the message has its words.
        InterruptedRunError: `stop` was set.
    """
    if isinstance(into, Path) and os.path.lexists(into):
        raise RestoreTargetError(f"{into}: exists", hint="Name a file that does not exist yet.")
    stop, progress = stop or threading.Event(), progress or Progress()
    plan = plan_cluster_restore(repo, source, target, snapshot=options.snapshot, stop=stop)
    others = _others(plan, options.database)
    server_programs(plan.facts.major, ["pg_dump"])
    with ScratchSpace(options.scratch or Path(tempfile.gettempdir()), clock) as space:
        space.require_room(_needed_bytes(repo, plan, others) + plan.wal_bytes + _SLACK_BYTES)
        into_scratch = ClusterRestoreOptions(
            tablespaces_below=space.tablespaces,
            durable=False,
            owner=space.owner,
            exclude=_exclude(others),
            workers=options.workers,
            wal_limit_bytes=max(plan.wal_bytes, 1),
        )
        restored = restore_cluster(repo, plan, space.data, options=into_scratch, progress=progress, stop=stop)
        progress.phase = "recovering"
        server = ScratchServer(space, _server_options(plan, options, others), clock=clock, stop=stop)
        server.start()
        _require_whole(space.log, others)
        tables = _find_tables(server, options)
        progress.phase = "dumping"
        dumped = _Dump(server, options, tables, stop).write(into)
        return ExtractResult(
            snapshot=plan.snapshot.id,
            moment=plan.stop.why,
            database=options.database,
            tables=tuple(f"{schema}.{name}" for schema, name in tables),
            dumped_bytes=dumped,
            stats=dict(restored.stats),
            notes=plan.notes,
        )


# ---------------------------------------------------------------------------------------------------- what is left out


def _others(plan: ClusterPlan, database: str) -> list[int]:
    """Return the OIDs of the databases whose tables are not wanted.

    Raises:
        UsageError: The snapshot has no such database.
    """
    known = plan.record.databases
    if database not in known.values():
        there = ", ".join(sorted(known.values())) or "not recorded"
        raise UsageError(
            f"snapshot {plan.snapshot.id}: has no database {database!r}",
            hint=f"Its databases are: {there}. One that was made later needs a later --snapshot or moment.",
        )
    # Those of initdb stay: one is connected to, and new databases may be copied from them while WAL is replayed.
    return sorted(oid for oid, name in known.items() if name != database and oid >= _FIRST_OWN_OID)


def _exclude(others: Sequence[int]) -> tuple[str, ...]:
    """Return the patterns of the tables' files: their names are numbers."""
    patterns: list[str] = []
    for oid in others:
        patterns += [f"/base/{oid}/[0-9]*", f"/pg_tblspc/*/*/{oid}/[0-9]*"]
    return tuple(patterns)


def _needed_bytes(repo: Repository, plan: ClusterPlan, others: Sequence[int]) -> int:
    """Return how much of the snapshot is restored [bytes]; reads the part of its manifest that is about the others."""
    manifest = repo.manifest(plan.snapshot)
    size_bytes = manifest.root.size_bytes
    for oid in others:
        size_bytes -= sum(entry.size_bytes for entry in manifest.children(b"base/%d" % oid) if entry.name[:1].isdigit())
    return max(0, size_bytes)


def _server_options(plan: ClusterPlan, options: ExtractOptions, others: Sequence[int]) -> ServerOptions:
    names = [options.superuser] if options.superuser else []
    if plan.record.proof is not None:
        with contextlib.suppress(ObjectCorruptError):  # a damaged proof is no reason not to get a table
            names.append(Proof.parse(plan.record.proof).superuser)
    settings = {"ignore_invalid_pages": "on"} if others else {}
    return ServerOptions(tuple(names), plan.record.settings, settings, start_timeout_s=options.start_timeout_s)


def _require_whole(log: Path, others: Sequence[int]) -> None:
    """Make sure that WAL found every page that it needed, but for the databases that were left out.

    Raises:
        ScratchServerError: One is missing that is wanted.
    """
    left_out = {str(oid) for oid in others}
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            found = _MISSING_PAGE.search(line)
            if found is not None and found[1].split("/")[-2] not in left_out:
                raise ScratchServerError(f"scratch server: WAL needs a page that is missing, {found[0]}")


# ---------------------------------------------------------------------------------------------------- the dump


def _find_tables(server: ScratchServer, options: ExtractOptions) -> list[tuple[str, str]]:
    """Return (schema, name) of the tables that are meant.

    Raises:
        UsageError: One of them is not there.
    """
    found: list[tuple[str, str]] = []
    if not options.tables:
        return found
    with server.connected(options.database) as connection, connection.cursor() as cursor:
        for wanted in options.tables:
            schema, _, name = wanted.rpartition(".")
            cursor.execute(
                "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind IN ('r', 'p', 'm', 'v', 'S', 'f') AND c.relname = %s AND (%s = '' OR n.nspname = %s)"
                " AND n.nspname !~ '^pg_' ORDER BY 1",
                [name, schema, schema],
            )
            rows = cursor.fetchall()
            if not rows:
                raise UsageError(
                    f"database {options.database!r}: has no table {wanted!r} at that moment",
                    hint="Write it as schema.table, with capitals as they are. Was it made later, or dropped before?",
                )
            found += rows
    return list(dict.fromkeys(found))


class _Dump:
    """One run of pg_dump."""

    def __init__(
        self, server: ScratchServer, options: ExtractOptions, tables: Sequence[tuple[str, str]], stop: threading.Event
    ) -> None:
        self._server, self._options, self._tables, self._stop = server, options, tables, stop
        self._programs = server_programs(server.major, ["pg_dump"])

    def write(self, into: BinaryIO | Path | PostgresConnection) -> int:
        """Write it; return its size [bytes]."""
        if isinstance(into, PostgresConnection):
            return self._load(into)
        if isinstance(into, Path):
            return self._write_file(into)
        return self._copy(into)

    def _command(self) -> list[str]:
        options = self._options
        words = [str(self._programs.path("pg_dump")), "--no-password"]
        words += ["--schema-only"] if options.schema_only else []
        words += ["--data-only"] if options.data_only else []
        words += ["--no-owner", "--no-privileges"] if options.no_owner else []
        words += [f"--table={quoted_name(schema, name)}" for schema, name in self._tables]
        return [*words, f"--dbname={conninfo(self._server.address(options.database).parameters())}"]

    def _copy(self, sink: BinaryIO) -> int:
        parameters = self._server.address(self._options.database).parameters()
        with started(self._command(), environment(parameters)) as child:
            written = 0
            for piece in _pieces(child, self._stop):
                sink.write(piece)
                written += len(piece)
            _require_success(child)
        return written

    def _write_file(self, path: Path) -> int:
        """Write a file that has its name once it is whole; mode 0600, for it may hold what not everybody may read."""
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
                temporary = Path(file.name)
                try:
                    written = self._copy(file)  # type: ignore[arg-type]  # its wrapper is a BinaryIO in all but name
                    file.flush()
                    os.fsync(file.fileno())
                    os.link(temporary, path)
                finally:
                    temporary.unlink()
        except FileExistsError:
            raise RestoreTargetError(f"{path}: exists", hint="Name a file that does not exist yet.") from None
        except OSError as error:
            raise RestoreTargetError(
                f"{path}: cannot be written ({error.strerror})", hint="Name another file by --output."
            ) from None
        return written

    def _load(self, target: PostgresConnection) -> int:
        """Load it into a database, all or nothing.

        The transaction is ours to end, and not psql's: psql takes the end of its input for the end of the work, also
        where it ends because we were killed.
        """
        psql = server_programs(self._server.major, ["psql"]).path("psql")
        command = [str(psql), "--no-psqlrc", "--quiet", "--no-password"]
        command += ["--set=ON_ERROR_STOP=1", "--output=/dev/null", f"--dbname={conninfo(target.parameters())}"]
        with started(command, environment(target.parameters()), stdin=subprocess.PIPE, stdout=None) as loader:
            assert loader.stdin is not None  # a pipe
            try:
                loader.stdin.write(b"BEGIN;\n")
                written = self._copy(loader.stdin)  # type: ignore[arg-type]  # as above
                loader.stdin.write(b"\nCOMMIT;\n")
                loader.stdin.close()
            except BrokenPipeError:
                written = 0  # it ended early; its own words come with its exit code
                with contextlib.suppress(OSError):
                    loader.stdin.close()
            _require_success(loader)
        return written


def _pieces(child: Child, stop: threading.Event) -> Iterator[bytes]:
    assert child.stdout is not None  # a pipe
    while piece := os.read(child.stdout.fileno(), _STEP_BYTES):
        if stop.is_set():
            raise InterruptedRunError("extract: stopped by request", reason="stopped")
        yield piece


def _require_success(child: Child) -> None:
    """Raise what a program said, if it failed."""
    code = child.wait()
    if code:
        words = next((line for line in reversed(child.lines) if "error" in line.lower()), "")
        words = words or (child.lines[-1] if child.lines else "no reason given")
        raise RestoreError(
            f"{child.name}: ended with code {code}: {words[:300]}",
            hint="Nothing was changed in the target. The message has the program's own words.",
        )
