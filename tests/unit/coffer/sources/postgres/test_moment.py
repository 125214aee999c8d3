"""A moment is exact or says that it is not; that it is, shows where a cluster is recovered to it (test_exactness)."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace

import pytest

from coffer.clock import SYSTEM_CLOCK
from coffer.errors import InterruptedRunError
from coffer.postgres.lsn import Lsn
from coffer.postgres.visibility import VisibleSet
from coffer.sources.postgres import moment
from coffer.sources.postgres.connection import connect_sql
from coffer.sources.postgres.moment import MomentFinder
from tests.harness.postgres import wait_for
from tests.harness.postgres_load import SLOW_COMMITS, Load, make_tables

pytestmark = pytest.mark.postgres


@pytest.fixture
def busy(servers):
    """A server whose commits take two milliseconds, with tables to write to."""
    server = servers.start(**SLOW_COMMITS)
    make_tables(server)
    yield server
    server.close()


def find(server, *, databases=("postgres",), stop=None):
    """Find a moment; return it with what its transactions see of the accounts."""
    target = server.connection()
    control = connect_sql(target)
    connections = [connect_sql(replace(target, dbname=name)) for name in databases]
    now = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END"
    after = Lsn.parse(server.value(f"SELECT ({now})::text"))
    with closing(control):
        try:
            finder = MomentFinder(
                target, control, connections, after=after, segment_bytes=16 << 20, clock=SYSTEM_CLOCK, stop=stop
            )
            found = finder.find()
            with connections[0].cursor() as cursor:
                cursor.execute("SELECT pg_current_snapshot()::text")
                assert cursor.fetchone()[0] == found.snapshots[0]
            return after, found
        finally:
            for connection in connections:
                connection.close()


def test_on_a_quiet_server_the_first_try_is_exact(server):
    """Nothing commits between the snapshot and the position."""
    after, found = find(server)
    assert (True, 1, 1) == (found.is_exact, found.tries, found.timeline)
    assert after <= found.lsn < found.until


def test_under_writers_a_moment_is_found_in_a_few_tries(busy):
    """Also while every commit waits for the disk for milliseconds."""
    with Load(busy, writers=6) as load:
        wait_for(lambda: load.committed > 50, "the first transactions")
        found = [find(busy)[1] for _ in range(5)]
    assert [True] * 5 == [one.is_exact for one in found]
    assert any(VisibleSet.parse(one.snapshots[0]).running for one in found)
    assert max(one.tries for one in found) <= moment._TRIES // 2


def test_several_databases_have_one_moment(busy):
    """Their snapshots agree on every commit, whichever database it was in."""
    busy.sql("CREATE DATABASE second")
    make_tables(busy, "second")
    with Load(busy, writers=4, dbnames=("postgres", "second")) as load:
        wait_for(lambda: load.committed > 50, "the first transactions")
        _, found = find(busy, databases=("postgres", "second"))
    assert found.is_exact
    assert 2 == len(found.snapshots)


def test_without_patience_the_moment_is_near_and_says_so(busy, monkeypatch):
    """It lies behind the snapshots."""
    monkeypatch.setattr(moment, "_TRIES", 1)
    monkeypatch.setattr(moment, "exact_position", lambda *given: None)
    after, found = find(busy)
    assert not found.is_exact
    assert after <= found.lsn <= found.until


def test_a_stop_ends_the_tries(busy, monkeypatch):
    """No transaction stays open."""
    monkeypatch.setattr(moment, "exact_position", lambda *given: None)
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        find(busy, stop=stop)


def test_a_standby_has_moments_too(servers):
    """By the positions of its replay, while the primary writes."""
    primary = servers.start(**SLOW_COMMITS)
    make_tables(primary)
    standby = servers.start_standby(primary, max_prepared_transactions="10")
    with Load(primary) as load:
        wait_for(lambda: load.committed > 50, "the first transactions")
        after, found = find(standby)
    standby.close()
    primary.close()
    assert found.is_exact
    assert after <= found.lsn <= found.until
