"""The small commands of the replication protocol, at real servers."""

from __future__ import annotations

import pytest

from coffer.errors import UsageError
from coffer.errors_postgres import PostgresSlotLostError, PostgresSystemChangedError
from coffer.postgres.lsn import Lsn
from coffer.sources.postgres.connection import connect_sql
from coffer.sources.postgres.replication import ReplicationSession, advance_slot


@pytest.fixture
def session(server):
    """A replication connection."""
    with ReplicationSession(server.connection()) as opened:
        yield opened


def test_the_cluster_says_who_it_is(server, session):
    """System identifier, timeline and position are those of the server's own functions."""
    identity = session.identify()
    assert (server.value("SELECT system_identifier FROM pg_control_system()"), 1) == (
        identity.system_id,
        identity.timeline,
    )
    assert identity.flushed <= Lsn.parse(server.value("SELECT pg_current_wal_flush_lsn()::text"))
    assert identity == session.identify(identity.system_id) or identity.flushed < session.identify().flushed


def test_another_cluster_is_refused(session):
    """Both identifiers are named."""
    with pytest.raises(PostgresSystemChangedError, match="the backups are of 42"):
        session.identify(42)


def test_settings_are_shown(server, session):
    """A setting as SHOW writes it; a name that could change the command is a programming error."""
    assert "replica" == session.show("wal_level")
    assert 16 << 20 == session.wal_segment_bytes()
    assert server.installation.major == session.version // 10000
    with pytest.raises(ValueError, match="not a setting's name"):
        session.show("wal_level; SELECT 1")


def test_the_first_timeline_has_no_history(session):
    """Nothing is asked for it."""
    assert b"" == session.timeline_history(1)


def test_a_slot_is_made_once_and_dropped_once(session, slot):
    """Both are idempotent; a new slot keeps WAL from its first moment."""
    assert session.read_slot(slot) is None
    assert session.create_slot(slot)
    assert not session.create_slot(slot)
    assert session.read_slot(slot).restart > 0
    assert session.drop_slot(slot)
    assert not session.drop_slot(slot)


@pytest.mark.parametrize("name", ["", "A", "x-y", "x'; DROP", "x" * 64])
def test_names_outside_the_alphabet_are_refused(session, name):
    """Before anything is sent."""
    with pytest.raises(UsageError, match="slot"):
        session.read_slot(name)


def test_a_slot_that_is_not_there_cannot_be_advanced(server):
    """The error says so."""
    sql = connect_sql(server.connection())
    try:
        with pytest.raises(PostgresSlotLostError, match="does not exist"):
            advance_slot(sql, "x", "nobody", Lsn(1))
    finally:
        sql.close()
