"""WAL as segments in pg_wal: named by the timeline that wrote their end, whole, and with every history beside them."""

from __future__ import annotations

import threading

import pytest

from coffer.errors import InterruptedRunError
from coffer.errors_postgres import WalGapError
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_archive import WalArchive
from coffer.progress import Progress
from coffer.restore.cluster.datafolder import DataFolder
from coffer.restore.cluster.walfiles import write_histories, write_wal
from tests.harness.clusters import SmallCluster, save_wal
from tests.harness.wal_maker import SEGMENT, SYSTEM_ID


@pytest.fixture
def data(target):
    made = DataFolder(target, None)
    yield made
    made.close()


def write(path, end, data, stop=None):
    return write_wal(path, Lsn(end), data, workers=2, progress=Progress(), stop=stop or threading.Event())


def names(data):
    return sorted(p.name for p in (data.path / "pg_wal").iterdir() if p.is_file())


def test_a_segment_with_a_switch_bears_the_number_of_the_younger_timeline(data):
    """As the server that was promoted wrote it: with a copy of what came before."""
    made = SmallCluster()
    switch = made.wal.end
    assert SEGMENT * 3 < switch < SEGMENT * 4
    made.wal.timeline = 2
    while made.wal.end < 4 * SEGMENT + 100:
        made.wal.filler(9000)
    save_wal(made.repo, made.wal, switch)
    archive = WalArchive(made.repo, "main")
    content = f"1\t{switch}\tno recovery target specified\n".encode()
    archive.put_history(2, content, system_id=SYSTEM_ID)
    plan = made.plan("latest")
    assert 4 == write(plan.path, made.wal.end, data)
    expected = [f"0000000{timeline}00000000{number:08X}" for timeline, number in ((1, 1), (1, 2), (2, 3), (2, 4))]
    assert expected == names(data)
    found = b"".join((data.path / "pg_wal" / name).read_bytes() for name in names(data))
    assert made.wal.data == found[: len(made.wal.data)]
    write_histories(plan.path, data)
    assert content == (data.path / "pg_wal/00000002.history").read_bytes()
    assert (data.path / "pg_wal/archive_status/00000002.history.done").exists()


def test_wal_before_a_switch_stays_on_the_older_timeline(data):
    """The segment of the switch, needed only in part: that part was written by the older one."""
    made = SmallCluster()
    switch = made.wal.end
    made.wal.timeline = 2
    made.wal.filler(9000)
    save_wal(made.repo, made.wal, switch)
    WalArchive(made.repo, "main").put_history(2, f"1\t{switch}\tx\n".encode(), system_id=SYSTEM_ID)
    plan = made.plan("latest")
    write(plan.path, switch - 100, data)
    assert [f"0000000100000000{number:08X}" for number in (1, 2, 3)] == names(data)


def test_a_gap_that_came_up_meanwhile_ends_it(small, data):
    """The plan was made before: what is gone by now is named, and the segment is not there."""
    plan = small.plan("latest")
    (ref,) = plan.path.archive.ranges()
    small.repo.backend.delete(ref.name)
    with pytest.raises(WalGapError, match="is not saved"):
        write(plan.path, small.wal.end, data)
    assert [] == names(data)


def test_a_stop_ends_it(small, data):
    """Between two segments."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        write(small.plan("latest").path, small.wal.end, data, stop)
    assert [] == names(data)
