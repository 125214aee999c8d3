"""What a server gets wrong in a native incremental backup is put right, or noticed, whatever became of its files."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.errors_postgres import PostgresIncrementalAuditError
from coffer.postgres.facts import Method
from coffer.postgres.page import PAGE_BYTES
from coffer.sources.postgres.summary_audit import ExpectedChanges
from tests.harness.cluster_content import content_of, must_hold
from tests.harness.native_backups import (
    QUIET,
    ROWS,
    ClusterFuzz,
    copy_in,
    method_of,
    must_be_compared,
    summarizing_server,
    take,
)
from tests.harness.postgres import unprivileged
from tests.harness.repositories import make_repository

pytestmark = pytest.mark.postgres


@pytest.fixture
def repo():
    return make_repository(MemoryBackend())


@pytest.fixture
def own(summarizing_servers):
    """A server of its own that summarizes its WAL, with a table; its pages stay as they are once it is quiet."""
    with summarizing_server(summarizing_servers) as server:
        yield server


def make_queue(server):
    """Make a table that is not touched any more: else most of its pages change, and the file comes whole."""
    server.sql("CREATE TABLE queue (id int, text text)")
    server.sql("INSERT INTO queue " + ROWS.format(20000))
    server.sql("VACUUM FREEZE queue")


def cut_and_regrow(server):
    """Let VACUUM cut the second half off, and COPY add more pages at once than it writes to.

    Its rows are as long as those that are there: in no page that is left is room for one.
    """
    server.sql("DELETE FROM queue WHERE id > 10000")
    server.sql("VACUUM queue")
    copy_in(server, "queue", 4000, "x" * 100)


def test_rows_of_before_a_truncation_do_not_come_back(repo, own):
    """Cut by VACUUM, regrown by COPY: pages that were added and not written are zeroes, and not the old ones."""
    make_queue(own)
    first = take(repo, own, Method.FULL)
    path = own.value("SELECT pg_relation_filepath('queue')").encode()
    cut_and_regrow(own)
    result = take(repo, own)
    assert Method.NATIVE is method_of(result)
    must_hold(repo, result.snapshot, own)
    manifest = repo.manifest(result.snapshot)
    at, zeroes, old_bytes = 0, [], len(content_of(repo, first.snapshot, path))
    for extent in manifest.expand(manifest.find(path).content):
        if extent.chunk_id is None and at < old_bytes:
            zeroes.append(at // PAGE_BYTES)
        at += extent.length
    assert zeroes, "no page was added without being written: the case is not the one that is meant"


def test_without_the_correction_they_would(repo, own, monkeypatch):
    """So the test above shows the defect of the server, for as long as the server has it."""
    make_queue(own)
    take(repo, own, Method.FULL)
    cut_and_regrow(own)
    limits = []

    def remember(self, file):
        limits.append(limit_of(self, file))
        return 1 << 17

    limit_of = ExpectedChanges.limit_of
    monkeypatch.setattr(ExpectedChanges, "limit_of", remember)
    result = take(repo, own)
    assert min(limits) < 1 << 17
    path = own.value("SELECT pg_relation_filepath('queue')")
    is_right = (own.data / path).read_bytes() == content_of(repo, result.snapshot, path.encode())
    if own.value("SELECT current_setting('server_version_num')::int") in (170012, 180006):
        assert not is_right


@pytest.fixture
def unsorted(summarizing_servers):
    """A server whose summaries lie in memory: a folder of tmpfs lists the newest file first."""
    server = summarizing_servers.start(**QUIET)
    folder = Path(tempfile.mkdtemp(prefix="coffer-summaries-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    shutil.chown(folder, unprivileged().pw_uid, unprivileged().pw_gid)
    server.stop()
    place = server.data / "pg_wal" / "summaries"
    shutil.rmtree(place, ignore_errors=True)
    place.symlink_to(folder)
    server.settings["summarize_wal"] = "on"
    server.start()
    yield server
    server.close()
    shutil.rmtree(folder)


def test_blocks_that_the_server_loses_are_noticed(repo, unsorted):
    """Where it merges its summaries in another order than that of the log; the pages are compared then."""
    unsorted.sql("CREATE TABLE queue (id int, text text)")
    unsorted.sql("INSERT INTO queue " + ROWS.format(20000))
    take(repo, unsorted, Method.FULL)
    lost = 0
    for _ in range(3):
        unsorted.sql("DELETE FROM queue WHERE id > 100")
        unsorted.sql("VACUUM queue")
        unsorted.sql("CHECKPOINT")
        copy_in(unsorted, "queue", 6000)
        unsorted.sql("CHECKPOINT")
        unsorted.sql("UPDATE queue SET text = 'again' WHERE id % 100 = 0")
        result = take(repo, unsorted)
        must_hold(repo, result.snapshot, unsorted)
        codes = [warning.code for warning in result.warnings]
        assert (Method.DELTA if codes else Method.NATIVE) is method_of(result)
        assert set(codes) <= {"pg-incr-audit"}
        lost += len(codes)
    if unsorted.value("SELECT current_setting('server_version_num')::int") == 180006:
        assert lost, "18.6 merges in the order of the folder"


def test_a_failed_audit_is_no_failure(repo, own, monkeypatch):
    """What was read is thrown away, and the same run compares the pages."""
    take(repo, own, Method.FULL)
    own.sql("UPDATE items SET text = 'changed' WHERE id % 500 = 0")
    checked = []

    def fail(self, path, file, header):
        checked.append(path)
        if len(checked) == 100:
            raise PostgresIncrementalAuditError(f"{path!r}: a block was not sent")

    monkeypatch.setattr(ExpectedChanges, "check", fail)
    result = take(repo, own)
    must_be_compared(result, "pg-incr-audit", "was not sent")
    must_hold(repo, result.snapshot, own)


@pytest.mark.parametrize("seed", range(4))
def test_every_native_snapshot_of_a_chain_is_the_cluster(repo, own, seed):
    """Tables and databases made, cut, rewritten, dropped and vacuumed in any order, with checkpoints between."""
    fuzz = ClusterFuzz(own, seed)
    for _ in range(10):
        fuzz.create()
    take(repo, own, Method.FULL)
    methods = []
    for number in range(6):
        for _ in range(fuzz.draw.randrange(1, 15)):
            fuzz.step()
        result = take(repo, own)
        methods.append(method_of(result))
        assert {warning.code for warning in result.warnings} <= {"pg-incr-audit"}, number
        must_hold(repo, result.snapshot, own)
    assert Method.NATIVE in methods


def test_files_of_tablespaces_are_completed_too(repo, own):
    """They come before the data folder, and so before anything says where the backup began."""
    place = own.home / "space"
    place.mkdir()
    shutil.chown(place, unprivileged().pw_uid, unprivileged().pw_gid)
    own.sql(f"CREATE TABLESPACE side LOCATION '{place}'")
    own.sql("CREATE TABLE aside (id int, text text) TABLESPACE side")
    own.sql("INSERT INTO aside " + ROWS.format(20000))
    take(repo, own, Method.FULL)
    own.sql("DELETE FROM aside WHERE id > 100")
    own.sql("VACUUM aside")
    copy_in(own, "aside", 4000)
    result = take(repo, own)
    assert Method.NATIVE is method_of(result)
    must_hold(repo, result.snapshot, own)
