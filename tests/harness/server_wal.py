"""What a real server wrote, and making it write more."""

from __future__ import annotations

import threading

from coffer.postgres.lsn import Lsn, Segment
from coffer.sources.postgres.replication import ReplicationSession
from tests.harness.postgres import Server, wait_for

MIB = 1 << 20
# Segments stay on the server's disk, to be compared with, when the slot has moved on.
KEEP = {"wal_keep_size": "2GB", "max_wal_size": "4GB"}


def write_wal(server: Server, rows: int = 20_000) -> None:
    """Write some MiB of WAL: 20,000 rows are about 3 MiB."""
    server.sql("CREATE TABLE IF NOT EXISTS written (n int, text text)")
    server.sql("INSERT INTO written SELECT n, repeat('x', 100) FROM generate_series(1, %s) n", [rows])


def flushed(server: Server) -> Lsn:
    """Return the end of what is on the server's disk."""
    with ReplicationSession(server.connection()) as session:
        return session.identify().flushed


def make_slot(server: Server, name: str = "s") -> Lsn:
    """Create a slot that keeps WAL, and return where it stands."""
    with ReplicationSession(server.connection()) as session:
        session.create_slot(name)
    return slot_at(server, name)


def slot_at(server: Server, name: str = "s") -> Lsn:
    """Return the position of a slot."""
    query = "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
    return Lsn.parse(server.value(query, [name]))


def on_disk(server: Server, timeline: int, start: Lsn, end: Lsn, segment_bytes: int = MIB) -> bytes:
    """Return bytes of the log from the server's own segments.

    The segment in which timelines part is on disk under the newer one's name, or with `.partial`.
    """
    data = bytearray()
    at = int(start)
    while at < end:
        segment = Segment.holding(timeline, Lsn(at), segment_bytes)
        begin = segment.start(segment_bytes)
        stop = min(segment_bytes, end - begin)
        names = [Segment(t, segment.number).name(segment_bytes) for t in range(timeline, timeline + 3)]
        found = [server.data / "pg_wal" / name for name in (names[0], names[0] + ".partial", *names[1:])]
        path = next(path for path in found if path.exists())
        data += path.read_bytes()[at - begin : stop]
        at = begin + stop
    return bytes(data)


def replayed(standby: Server, up_to: Lsn) -> None:
    """Wait until a standby has replayed up to a position."""
    query = "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')::text"
    wait_for(lambda: Lsn.parse(standby.value(query)) >= up_to, "the standby")


def promote(standby: Server) -> None:
    """Promote a standby, and wait until it is a primary."""
    standby.sql("SELECT pg_promote()")
    wait_for(lambda: not standby.value("SELECT pg_is_in_recovery()"), "the promotion")


def in_background(work, *arguments, **more) -> tuple[threading.Thread, list]:
    """Run something in a thread; return it and the list that will hold its result or its error."""
    ended: list = []

    def run() -> None:
        try:
            ended.append(work(*arguments, **more))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, ended
