"""The server that is backed up: made once for each version, copied for each round, changed in known ways.

pgbench's tables, with a tenth of each page of accounts left free: an UPDATE then stays within its page, as it does in
tables that are updated often. Autovacuum is off, so that nothing changes while the tools run one after another.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks import trees
from benchmarks.layout import POSTGRES_DIR
from benchmarks.measure import CommandError
from benchmarks.postgres.pages import PAGE_BYTES
from tests.harness.postgres import ROLES, Installation, Server, free_port, unprivileged, wait_for

DATABASE = "bench"
SCRATCH_DIR = POSTGRES_DIR / "scratch"
GOLD_DIR = POSTGRES_DIR / "gold"
SEGMENT_BYTES = 16 << 20
ARCHIVE_SCRIPT = "archive-pgbackrest-and-others.sh"  # pgBackRest wants to see its name in archive_command
_PATIENCE_S = 3600
_FILL_FACTOR = 90
_ACCOUNTS_PER_UNIT = 100_000
_SETTINGS = {
    "fsync": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "wal_keep_size": "1GB",  # pg_basebackup -X fetch asks for the segments at the end
}
# A digest that no order changes, of every table. It also reads every row, which sets the hint bits of new ones.
_DIGEST_SQL = """
    SELECT count(*), sum(hashint8((aid::bigint << 32) + abalance)::bigint) FROM pgbench_accounts
    UNION ALL SELECT count(*), sum(hashint8((tid::bigint << 32) + tbalance)::bigint) FROM pgbench_tellers
    UNION ALL SELECT count(*), sum(hashint8((bid::bigint << 32) + bbalance)::bigint) FROM pgbench_branches
    UNION ALL SELECT count(*), sum(hashint8((aid::bigint << 32) + delta)::bigint) FROM pgbench_history
"""
# Rows that compress to about a half; pgbench's own filler is blank.
_TEXT_SQL = """
    INSERT INTO pgbench_branches SELECT bid, 0, md5('b' || bid) FROM generate_series(1, {scale}) AS bid;
    INSERT INTO pgbench_tellers SELECT tid, (tid - 1) / 10 + 1, 0, md5('t' || tid)
        FROM generate_series(1, {scale} * 10) AS tid;
    INSERT INTO pgbench_accounts
        SELECT aid, (aid - 1) / 100000 + 1, 0, left(md5('x' || aid) || md5('y' || aid) || md5('z' || aid), 84)
        FROM generate_series(1, {scale} * 100000) AS aid;
"""
FILLERS = ("blank", "text")

Digest = list[tuple[int, int | None]]


@dataclass(frozen=True)
class Content:
    """What the cluster holds: pgbench's scale (one unit is 100,000 rows, 15 MB), and what is in the rows' filler."""

    scale: int
    filler: str = "blank"

    def __str__(self) -> str:
        """Return the name of it, as the results are keyed."""
        return f"{self.filler}-{self.scale}"


def own(path: Path, mode: int = 0o700) -> Path:
    """Make the folder `path`, belonging to the server's user, and return it."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    shutil.chown(path, unprivileged().pw_uid, unprivileged().pw_gid)
    return path


def settings_of(installation: Installation, home: Path) -> dict[str, str]:
    """Return the settings of the server in `home`; it archives by the script that lies there."""
    archiving = {"archive_mode": "on", "archive_command": f"sh {shlex.quote(f'{home}/{ARCHIVE_SCRIPT}')} %p %f"}
    return {**_SETTINGS, **archiving, **({"summarize_wal": "on"} if installation.major >= 17 else {})}


def gold(installation: Installation, content: Content) -> Path:
    """Return the home of a stopped cluster with this content, made when it is not there yet."""
    target = GOLD_DIR / f"pg{installation.major}-{content}"
    return trees.make_once(target, lambda home: _make(installation, home, content))


def _make(installation: Installation, home: Path, content: Content) -> None:
    settings = {**_SETTINGS, "fsync": "off"}
    server = Server(installation, own(home), free_port(), settings)
    run(server, "initdb", "-D", server.data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C", "-k")
    with (server.data / "postgresql.conf").open("a") as file:
        file.write("\ninclude_if_exists = 'harness.conf'\n")
    server.start()
    try:
        server.sql(ROLES)
        server.sql("ALTER ROLE postgres SET synchronous_commit = off")  # of the load only
        server.sql(f"CREATE DATABASE {DATABASE}")
        fill(server, content)
        server.sql("VACUUM (FREEZE, ANALYZE)", dbname=DATABASE)
        digest(server)
        server.sql("CHECKPOINT")
    finally:
        server.stop()


def fill(server: Server, content: Content) -> None:
    """Make pgbench's tables and fill them."""
    scale = ("-s", str(content.scale), "-F", str(_FILL_FACTOR), DATABASE)
    if content.filler == "blank":
        run(server, "pgbench", "-i", "-q", "-I", "dtgvp", *scale)
        return
    run(server, "pgbench", "-i", "-q", "-I", "dt", *scale)
    server.sql(_TEXT_SQL.format(scale=content.scale), dbname=DATABASE)
    run(server, "pgbench", "-i", "-q", "-I", "vp", *scale)


def run(server: Server, program: str, *arguments: str | Path) -> str:
    """Run one of PostgreSQL's programs on the server to its end, however long it takes.

    Raises:
        CommandError: it failed.
    """
    done = server.program(program, *arguments, timeout_s=_PATIENCE_S)
    if done.returncode != 0:
        raise CommandError(f"{program} failed: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def start_copy(installation: Installation, content: Content, home: Path) -> Server:
    """Copy the cluster to `home` and start it. Its WAL is not archived until `archive_by` says how."""
    source = gold(installation, content)
    own(home)
    subprocess.run(["cp", "-a", "--reflink=auto", str(source / "data"), str(home / "data")], check=True)
    trees.warm(home / "data")
    archive_by(home, [])
    return Server(installation, home, free_port(), settings_of(installation, home)).start()


def archive_by(home: Path, lines: list[str]) -> None:
    """Let the server in `home` archive each segment by these lines of shell ($1 path, $2 name); takes hold at once."""
    script, partial = home / ARCHIVE_SCRIPT, home / f"{ARCHIVE_SCRIPT}.partial"
    partial.write_text("\n".join(["set -e", *lines, "exit 0", ""]))
    partial.chmod(0o644)
    os.replace(partial, script)


def digest(server: Server) -> Digest:
    """Return the number of rows and a digest of each table."""
    return [
        (int(rows), None if total is None else int(total)) for rows, total in server.sql(_DIGEST_SQL, None, DATABASE)
    ]


def settle(server: Server) -> None:
    """Bring the server to rest: everything in its files, and all its WAL archived."""
    server.sql("CHECKPOINT")
    last = server.value("SELECT pg_walfile_name(pg_switch_wal())")
    archived = "SELECT coalesce(last_archived_wal >= %s, false) FROM pg_stat_archiver"
    wait_for(lambda: server.value(archived, (last,)), f"the archiving of {last}", _PATIENCE_S)


def page_step(*, pages: int, accounts_pages: int, share: float = 0.01) -> int:
    """Return which step over the accounts' pages alone takes `share` of all `pages` of the cluster."""
    return max(1, accounts_pages // max(1, round(pages * share)))


def change_one_percent(server: Server, pages: int) -> int:
    """Update one row in every n-th page of accounts, so that 1 % of the cluster's `pages` change; return how many."""
    accounts_pages = server.value("SELECT pg_relation_size('pgbench_accounts')", None, DATABASE) // PAGE_BYTES
    step = page_step(pages=pages, accounts_pages=accounts_pages)
    updated = server.value(
        "WITH done AS (UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE ctid = ANY(ARRAY("
        "SELECT format('(%%s,1)', page)::tid FROM generate_series(0, %s, %s) AS page)) RETURNING 1)"
        " SELECT count(*) FROM done",
        (accounts_pages - 1, step),
        DATABASE,
    )
    return int(updated)


def load(server: Server, transactions: int, *, seed: int) -> None:
    """Let two clients run this number of pgbench's transactions between them."""
    counts = ("-c", "2", "-j", "2", "-t", str(max(1, transactions // 2)))
    run(server, "pgbench", "-n", *counts, f"--random-seed={seed}", DATABASE)


def write_segments(server: Server, segments: int, content: Content, *, seed: int) -> None:
    """Let pgbench run until this number of whole WAL segments has been written."""
    start = server.value("SELECT pg_current_wal_insert_lsn()")
    goal_bytes = (segments + 1) * SEGMENT_BYTES
    written = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)"
    while server.value(written, (start,)) < goal_bytes:
        server.sql("CHECKPOINT")  # each page's first change behind it is logged whole
        load(server, content.scale * 200, seed=seed)
        seed += 1
