"""Records as real servers write them, held against what pg_waldump says of the same files."""

from __future__ import annotations

import re
import signal

import pytest

from coffer.postgres.lsn import Lsn, Segment
from coffer.postgres.wal_records import WAL_PAGE_BYTES, MomentKind, RecordScanner
from tests.harness.postgres import installations, servers_of

pytestmark = pytest.mark.postgres

SEGMENT = 1 << 20
# rmgr: Transaction len (rec/tot):     34/    34, tx:        731, lsn: 0/01513DB0, prev 0/01513D70, desc: COMMIT 2026-…
RECORD = re.compile(r"rmgr: (\S+) +len .*? tx: +(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), prev \S+, desc: (\S+)")


@pytest.fixture(scope="module", params=installations(), ids=str)
def servers(request):
    """Makes servers of one version."""
    with servers_of(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def written(servers):
    """The WAL of a server that did all sorts of things, was switched, crashed and stopped.

    Returns:
        (bytes, position of the first one, records as pg_waldump has them).
    """
    server = servers.start("--data-checksums", "--wal-segsize=1", max_prepared_transactions="5", wal_keep_size="512MB")
    server.sql("CREATE TABLE items (id int PRIMARY KEY, body text)")
    begin = Lsn.parse(server.value("SELECT pg_current_wal_lsn()")).segment_start(SEGMENT)
    server.sql("INSERT INTO items SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 2000) n")
    server.sql("SELECT pg_switch_wal()")
    server.sql("SELECT pg_create_restore_point('a name')")
    server.sql("SELECT pg_logical_emit_message(true, 'coffer', repeat('x', 3000000))")
    server.sql("SELECT pg_logical_emit_message(false, 'coffer', repeat('y', n)) FROM generate_series(8000, 8400) n")
    server.sql("UPDATE items SET body = '' WHERE id % 7 = 0; DELETE FROM items WHERE id > 1500")
    server.sql("BEGIN; INSERT INTO items VALUES (9999, 'x'); PREPARE TRANSACTION 'p'")
    server.sql("COMMIT PREPARED 'p'")
    server.stop(signal.SIGQUIT)
    server.start()
    server.sql("VACUUM FULL items")
    server.sql("BEGIN; INSERT INTO items VALUES (10000, 'x'); ROLLBACK")
    end = Lsn.parse(server.value("SELECT pg_switch_wal()"))
    server.sql("CHECKPOINT")
    names = [Segment.holding(1, Lsn(at), SEGMENT).name(SEGMENT) for at in range(begin, end, SEGMENT)]
    data = b"".join((server.data / "pg_wal" / name).read_bytes() for name in names)[: end - begin]
    shown = server.program("pg_waldump", "-p", server.data / "pg_wal", "-s", str(begin), "-e", str(end)).stdout
    found = [(m[1], int(m[2]), Lsn.parse(m[3]), m[4].rstrip(":")) for m in map(RECORD.match, shown.splitlines()) if m]
    server.close()
    assert len(found) > 3000
    return data, begin, found


def test_the_last_record_is_the_one_that_pg_waldump_shows_last(written):
    """Before every position: looked for from a page near it, over switches, large records and a crash."""
    data, begin, records = written
    starts = [lsn for _, _, lsn, _ in records]
    for at in range(1, len(starts), 37):
        end = starts[at]
        near = max(0, (end - begin - 9 * WAL_PAGE_BYTES) // WAL_PAGE_BYTES * WAL_PAGE_BYTES)
        for from_ in {0, near} if at % 5 == 0 else {near}:
            scanner = RecordScanner(Lsn(begin + from_), SEGMENT)
            list(scanner.feed(data[from_ : end - begin]))
            list(scanner.finish())
            if scanner.last is None:  # one record fills all of these pages
                assert starts[at - 1] < begin + near
            else:
                assert starts[at - 1] == scanner.last.start


def test_moments_are_those_that_pg_waldump_shows(written):
    """Commits, aborts and restore points, each with its position and transaction, and no other."""
    data, begin, records = written
    scanner = RecordScanner(begin, SEGMENT)
    found = [*scanner.feed(data), *scanner.finish()]
    names = {
        "COMMIT": MomentKind.COMMIT,
        "ABORT": MomentKind.ABORT,
        "COMMIT_PREPARED": MomentKind.COMMIT_PREPARED,
        "RESTORE_POINT": MomentKind.RESTORE_POINT,
    }
    expected = [(names[what], lsn) for manager, _, lsn, what in records if what in names and manager != "Standby"]
    assert expected == [(moment.kind, moment.span.start) for moment in found]
    assert {MomentKind.COMMIT, MomentKind.ABORT, MomentKind.COMMIT_PREPARED, MomentKind.RESTORE_POINT} == {
        moment.kind for moment in found
    }
    xids = {lsn: xid for _, xid, lsn, what in records if what in ("COMMIT", "ABORT")}
    assert xids == {moment.span.start: moment.xid for moment in found if moment.span.start in xids}
    assert ["a name"] == [moment.name for moment in found if moment.kind is MomentKind.RESTORE_POINT]
    times = [moment.time_us for moment in found]
    assert max(times) - min(times) < 600 * 1_000_000
