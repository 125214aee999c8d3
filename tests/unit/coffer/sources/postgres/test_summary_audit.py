"""Summaries of the WAL are merged in the order of the log, and say which blocks must have been sent."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from coffer.errors import SourceFormatError
from coffer.errors_postgres import PostgresError, PostgresIncrementalAuditError, PostgresIncrementalRefusedError
from coffer.postgres.lsn import Lsn
from coffer.postgres.relation_path import SEGMENT_PAGES, parse_relation_path
from coffer.sources.postgres.connection import connect_sql
from coffer.sources.postgres.incremental_file import IncrementalHeader
from coffer.sources.postgres.summary_audit import (
    ExpectedChanges,
    Fork,
    _BlockRows,
    read_changes,
    read_checkpoint,
    require_whole,
)
from tests.harness.postgres import wait_for

PATH = b"base/5/16384"
FILE = parse_relation_path(PATH)
FORK = Fork(1663, 5, 16384, 0)
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = struct.pack(">h", -1)


def sent(blocks, truncation=SEGMENT_PAGES):
    """Return the header of a file with these blocks."""
    return IncrementalHeader(np.array(blocks, np.uint32), truncation, 8192)


def expect(*steps):
    """Return what is expected after steps: an int cuts, a list changes blocks."""
    changes = ExpectedChanges()
    for step in steps:
        if isinstance(step, int):
            changes.cut(FORK, step)
        else:
            changes.add(FORK, 0, np.array(step))
    return changes


# ------------------------------------------------------------------------------------------------------ merging


def test_all_that_is_expected_was_sent():
    """More may be sent; what was not expected needs not be."""
    expect([3, 1, 70_000]).check(PATH, FILE, sent([1, 2, 3, 70_000]))
    expect().check(PATH, FILE, sent([]))


@pytest.mark.parametrize(("blocks", "first", "count"), [([], 1, 3), ([1, 3], 70_000, 1), ([3, 70_000], 1, 1)])
def test_a_block_that_was_not_sent_is_named(blocks, first, count):
    """The first of them, and how many there are."""
    with pytest.raises(PostgresIncrementalAuditError, match=rf"{count} changed blocks .* block {first} is") as caught:
        expect([3, 1, 70_000]).check(PATH, FILE, sent(blocks))
    assert {"blocks": count} == caught.value.details


def test_a_block_is_named_by_its_place_in_the_relation():
    """The second file of a relation begins with block 131,072."""
    changes = ExpectedChanges()
    changes.add(FORK, 1, np.array([7]))
    with pytest.raises(PostgresIncrementalAuditError, match=f"block {SEGMENT_PAGES + 7} "):
        changes.check(PATH + b".1", parse_relation_path(PATH + b".1"), sent([]))
    changes.check(PATH, FILE, sent([]))


def test_blocks_that_were_cut_off_later_are_not_expected():
    """A cut forgets what was written before it, and not what was written after it."""
    expect([5, 50], 10).check(PATH, FILE, sent([5]))
    with pytest.raises(PostgresIncrementalAuditError, match="block 50"):
        expect([5], 10, [50]).check(PATH, FILE, sent([5]))


def test_blocks_behind_the_file_as_the_server_saw_it_are_not_expected():
    """It was cut while it was read; replay cuts it again."""
    expect([5, 50]).check(PATH, FILE, sent([5], truncation=50))
    with pytest.raises(PostgresIncrementalAuditError):
        expect([5, 50]).check(PATH, FILE, sent([5], truncation=51))


def test_the_lowest_cut_counts_for_old_pages():
    """A relation that was cut to 10 blocks, grew, and was cut to 50 has ten of its old ones."""
    assert 10 == expect(10, [60], 50).limit_of(FILE)
    assert SEGMENT_PAGES == expect([60]).limit_of(FILE)


def test_a_cut_reaches_every_file_of_a_relation():
    """Files before it are whole, those behind it have nothing of their old content."""
    changes = ExpectedChanges()
    changes.add(FORK, 0, np.array([9]))
    changes.add(FORK, 2, np.array([1]))
    changes.cut(FORK, SEGMENT_PAGES + 5)
    files = [parse_relation_path(PATH + end) for end in (b"", b".1", b".2")]
    assert [SEGMENT_PAGES, 5, 0] == [changes.limit_of(file) for file in files]
    changes.check(PATH + b".2", files[2], sent([]))
    with pytest.raises(PostgresIncrementalAuditError):
        changes.check(PATH, files[0], sent([]))


def test_a_visibility_map_is_cut_with_its_heap():
    """32,672 pages of the heap have a page of the map; the summaries name the heap's blocks for both."""
    changes = ExpectedChanges()
    changes.cut(FORK, 32_673)
    changes.cut(FORK._replace(fork=2), 32_673)
    assert 2 == changes.limit_of(parse_relation_path(PATH + b"_vm"))
    changes.cut(FORK, 0)
    assert 0 == changes.limit_of(parse_relation_path(PATH + b"_vm"))
    assert SEGMENT_PAGES == expect().limit_of(parse_relation_path(PATH + b"_vm"))


def test_a_database_that_was_made_anew_comes_whole():
    """Its files are copied without a word in the WAL on any of them."""
    changes = ExpectedChanges()
    changes.cut(Fork(1663, 5, 0, 0), 0)
    with pytest.raises(PostgresIncrementalAuditError, match="made anew"):
        changes.check(PATH, FILE, sent([1, 2, 3]))
    other = b"base/6/16384"
    changes.check(other, parse_relation_path(other), sent([]))


@pytest.mark.parametrize(
    ("path", "fork"),
    [
        (b"base/5/16384", (1663, 5, 16384, 0)),
        (b"base/5/16384_fsm", (1663, 5, 16384, 1)),
        (b"base/5/16384_vm.1", (1663, 5, 16384, 2)),
        (b"base/5/16384_init", (1663, 5, 16384, 3)),
        (b"global/1260", (1664, 0, 1260, 0)),
        (b"pg_tblspc/16400/PG_18_202506291/5/7.2", (16400, 5, 7, 0)),
    ],
)
def test_a_path_is_a_fork_of_the_summaries(path, fork):
    """The default tablespaces have no folder of their own, but OIDs."""
    assert fork == tuple(Fork.of(parse_relation_path(path)))


@pytest.mark.parametrize("seed", range(20))
def test_merging_is_as_playing_the_log(seed):
    """Against plain sets, with files of a relation that is cut anywhere."""
    draw = random.Random(seed)
    changes, written, limit = ExpectedChanges(), set(), SEGMENT_PAGES * 4
    for _ in range(12):
        if draw.random() < 0.4:
            cut = draw.randrange(SEGMENT_PAGES * 3)
            changes.cut(FORK, cut)
            written, limit = {block for block in written if block < cut}, min(limit, cut)
        segment = draw.randrange(3)
        blocks = draw.sample(range(SEGMENT_PAGES), draw.randrange(1, 400))
        changes.add(FORK, segment, np.array(blocks))
        written |= {segment * SEGMENT_PAGES + block for block in blocks}
    for segment in range(4):
        path = PATH + (b".%d" % segment if segment else b"")
        file = parse_relation_path(path)
        own = sorted(block % SEGMENT_PAGES for block in written if block // SEGMENT_PAGES == segment)
        assert min(max(limit - segment * SEGMENT_PAGES, 0), SEGMENT_PAGES) == changes.limit_of(file)
        changes.check(path, file, sent(own))
        for lost in draw.sample(own, min(len(own), 3)):
            with pytest.raises(PostgresIncrementalAuditError):
                changes.check(path, file, sent([block for block in own if block != lost]))


# ------------------------------------------------------------------------------------------------------ the range


def lsns(*numbers):
    return [(Lsn(start), Lsn(end)) for start, end in numbers]


def test_summaries_that_touch_cover_a_range():
    """They may begin before it, and overlap; they end where it ends."""
    require_whole(lsns((5, 20), (20, 30), (25, 40)), Lsn(10), Lsn(40), "x")
    require_whole([], Lsn(10), Lsn(10), "x")


@pytest.mark.parametrize(
    "summaries", [[], [(11, 40)], [(10, 39)], [(10, 20), (21, 40)], [(20, 40), (10, 19)], [(10, 41)]]
)
def test_a_gap_in_the_summaries_is_refused(summaries):
    """At either end, between two, and what reaches beyond the backup's begin."""
    with pytest.raises(PostgresIncrementalRefusedError, match="WAL summar"):
        require_whole(lsns(*summaries), Lsn(10), Lsn(40), "x")


# ------------------------------------------------------------------------------------------------------ the rows


def row_of(fork, segment, blocks):
    """Return a row as a binary COPY has it."""
    tablespace, database, relation, number = fork
    head = struct.pack(">hiIiIiIihii", 6, 4, tablespace, 4, database, 4, relation, 2, number, 4, segment)
    array = struct.pack(">iiIii", 1, 0, 23, len(blocks), 1) + b"".join(struct.pack(">ii", 4, b) for b in blocks)
    return head + struct.pack(">i", len(array)) + array


def test_rows_are_read_however_they_are_sent():
    """The head with the first row, the end alone or with the last; another COPY may follow."""
    changes = ExpectedChanges()
    rows = _BlockRows(changes)
    rows.write(HEADER + row_of(FORK, 0, [1, 5]))
    rows.write(row_of(FORK, 1, [7]) + row_of(FORK._replace(fork=2), 0, [0]))
    rows.write(END)
    rows.begin()
    rows.write(HEADER + END)
    rows.begin()
    rows.write(HEADER + row_of(FORK, 0, [9]) + END)
    changes.check(PATH, FILE, sent([1, 5, 9]))
    for blocks in ([1, 5], [1, 9], [5, 9]):
        with pytest.raises(PostgresIncrementalAuditError):
            changes.check(PATH, FILE, sent(blocks))
    assert rows.bytes > 300


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"PGCOPY\n\xff\r\n\0",
        b"X" + HEADER,
        HEADER + b"\0\6\0\0",
        HEADER + row_of(FORK, 0, [1, 2])[:-1],
        HEADER + row_of(FORK, 0, []),
        HEADER + row_of(FORK, -1, [1]),
        HEADER + row_of(FORK, 0, [-1]),
        HEADER + row_of(FORK, 0, [SEGMENT_PAGES]),
        HEADER + b"\0\5" + row_of(FORK, 0, [1])[2:],
        HEADER + row_of(FORK, 0, [1])[:2] + b"\0\0\0\5" + row_of(FORK, 0, [1])[6:],
    ],
)
def test_other_answers_are_refused(message):
    """No COPY, a row cut short, an empty array, numbers that are none, other fields."""
    with pytest.raises(SourceFormatError, match="WAL summaries"):
        _BlockRows(ExpectedChanges()).write(message)


# ------------------------------------------------------------------------------------------------------ a server


@pytest.fixture(scope="module")
def summarizing(summarizing_servers):
    """A server that summarizes its WAL."""
    server = summarizing_servers.start(autovacuum="off", summarize_wal="on")
    yield server
    server.close()


def checkpoint(server):
    """End a summary, and wait until it is there; return (timeline, where the next one begins)."""
    server.sql("CHECKPOINT")
    timeline, redo = server.sql("SELECT timeline_id, redo_lsn FROM pg_control_checkpoint()")[0]
    wait_for(
        lambda: server.value("SELECT count(*) FROM pg_available_wal_summaries() WHERE end_lsn >= %s", [redo]),
        "a WAL summary",
    )
    return timeline, Lsn.parse(redo)


def test_a_server_without_summaries_says_so(server):
    """Before 17 there is no such function, later it may be off: an error, and the run compares pages instead."""
    sql = connect_sql(server.connection())
    with pytest.raises(PostgresError, match=r"pg_available_wal_summaries|summaries end at 0/1000"):
        read_changes(sql, "x", 1, Lsn(0x1000), Lsn(0x2000), lambda: None)
    sql.close()


def test_a_servers_summaries_are_read_as_they_are(summarizing):
    """Every block that the server lists row by row is expected, and no other; a dropped table is cut to nothing."""
    server = summarizing
    server.sql("CREATE TABLE gone AS SELECT generate_series(1, 5000) AS n")
    gone = server.value("SELECT pg_relation_filepath('gone')").encode()
    timeline, start = checkpoint(server)
    server.sql("CREATE TABLE kept AS SELECT generate_series(1, 300000) AS n")
    server.sql("DROP TABLE gone")
    checkpoint(server)
    server.sql("UPDATE kept SET n = -n WHERE n % 1000 = 0")
    _, end = checkpoint(server)
    sql = connect_sql(server.connection())
    assert (timeline, end) == read_checkpoint(sql, "x")
    calls = []
    changes, read_bytes = read_changes(sql, "x", timeline, start, end, lambda: calls.append(1))
    sql.close()
    assert len(calls) >= 2
    assert read_bytes > 2000
    path = server.value("SELECT pg_relation_filepath('kept')").encode()
    oid = int(path.rpartition(b"/")[2])
    listed = server.sql(
        "SELECT DISTINCT relblocknumber FROM pg_available_wal_summaries() s,"
        " pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn)"
        " WHERE s.start_lsn >= %s AND relfilenode = %s AND relforknumber = 0 AND NOT is_limit_block",
        [str(start), oid],
    )
    blocks = sorted(block for (block,) in listed)
    assert len(blocks) > 1000
    changes.check(path, parse_relation_path(path), sent(blocks))
    for lost in (0, len(blocks) // 2, len(blocks) - 1):
        with pytest.raises(PostgresIncrementalAuditError):
            changes.check(path, parse_relation_path(path), sent(blocks[:lost] + blocks[lost + 1 :]))
    assert 0 == changes.limit_of(parse_relation_path(path))  # it was made since
    assert 0 == changes.limit_of(parse_relation_path(gone))


def test_summaries_of_before_the_parent_are_not_enough(summarizing):
    """What was removed, or not summarized, is a gap."""
    server = summarizing
    timeline, end = checkpoint(server)
    sql = connect_sql(server.connection())
    with pytest.raises(PostgresIncrementalRefusedError, match="summaries end"):
        read_changes(sql, "x", timeline, Lsn(0x1000), end, lambda: None)
    with pytest.raises(PostgresIncrementalRefusedError, match="summaries end"):
        read_changes(sql, "x", timeline + 1, Lsn(int(end) - 8), end, lambda: None)
    sql.close()
