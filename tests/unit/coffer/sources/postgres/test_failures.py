"""What real servers say when something fails, and which error of the tree it becomes."""

from __future__ import annotations

import signal

import psycopg2
import pytest

from coffer.errors import CofferError, InterruptedRunError
from coffer.errors_postgres import (
    PostgresAuthError,
    PostgresError,
    PostgresHbaError,
    PostgresReplicationDeniedError,
    PostgresSettingError,
    PostgresUnavailableError,
)
from coffer.sources.postgres.connection import connect_replication, connect_sql
from coffer.sources.postgres.failures import MAX_TEXT, server_errors, translate
from tests.harness.postgres import PASSWORD, free_port, wait_for


def refusal(connect, target):
    """The error with which a connection is refused."""
    with pytest.raises(CofferError) as caught:
        connect(target)
    assert target.label in str(caught.value)
    assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.hint}"
    assert not str(caught.value).endswith(".")
    return caught.value


@pytest.mark.parametrize("connect", [connect_sql, connect_replication])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"password": "wrong"}, PostgresAuthError),
        ({"user": "nobody-there"}, PostgresAuthError),
    ],
    ids=["wrong-password", "unknown-role"],
)
def test_a_wrong_identity_is_refused(server, connect, changes, expected):
    """A wrong password and an unknown role are the user's mistake: permanent."""
    error = refusal(connect, server.connection(**changes))
    # PostgreSQL does not tell an unknown role from a wrong password; for replication pg_hba.conf speaks first.
    assert type(error) in ((expected, PostgresHbaError) if "user" in changes else (expected,))
    assert not error.transient


def test_a_missing_password_is_refused(server, monkeypatch):
    """A server that wants a password and gets none is a question of identity too."""
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    assert PostgresAuthError is type(refusal(connect_sql, server.connection(password=None)))


def test_a_role_without_the_replication_privilege_is_refused(server):
    """The role `plain` may log in and has a line in pg_hba.conf, but not the privilege."""
    error = refusal(connect_replication, server.connection(user="plain"))
    assert PostgresReplicationDeniedError is type(error)
    assert "ALTER ROLE" in error.hint


def test_a_connection_that_pg_hba_does_not_know_is_refused(server):
    """The role `outsider` may replicate, but no line of pg_hba.conf lets it in."""
    error = refusal(connect_replication, server.connection(user="outsider"))
    assert PostgresHbaError is type(error)
    assert "host replication" in error.hint


def test_an_unknown_database_is_refused(server):
    """The message names it."""
    error = refusal(connect_sql, server.connection(dbname="nowhere"))
    assert PostgresError is type(error)
    assert "nowhere" in str(error)


def test_a_port_without_a_server_is_worth_another_try(server):
    """Nothing listens: the server may be restarting."""
    error = refusal(connect_sql, server.connection(port=free_port()))
    assert (PostgresUnavailableError, True) == (type(error), error.transient)


def test_a_host_that_has_no_address_is_worth_another_try(server):
    """A name that does not resolve may be a name server that is away (.invalid never resolves)."""
    assert PostgresUnavailableError is type(refusal(connect_sql, server.connection(host="db.invalid")))


def test_a_server_without_tls_is_refused_where_tls_is_asked_for(server):
    """There is no fall back to a connection in the clear."""
    error = refusal(connect_sql, server.connection(sslmode="require"))
    assert PostgresSettingError is type(error)
    assert "TLS" in error.hint


def test_taken_wal_senders_are_worth_another_try(servers):
    """Each sender is in use: another backup runs."""
    server = servers.start(max_wal_senders="1")
    held = connect_replication(server.connection())
    error = refusal(connect_replication, server.connection())
    held.close()
    server.close()
    assert (PostgresUnavailableError, True) == (type(error), error.transient)
    assert "max_wal_senders" in error.hint


def test_a_server_without_replication_names_its_setting(servers):
    """wal_level = minimal allows no WAL sender at all: trying again is of no use."""
    server = servers.start(wal_level="minimal", max_wal_senders="0")
    error = refusal(connect_replication, server.connection())
    server.close()
    assert PostgresSettingError is type(error)
    assert "wal_level" in error.hint


def test_a_server_that_shuts_down_is_worth_another_try(servers):
    """A smart shutdown waits for its clients and refuses new ones."""
    server = servers.start()
    held = connect_sql(server.connection())
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "received smart shutdown" in server.log, "the shutdown to begin")
    error = refusal(connect_sql, server.connection())
    held.close()
    server.close()
    assert (PostgresUnavailableError, True) == (type(error), error.transient)
    assert "shutting down" in str(error)


def test_a_standby_that_takes_no_queries_yet_is_worth_another_try(servers):
    """A server in recovery without hot_standby answers that it is not ready."""
    server = servers.start()
    server.stop(signal.SIGKILL)
    server.write("standby.signal", "")
    server.settings["hot_standby"] = "off"
    (server.data / "postmaster.pid").unlink()
    server.start(wait=False)
    wait_for(lambda: "entering standby mode" in server.log, "the recovery to begin")
    error = refusal(connect_sql, server.connection())
    server.close()
    assert (PostgresUnavailableError, True) == (type(error), error.transient)
    assert "pg-conn" == error.code


def test_a_connection_that_is_cut_is_worth_another_try(server):
    """The administrator ended our session: another one can be had."""
    opened = connect_sql(server.connection())
    server.sql("SELECT pg_terminate_backend(%s)", [opened.info.backend_pid])
    with pytest.raises(PostgresUnavailableError), server_errors("here"), opened.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_a_cancelled_query_is_an_interruption(server):
    """Somebody stopped it on purpose."""
    opened = connect_sql(server.connection())
    with pytest.raises(InterruptedRunError), server_errors("here"), opened.cursor() as cursor:
        cursor.execute("SET statement_timeout = 20; SELECT pg_sleep(30)")
    opened.close()


def test_a_missing_grant_is_told_with_its_sqlstate(server):
    """The details carry what a program can act on."""
    opened = connect_sql(server.connection(user="plain"))
    with pytest.raises(PostgresError) as caught, server_errors("here", table="x"), opened.cursor() as cursor:
        cursor.execute("SELECT rolpassword FROM pg_authid")
    opened.close()
    assert {"sqlstate": "42501", "table": "x"} == caught.value.details
    assert "pg_monitor" in caught.value.hint


def test_a_long_message_is_cut():
    """A server cannot fill a log with one error."""
    error = translate(psycopg2.OperationalError("x" * 100_000), "here")
    assert len(str(error)) < MAX_TEXT + 50
