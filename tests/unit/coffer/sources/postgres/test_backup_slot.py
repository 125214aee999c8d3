"""A backup whose slot somebody else reads from, when it comes to save its WAL."""

from __future__ import annotations

import threading

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.errors import InterruptedRunError
from coffer.errors_postgres import PostgresSlotBusyError
from coffer.postgres.facts import ClusterFacts, Method
from coffer.postgres.wal_archive import WalArchive
from coffer.sources.postgres import backup
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.spec import ClusterOptions, ClusterSource
from coffer.sources.postgres.wal_receiver import drain, receive
from tests.harness.postgres import wait_for
from tests.harness.repositories import make_repository

pytestmark = pytest.mark.postgres
SLOT = "coffer_primary"
FULL = ClusterOptions(method=Method.FULL, workers=1)


@pytest.fixture
def repo():
    """An empty repository."""
    return make_repository(MemoryBackend())


@pytest.fixture
def own(servers):
    """A server of its own."""
    made = servers.start()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    """Short pauses."""
    monkeypatch.setattr(backup, "_WAL_PAUSE_S", 0.05)


def take(repo, server, stop=None):
    """Back the server up."""
    return backup_cluster(repo, ClusterSource("primary", server.connection(), SLOT), options=FULL, stop=stop)


def holds_its_wal(repo, snapshot):
    """Whether all WAL that a snapshot needs is in the repository."""
    facts = ClusterFacts.of(snapshot)
    return WalArchive(repo, "primary").end_of(facts.timeline, facts.start) >= facts.end


def test_a_backup_beside_a_receiver_takes_what_that_one_saves(repo, own):
    """`coffer wal receive` holds the slot all the time; the backup ends all the same, with all its WAL."""
    take(repo, own)
    stop = threading.Event()
    given = {"slot": SLOT, "stop": stop, "interval_s": 0.2}
    receiver = threading.Thread(target=receive, args=(repo, "primary", own.connection()), kwargs=given)
    receiver.start()
    try:
        wait_for(lambda: own.value("SELECT active FROM pg_replication_slots"), "the receiver")
        result = take(repo, own)
        assert own.value("SELECT active FROM pg_replication_slots")
    finally:
        stop.set()
        receiver.join()
    assert holds_its_wal(repo, result.snapshot)


def test_a_backup_waits_for_another_drain(repo, own, monkeypatch):
    """The slot is busy twice, and then it is the backup's turn."""
    tries = []

    def busy_twice(*given, **options):
        tries.append(1)
        if len(tries) < 3:
            raise PostgresSlotBusyError("slot is active")
        return drain(*given, **options)

    monkeypatch.setattr(backup, "drain", busy_twice)
    assert holds_its_wal(repo, take(repo, own).snapshot)
    assert 3 == len(tries)


def busy(*_, **__):
    """Somebody reads from the slot for ever, and saves nothing here."""
    raise PostgresSlotBusyError("slot is active")


def test_a_reader_that_saves_nothing_here_ends_the_backup(repo, own, monkeypatch):
    """After a while it is told, as an error that is tried again, and no snapshot is made."""
    monkeypatch.setattr(backup, "drain", busy)
    monkeypatch.setattr(backup, "_WAL_ATTEMPTS", 3)
    with pytest.raises(PostgresSlotBusyError):
        take(repo, own)
    assert [] == repo.snapshots()


def test_a_stop_ends_the_wait(repo, own, monkeypatch):
    """At once, and no snapshot is made."""
    stop = threading.Event()

    def busy_and_stopped(*_, **__):
        stop.set()
        raise PostgresSlotBusyError("slot is active")

    monkeypatch.setattr(backup, "drain", busy_and_stopped)
    with pytest.raises(InterruptedRunError):
        take(repo, own, stop)
    assert [] == repo.snapshots()
