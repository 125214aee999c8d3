"""A drill proves what is right, and names what is wrong: the snapshot, the table, the file, the cause."""

from __future__ import annotations

import os
import threading
from collections import namedtuple

import numpy as np
import pytest

from coffer.clock import SYSTEM_CLOCK
from coffer.errors import InterruptedRunError, RestoreSpaceError, SnapshotNotFoundError
from coffer.errors_postgres import RestorePointError, ScratchServerError
from coffer.postgres.facts import Method
from coffer.postgres.page import PAGE_BYTES, checksums
from coffer.recovery import cluster_drill
from coffer.recovery.cluster_drill import drill_cluster
from coffer.recovery.drill_report import DrillOptions
from coffer.recovery.scratch_server import ScratchServer
from coffer.restore.cluster.execute import restore_cluster
from tests.harness.cluster_backups import NAME, back_up, proof_of, save_wal
from tests.harness.postgres import wait_for
from tests.harness.postgres_load import SLOW_COMMITS, Load, make_tables

pytestmark = pytest.mark.postgres


def drill(repo, scratch, *, stop=None, snapshot=None, **options):
    return drill_cluster(
        repo, NAME, snapshot=snapshot, options=DrillOptions(**{"scratch": scratch, "workers": 2, **options}), stop=stop
    )


def findings(report):
    """Return (severity, code, database, table, file) of each finding."""
    return [(f.severity.value, f.code, f.database, f.table, f.file) for f in report.findings]


def test_a_sound_snapshot_is_proved(repo, own, scratch):
    """Every table is compared, every file and page and index is read, and nothing is left behind."""
    own.sql("CREATE DATABASE second")
    own.sql("CREATE TABLE inner_table AS SELECT generate_series(1, 50) AS n", dbname="second")
    snapshot = back_up(repo, own)
    report = drill(repo, scratch, heapallindexed=True)
    assert ([], "proved", True) == (findings(report), report.verdict, report.ok)
    assert (snapshot.id, NAME) == (report.snapshot, report.source)
    counts = report.counts
    assert proof_of(repo, snapshot).counts["proved"] == counts["tables_compared"] == 5
    assert min(counts["files_checked"], counts["pages_checked"], counts["tables_checked"]) > 100
    assert counts["indexes_checked"] > 300
    steps = [step.name for step in report.steps]
    assert ["restore", "check files", "recover", "compare content", "check structure", "stop"] == steps


@pytest.mark.parametrize("method", [Method.FULL, Method.DELTA])
def test_a_snapshot_that_was_taken_under_writers_is_proved(repo, servers, programs, scratch, method):
    """The moment is exact although a thousand transactions a second commit around it."""
    server = servers.start(**SLOW_COMMITS)
    make_tables(server)
    back_up(repo, server)
    with Load(server) as load:
        wait_for(lambda: load.committed > 100, "the first transactions")
        back_up(repo, server, method=method)
    report = drill(repo, scratch)
    server.close()
    assert ([], "proved") == (findings(report), report.verdict)
    assert 3 == report.counts["tables_compared"]


def test_a_tablespace_is_restored_beside_the_data_folder(repo, own, scratch):
    """And compared as the rest."""
    folder = own.home / "space"
    folder.mkdir()
    os.chown(folder, own.data.stat().st_uid, own.data.stat().st_gid)
    own.sql(f"CREATE TABLESPACE fast LOCATION '{folder}'")
    own.sql("CREATE TABLE there TABLESPACE fast AS SELECT generate_series(1, 500) AS n")
    back_up(repo, own)
    report = drill(repo, scratch)
    assert ([], 4) == (findings(report), report.counts["tables_compared"])


def change_restored(monkeypatch, *statements):
    """Let the restored server be changed before it is compared."""
    start = ScratchServer.start

    def start_and_change(self):
        start(self)
        with self.connected("postgres") as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    monkeypatch.setattr(ScratchServer, "start", start_and_change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE orders SET note = 'other' WHERE id = 77", "5000 rows, and their content is not what it was"),
        ("DELETE FROM orders WHERE id = 77", "4999 rows, expected 5000"),
        ("INSERT INTO orders VALUES (-1, 'back again')", "5001 rows, expected 5000"),
    ],
)
def test_one_row_that_differs_is_found(repo, own, scratch, monkeypatch, change, words):
    """In its table, and in no other; that its transaction is behind the moment, which makes it a hint, is hidden."""
    back_up(repo, own)
    change_restored(monkeypatch, change)
    monkeypatch.setattr("coffer.recovery.content_check._Comparison._transactions_between", lambda self: 0)
    report = drill(repo, scratch)
    assert [("error", "content-differs", "postgres", "public.orders", "")] == findings(report)
    assert (False, "damaged") == (report.ok, report.verdict)
    assert words in report.findings[0].message
    assert report.counts["tables_compared"] > 0


def test_transactions_behind_the_moment_are_noticed(repo, own, scratch, monkeypatch):
    """A copy that was recovered too far is not called damaged, but not proved in that table either."""
    back_up(repo, own)
    change_restored(monkeypatch, "UPDATE orders SET note = 'other' WHERE id = 77")
    report = drill(repo, scratch, structure=False)
    assert [("hint", "moment-passed"), ("hint", "content-differs")] == [found[:2] for found in findings(report)]


def test_a_table_that_is_missing_is_found(repo, own, scratch, monkeypatch):
    """It cannot be read."""
    back_up(repo, own)
    change_restored(monkeypatch, "DROP TABLE audit")
    report = drill(repo, scratch, structure=False)
    assert ("error", "table-unreadable", "postgres", "public.audit", "") in findings(report)


def tamper(monkeypatch, name, change):
    """Let a restored file be changed before anything reads it."""

    def restore_and_change(repo, plan, target, **given):
        result = restore_cluster(repo, plan, target, **given)
        path = target / name
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(data)
        return result

    monkeypatch.setattr(cluster_drill, "restore_cluster", restore_and_change)


def fix_checksums(data):
    """Give every page the checksum of its content, as somebody would who does not want to be seen."""
    pages = np.frombuffer(bytes(data), "<u4").reshape(-1, PAGE_BYTES // 4)
    for number, checksum in enumerate(checksums(pages, 0)):
        data[number * PAGE_BYTES + 8 : number * PAGE_BYTES + 10] = int(checksum).to_bytes(2, "little")


def test_a_flipped_bit_behind_a_valid_checksum_is_found(repo, own, scratch, monkeypatch):
    """The manifest names the file, the digest names the table; the page's own checksum says nothing."""
    path = own.value("SELECT pg_relation_filepath('orders')")
    back_up(repo, own)

    def flip(data):
        data[PAGE_BYTES * 3 - 20] ^= 1  # in the first row of the third page
        fix_checksums(data)

    tamper(monkeypatch, path, flip)
    found = findings(drill(repo, scratch))
    assert ("error", "file-differs", "", "", path) in found
    assert ("error", "content-differs", "postgres", "public.orders", "") in found
    assert all(code != "page-checksum" for _, code, *_ in found)


def test_a_flipped_bit_is_found_in_its_page(repo, own, scratch, monkeypatch):
    """File and block are named."""
    path = own.value("SELECT pg_relation_filepath('orders')")
    back_up(repo, own)

    def flip(data):
        data[PAGE_BYTES * 3 - 20] ^= 1

    tamper(monkeypatch, path, flip)
    report = drill(repo, scratch)
    assert ("error", "page-checksum", "", "", path) in findings(report)
    assert any(f"{path}: page 2 has checksum" in f.message for f in report.findings)


def test_a_damaged_index_is_found(repo, own, scratch, monkeypatch):
    """By amcheck: an entry of the index leads to another row than it should."""
    path = own.value("SELECT pg_relation_filepath('orders_pkey')")
    back_up(repo, own)

    def swap(data):
        page = 1  # the first leaf: its second and third line pointers change places
        at = page * PAGE_BYTES + 24
        data[at + 4 : at + 8], data[at + 8 : at + 12] = data[at + 8 : at + 12], data[at + 4 : at + 8]
        fix_checksums(data)

    tamper(monkeypatch, path, swap)
    found = findings(drill(repo, scratch))
    assert ("error", "index-damaged", "postgres", "public.orders_pkey", "") in found


def test_a_file_that_is_shorter_is_found(repo, own, scratch, monkeypatch):
    """With both sizes."""
    path = own.value("SELECT pg_relation_filepath('audit')")
    back_up(repo, own)
    tamper(monkeypatch, path, lambda data: data.__delitem__(slice(PAGE_BYTES, None)))
    report = drill(repo, scratch)
    assert ("error", "file-differs", "", "", path) in findings(report)
    assert any(f"{path}: has 8192 bytes, expected" in f.message for f in report.findings)


def test_what_the_structure_check_has_no_time_for_is_counted(repo, own, scratch):
    """The content is proved all the same."""
    back_up(repo, own)
    report = drill(repo, scratch, budget_s=0.0)
    assert ("proved", 0) == (report.verdict, report.counts.get("tables_checked", 0))
    assert report.counts["relations_unchecked"] > 400


def test_a_snapshot_without_a_proof_is_sound_at_best(repo, own, scratch):
    """It starts and is whole; that its content is right was not shown, and it says so."""
    back_up(repo, own, proof_budget_s=0.0)
    report = drill(repo, scratch)
    assert (True, "sound") == (report.ok, report.verdict)
    assert [("hint", "no-proof")] == [found[:2] for found in findings(report)]


def test_a_moment_that_was_not_exact_makes_hints(repo, own, scratch, monkeypatch):
    """A table that differs then is no proof of damage."""
    monkeypatch.setattr("coffer.sources.postgres.moment.exact_position", lambda *given: None)
    monkeypatch.setattr("coffer.sources.postgres.moment._TRIES", 1)
    back_up(repo, own)
    report = drill(repo, scratch, structure=False)
    assert report.ok
    assert ("hint", "moment-passed") in [found[:2] for found in findings(report)]


def test_without_the_wal_it_needs_a_snapshot_cannot_be_drilled(repo, own, scratch):
    """The refusal names what is missing."""
    back_up(repo, own)
    for info in list(repo.backend.list("wal/")):
        repo.backend.delete(info.name)
    with pytest.raises(RestorePointError, match="needs WAL up to"):
        drill(repo, scratch)


def test_a_cluster_that_does_not_recover_is_a_finding(repo, own, scratch, monkeypatch):
    """With the server's own words."""
    back_up(repo, own)
    tamper(monkeypatch, "global/pg_control", lambda data: data.__setitem__(slice(0, 8192), bytes(8192)))
    report = drill(repo, scratch, start_timeout_s=60.0)
    codes = [found[:2] for found in findings(report)]
    assert ("error", "recovery") in codes
    assert any("scratch server of PostgreSQL" in f.message for f in report.findings)


def test_the_newest_snapshot_is_taken_unless_one_is_named(repo, own, scratch):
    """Each is proved by its own digests, at its own moment."""
    first = back_up(repo, own)
    own.sql("UPDATE orders SET note = 'later' WHERE id < 100")
    second = back_up(repo, own, method=Method.DELTA)
    save_wal(repo, own)
    reports = [drill(repo, scratch, structure=False, snapshot=name) for name in (None, first.id)]
    assert [second.id, first.id] == [report.snapshot for report in reports]
    assert ["proved", "proved"] == [report.verdict for report in reports]


def test_too_little_room_is_said_before_anything_is_restored(repo, own, scratch, monkeypatch):
    """Both sizes are named, and the folder is empty again."""
    back_up(repo, own)
    fields = namedtuple("fields", "f_bavail f_frsize")
    monkeypatch.setattr("coffer.recovery.scratch_space.os.statvfs", lambda path: fields(1000, 4096))
    with pytest.raises(RestoreSpaceError, match=r"are needed, .* are free"):
        drill(repo, scratch)


def test_without_programs_of_that_version_nothing_is_restored(repo, own, scratch, monkeypatch):
    """Another version cannot start it; the hint says what to install."""
    back_up(repo, own)
    monkeypatch.setenv("COFFER_PG_BIN", str(scratch))
    with pytest.raises(ScratchServerError, match="not found") as caught:
        drill(repo, scratch)
    assert f"postgresql-{own.installation.major}" in caught.value.hint


def test_a_stop_ends_it_and_leaves_nothing(repo, own, scratch):
    """Also in the middle of the restore."""
    back_up(repo, own)
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        drill(repo, scratch, stop=stop)


def test_a_cluster_without_snapshots_is_refused(repo, scratch):
    """There is nothing to prove."""
    with pytest.raises(SnapshotNotFoundError):
        drill_cluster(repo, "nobody", options=DrillOptions(scratch=scratch), clock=SYSTEM_CLOCK)
