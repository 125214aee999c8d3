"""The verification as a whole: threads, progress, its end."""

import threading

import pytest

from coffer.backends.wrapper import BackendWrapper
from coffer.errors import BackendUnavailableError, InterruptedRunError
from coffer.progress import Progress
from coffer.repository.pack import TYPE_DATA
from coffer.verification import CheckReport, check, verify
from tests.harness.corrupt import errors_of, pack_offsets
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend


def test_it_includes_the_check_and_adds_the_reading(history, store):
    """Same counts, and every chunk of every pack proved."""
    repo = history.open(store)
    report = verify(repo)
    assert isinstance(report, CheckReport)
    counts = report.counts
    packs = sum(store.stat(name).size_bytes for name in history.names("packs/"))
    assert check(repo).counts | {"read_bytes": packs, "chunks_proved": counts["chunks"]} == counts


@pytest.mark.parametrize("workers", [0, 1, 3, 1000])
def test_any_number_of_threads_finds_the_same(history, store, workers):
    """Findings do not depend on who read what."""
    for name in history.packs(TYPE_DATA)[::3]:
        store.flip_bit(name, pack_offsets(store, name)["first-frame"])
    one = verify(history.open(store), workers=1)
    many = verify(history.open(store), workers=workers)
    assert [(f.code, f.object, f.message) for f in one.findings] == [
        (f.code, f.object, f.message) for f in many.findings
    ]
    assert {(f.object, f.snapshots, f.paths) for f in one.findings} == {
        (f.object, f.snapshots, f.paths) for f in many.findings
    }
    assert len(history.packs(TYPE_DATA)[::3]) == len(one.findings)


def test_progress_is_in_bytes_of_packs(history, store):
    """All of them in the end."""
    progress = Progress()
    report = verify(history.open(store), progress=progress)
    assert report.counts["read_bytes"] == progress.bytes_done == progress.bytes_total


class StopAtPack(BackendWrapper):
    """Sets an event at the nth read of a pack."""

    def __init__(self, inner, stop, nth):
        super().__init__(inner)
        self.stop, self.left = stop, nth
        self.reads = 0

    def get(self, name, offset=0, length=None):
        if name.startswith("packs/"):
            self.reads += 1
            self.left -= 1
            if self.left == 0:
                self.stop.set()
        return self.inner.get(name, offset, length)


def test_a_stopped_verification_ends_at_its_next_read(history, store):
    """With the packs that wait dropped, and the threads gone."""
    stop = threading.Event()
    repo = history.open(store)
    stopping = repo.backend = StopAtPack(store, stop, 7)
    before = threading.active_count()
    with pytest.raises(InterruptedRunError):
        verify(repo, workers=2, stop=stop)
    assert before == threading.active_count()
    # Each thread may have one pack at hand, of four reads: header, trailer, table, content.
    assert stopping.reads <= 7 + 2 * 4 < 4 * len(history.names("packs/"))


def test_a_store_that_fails_ends_it_as_transient_and_the_threads_are_gone(history, store):
    """Nothing is known of the rest."""
    repo = history.open(store)
    repo.backend = FaultyBackend(store, [Fault(FaultKind.FAIL_BEFORE, method="get", prefix="packs/", nth=9)])
    before = threading.active_count()
    with pytest.raises(BackendUnavailableError):
        verify(repo, workers=2)
    assert before == threading.active_count()


def test_packs_in_no_segment_are_read_too(history, store):
    """An orphan may be damaged like any other."""
    segment = history.names("index/")[0]
    whole = verify(history.open(store)).counts
    store.delete(segment)
    counts = verify(history.open(store)).counts
    assert (whole["read_bytes"], whole["chunks_proved"]) == (counts["read_bytes"], counts["chunks_proved"])


def test_several_damaged_packs_are_an_error_each(history, store):
    """With all snapshots that need them."""
    names = history.packs(TYPE_DATA)[:3]
    for name in names:
        store.flip_bit(name, pack_offsets(store, name)["header-salt"])
    found = errors_of(verify(history.open(store)))
    assert names == [finding.object for finding in found]
    assert all(finding.snapshots and finding.paths for finding in found)
