"""A real server on a folder of our own: only we reach it, it reaches nobody, and it says why it does not start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from contextlib import closing

import pytest

from coffer.clock import SYSTEM_CLOCK
from coffer.errors import InterruptedRunError
from coffer.errors_postgres import ScratchServerError
from coffer.recovery.scratch_server import ScratchServer, ServerOptions
from coffer.recovery.scratch_space import ScratchSpace
from coffer.sources.postgres.connection import connect_sql
from tests.harness.postgres import unprivileged, wait_for

pytestmark = pytest.mark.postgres


@pytest.fixture
def space(scratch):
    with ScratchSpace(scratch, SYSTEM_CLOCK) as made:
        yield made


@pytest.fixture
def copied(own, space):
    """A space with a copy of a server that was stopped."""
    own.stop()
    subprocess.run(["cp", "-a", own.data, space.data], check=True)
    return space


def started(space, **options):
    server = ScratchServer(space, ServerOptions(**{"superusers": ("postgres",), "start_timeout_s": 60.0, **options}))
    server.start()
    return server


def value(server, query, dbname="postgres"):
    with server.connected(dbname) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def test_it_answers_on_its_socket_and_nowhere_else(copied):
    """No address, no archive, no library, no other server, not as root; the original's own settings do not count."""
    auto = copied.data / "postgresql.auto.conf"
    auto.write_text(
        "archive_mode = 'on'\narchive_command = 'touch /tmp/archived'\nshared_preload_libraries = 'nowhere'\n"
        "primary_conninfo = 'host=production'\nlisten_addresses = '*'\nssl = 'on'\nshared_buffers = '900GB'\n"
        "synchronous_standby_names = 'other'\nlogging_collector = 'on'\nhuge_pages = 'on'\n"
    )
    server = started(copied)
    assert 5000 == value(server, "SELECT count(*) FROM orders")
    shown = {
        name: value(server, f"SHOW {name}")
        for name in ("listen_addresses", "archive_mode", "shared_preload_libraries", "primary_conninfo", "fsync", "ssl")
    }
    assert shown == {
        "listen_addresses": "",
        "archive_mode": "off",
        "shared_preload_libraries": "",
        "primary_conninfo": "",
        "fsync": "off",
        "ssl": "off",
    }
    pid = int((copied.data / "postmaster.pid").read_text().splitlines()[0])
    assert unprivileged().pw_uid == os.stat(f"/proc/{pid}").st_uid
    assert str(copied.sockets) == value(server, "SHOW unix_socket_directories")
    value(server, "SELECT pg_logical_emit_message(true, 'a commit', 'that waits for no standby')")


def test_the_databases_are_listed_by_oid(copied):
    """Those that take connections."""
    server = started(copied)
    assert {"postgres", "template1"} == {name for _, name in server.databases()}


def test_a_role_that_is_not_there_is_passed_over(copied):
    """The next name is tried."""
    assert 1 == value(started(copied, superusers=("missing", "postgres")), "SELECT 1")


def test_a_renamed_superuser_must_be_named(copied):
    """Without its name the roles that were tried are told."""
    server = started(copied)
    with server.connected("postgres") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE ROLE helper SUPERUSER LOGIN")
    with closing(connect_sql(server.address("postgres", user="helper"))) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER ROLE postgres RENAME TO boss")
    server.stop_server()
    with pytest.raises(ScratchServerError, match="knows none of the roles nobody, postgres"):
        started(copied, superusers=("nobody",))
    copied.stop_server()
    assert "boss" == value(started(copied, superusers=("boss",)), "SELECT current_user")


def test_the_servers_own_words_are_in_the_error(copied):
    """What it said last, what to do, and its log."""
    shutil.rmtree(copied.data / "pg_wal")
    (copied.data / "pg_wal").mkdir()
    shutil.chown(copied.data / "pg_wal", unprivileged().pw_uid, unprivileged().pw_gid)
    with pytest.raises(ScratchServerError, match="ended with code 1") as caught:
        started(copied)
    assert "valid checkpoint record" in str(caught.value) or "could not locate" in str(caught.value)
    assert any("checkpoint" in line for line in caught.value.details["log"])


def test_a_server_that_is_not_ready_in_time_is_given_up(copied):
    """It is ended with its space."""
    with pytest.raises(ScratchServerError, match="not ready within 0 s"):
        started(copied, superusers=("postgres",), start_timeout_s=0.0, settings={"authentication_timeout": "1"})


def test_a_stop_ends_the_wait(copied):
    """At once."""
    stop = threading.Event()
    stop.set()
    server = ScratchServer(copied, ServerOptions(("postgres",)), stop=stop)
    with pytest.raises(InterruptedRunError):
        server.start()


def test_no_folder_of_a_cluster_is_refused(space, programs):
    """PG_VERSION says what it is."""
    space.data.mkdir()
    with pytest.raises(ScratchServerError, match="is no data folder"):
        ScratchServer(space)
    (space.data / "PG_VERSION").write_text("many\n")
    with pytest.raises(ScratchServerError, match="is no data folder"):
        ScratchServer(space)


def test_prepared_transactions_keep_nobody_out(own, space):
    """At the moment they had not committed; without their locks every table can be read."""
    own.restart(max_prepared_transactions="5")
    own.sql("BEGIN; ALTER TABLE orders ADD COLUMN more int; PREPARE TRANSACTION 'it''s open'")
    own.stop()
    subprocess.run(["cp", "-a", own.data, space.data], check=True)
    server = started(space, recorded={"max_prepared_transactions": "5"})
    assert 5000 == value(server, "SELECT count(*) FROM orders")
    assert 0 == value(server, "SELECT count(*) FROM pg_prepared_xacts")


def test_another_major_version_is_refused_with_a_hint(copied):
    """A cluster starts with its own programs only."""
    (copied.data / "PG_VERSION").write_text("14\n")
    with pytest.raises(ScratchServerError, match=r"of PostgreSQL 14: .* of version 14: not found") as caught:
        ScratchServer(copied)
    assert "postgresql-14" in caught.value.hint


def test_a_server_that_crashes_is_noticed(copied):
    """It does not start again by itself."""
    server = started(copied)
    pid = int((copied.data / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGQUIT)
    wait_for(copied.has_ended, "its end")
    server.stop_server()
