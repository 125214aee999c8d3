"""How a cluster is reached: what is hidden, what is encrypted, and what each connection can do."""

from __future__ import annotations

import dataclasses

import psycopg2.extensions
import pytest

from coffer.errors_postgres import PostgresVersionError
from coffer.sources.postgres import connection as module
from coffer.sources.postgres.connection import PostgresConnection, connect_replication, connect_sql
from tests.harness.postgres import PASSWORD


def test_the_password_is_not_shown():
    """Neither repr nor str nor the label of a connection holds its password."""
    target = PostgresConnection("db.example", user="backup", password="hush-hush")
    assert [] == [text for text in (repr(target), str(target), target.label) if "hush" in text]
    assert "hush-hush" == target.parameters()["password"]


@pytest.mark.parametrize("host", ["/run/postgresql", "@abstract", "localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_may_be_reached_without_tls(host):
    """Bytes that do not leave the machine may go in the clear."""
    given = PostgresConnection(host).parameters()
    assert "prefer" == given["sslmode"]
    assert "ssl_min_protocol_version" not in given


@pytest.mark.parametrize("host", ["db.example", "10.0.0.7", "2001:db8::1", "localhost.example"])
def test_another_machine_is_reached_with_tls_1_3_only(host):
    """There is no silent fall back to an older protocol or to none."""
    given = PostgresConnection(host).parameters()
    assert ("require", "TLSv1.3") == (given["sslmode"], given["ssl_min_protocol_version"])


def test_the_users_choice_of_tls_is_kept():
    """A mode and an authority that are named reach libpq."""
    given = PostgresConnection("db.example", sslmode="verify-full", sslrootcert="/etc/ca.pem").parameters()
    assert ("verify-full", "/etc/ca.pem") == (given["sslmode"], given["sslrootcert"])


def test_what_is_not_given_is_left_to_libpq():
    """Without user and password libpq takes the system's user, PGPASSWORD and the password file."""
    assert {"user", "password", "sslrootcert"} & set(PostgresConnection("/run").parameters()) == set()


def test_sql_runs_in_autocommit_under_our_name(server):
    """A statement is its own transaction, and the server's views show who is asking."""
    opened = connect_sql(server.connection())
    with opened.cursor() as cursor:
        cursor.execute("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        assert ("coffer",) == cursor.fetchone()
    assert psycopg2.extensions.TRANSACTION_STATUS_IDLE == opened.info.transaction_status
    opened.close()


def test_a_replication_connection_identifies_the_system(server):
    """The protocol's own commands are understood."""
    opened = connect_replication(server.connection())
    with opened.cursor() as cursor:
        cursor.execute("IDENTIFY_SYSTEM")
        identity = cursor.fetchone()
    opened.close()
    assert str(server.value("SELECT system_identifier FROM pg_control_system()")) == identity[0]


def test_the_password_can_come_from_a_file(server, tmp_path, monkeypatch):
    """PGPASSFILE is enough: no password needs to be given to Coffer at all."""
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"127.0.0.1:{server.port}:*:backup:{PASSWORD}\n", encoding="utf-8")
    passfile.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    target = dataclasses.replace(server.connection(), password=None)
    for connect in (connect_sql, connect_replication):
        opened = connect(target)
        assert 0 == opened.closed
        opened.close()


def test_an_older_server_is_refused_by_its_version(server, monkeypatch):
    """What psycopg2 would read for ever is refused first. The limit is raised, for no older server is at hand."""
    monkeypatch.setattr(module, "OLDEST_VERSION", 990000)
    with pytest.raises(PostgresVersionError, match=rf"version {server.installation.major} is older") as caught:
        connect_replication(server.connection())
    assert "pg-version" == caught.value.code
    assert server.installation.major == caught.value.details["version"]
