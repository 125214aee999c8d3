"""What a real server says of itself, to a role that may replicate and to one that may less."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from coffer.errors import CofferError
from coffer.errors_postgres import (
    PostgresAuthError,
    PostgresHbaError,
    PostgresReplicationDeniedError,
    PostgresVersionError,
)
from coffer.sources.postgres.connection import connect_sql
from coffer.sources.postgres.replication import ReplicationSession
from coffer.sources.postgres.server_facts import Setting, server_facts, slots_of

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize(
    ("setting", "size"),
    [(Setting("16", "MB"), 16 << 20), (Setting("2", "8kB"), 16384), (Setting("5"), 5), (Setting("-1", "MB"), -1)],
)
def test_a_size_counts_in_its_unit(setting, size):
    """As pg_settings has it; a negative one is no size."""
    assert size == setting.size_bytes


@pytest.mark.parametrize(
    ("setting", "seconds"),
    [(Setting("500", "ms"), 0.5), (Setting("2", "min"), 120.0), (Setting("3", "s"), 3.0), (Setting("-1", "ms"), -1)],
)
def test_a_time_counts_in_its_unit(setting, seconds):
    """As pg_settings has it; a negative one is no time."""
    assert seconds == setting.seconds


def test_a_server_tells_what_it_is(server):
    """Version, role, settings with their units, and the system identifier that its own programs show."""
    facts = server_facts(server.connection())
    assert server.installation.major == facts.major
    assert facts.version_text.startswith(str(server.installation.major))
    assert ("backup", False, True, False, True) == (
        facts.role,
        facts.is_superuser,
        facts.may_replicate,
        facts.is_standby,
        facts.is_local,
    )
    assert ("replica", 16 << 20, 60.0) == (
        facts.settings["wal_level"].value,
        facts.settings["wal_segment_size"].size_bytes,
        facts.settings["wal_sender_timeout"].seconds,
    )
    shown = server.must("pg_controldata", "-D", server.data)
    assert f"Database system identifier:           {facts.identity.system_id}" in shown
    assert "postgres" in facts.database_names
    assert facts.database_names == tuple(database.name for database in facts.databases)


def test_what_only_pg_monitor_may_see_is_absent_for_others(server):
    """The place of the data folder, for one; everything else is there."""
    assert str(server.data) == server_facts(server.connection()).settings["data_directory"].value
    plain = server_facts(server.connection(user="plain"))
    assert "data_directory" not in plain.settings
    assert "wal_level" in plain.settings


@pytest.mark.parametrize(
    ("user", "may", "error"),
    [("plain", False, PostgresReplicationDeniedError), ("outsider", True, PostgresHbaError)],
)
def test_a_refusal_of_replication_is_told_and_not_raised(server, user, may, error):
    """The role lacks REPLICATION, or pg_hba.conf a line; all else is told as ever."""
    facts = server_facts(server.connection(user=user))
    assert may == facts.may_replicate
    assert isinstance(facts.identity, error)


def test_a_wrong_password_is_raised(server):
    """There is nothing to tell."""
    with pytest.raises(PostgresAuthError):
        server_facts(server.connection(password="another"))


def test_a_server_that_is_too_old_is_raised(server, monkeypatch):
    """Its catalogs are others."""
    monkeypatch.setattr("coffer.sources.postgres.server_facts.OLDEST_VERSION", 990000)
    with pytest.raises(PostgresVersionError, match=f"version {server.installation.major} is older"):
        server_facts(server.connection())


def test_a_slot_is_told_with_what_it_holds_back(server, slot):
    """None is held back by a new one; what is written then is."""
    with ReplicationSession(server.connection()) as session:
        session.create_slot(slot)
    server.sql("SELECT pg_logical_emit_message(false, 'x', repeat('y', 1000000))")
    server.sql("SELECT pg_switch_wal()")
    connection = connect_sql(server.connection())
    found = slots_of(connection, "label")[slot]
    connection.close()
    assert ("physical", False, "reserved", None, False) == (
        found.kind,
        found.active,
        found.wal_status,
        found.safe_bytes,
        found.is_lost,
    )
    assert found.lag_bytes > 1_000_000


def test_a_slot_that_was_given_up_is_lost(servers):
    """With 1 MB to hold back, three segments are too much."""
    server = servers.start(max_slot_wal_keep_size="1MB", min_wal_size="32MB", max_wal_size="32MB")
    with ReplicationSession(server.connection()) as session:
        session.create_slot("coffer_test")
    for _ in range(3):
        server.sql("SELECT pg_logical_emit_message(false, 'x', repeat('y', 1000000))")
        server.sql("SELECT pg_switch_wal()")
    server.sql("CHECKPOINT")
    found = server_facts(server.connection()).slots["coffer_test"]
    assert (True, None) == (found.is_lost, found.restart)


def test_tables_that_a_backup_or_a_proof_leaves_out_are_counted(servers):
    """Unlogged ones with their names; those that the role may not read; none of the server's own."""
    server = servers.start()
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE UNLOGGED TABLE cart (a int)", dbname="shop")
    server.sql("CREATE TABLE hidden (a int)", dbname="shop")
    server.sql("CREATE TABLE open (a int)", dbname="shop")
    server.sql("GRANT SELECT ON open TO backup", dbname="shop")
    facts = server_facts(server.connection())
    shop = next(database for database in facts.databases if database.name == "shop")
    assert (1, ("cart",), 2, 1, "") == (
        shop.unlogged,
        shop.unlogged_names,
        shop.tables,
        shop.unreadable,
        shop.failure,
    )


def test_a_database_that_lets_nobody_in_is_told(servers):
    """It is no error of the whole."""
    server = servers.start()
    server.sql("CREATE DATABASE closed")
    server.sql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    facts = server_facts(server.connection())
    (closed,) = [database for database in facts.databases if database.name == "closed"]
    assert "permission denied" in closed.failure


def test_tablespaces_are_told(servers):
    """With their places; the server's own are not."""
    server = servers.start()
    place = server.home / "fast"
    place.mkdir()
    shutil.chown(place, *_owner(server))
    server.sql(f"CREATE TABLESPACE fast LOCATION '{place}'")
    assert (("fast", str(place)),) == server_facts(server.connection()).tablespaces


def test_a_standby_says_so(servers):
    """And where it is: its slots hold back what it replayed."""
    primary = servers.start()
    standby = servers.start_standby(primary)
    facts = server_facts(standby.connection())
    assert facts.is_standby
    assert not isinstance(facts.identity, CofferError)
    assert server_facts(primary.connection()).identity.system_id == facts.identity.system_id


def test_the_socket_of_a_server_is_this_machine(server):
    """No TLS there, and none is needed."""
    facts = server_facts(replace(server.connection(), host=str(server.home), user="postgres", password=None))
    assert (True, "", True) == (facts.is_local, facts.tls, facts.is_superuser)


def _owner(server):
    """The owner of a server's folder."""
    found = server.home.stat()
    return found.st_uid, found.st_gid
