"""A run that is stopped leaves a checkpoint, and the next one reads nothing that was finished."""

from __future__ import annotations

import random
import shutil
import threading

import pytest

from coffer.errors import InterruptedRunError
from coffer.progress import Progress
from coffer.repository import checkpoint, lease
from coffer.sources.assembly import blockcut
from coffer.sources.filesystem import BackupOptions, backup
from tests.harness.backups import write_tree
from tests.harness.soundness import assert_sound
from tests.harness.syscalls import FileCalls, scripted


class StopAfter(threading.Event):
    """Is set from the nth question on."""

    def __init__(self, questions):
        super().__init__()
        self.left = questions

    def is_set(self):
        self.left -= 1
        return self.left < 0


def questions_of(bench):
    """How often a whole run asks whether to stop; the run's checkpoint and snapshot are of another source."""
    bench.change_source(name="counting")
    counting = StopAfter(1 << 30)
    bench.back_up(stop=counting)
    bench.change_source(name="tree")
    return (1 << 30) - counting.left


def opened(bench, **options):
    """Back up; return (result, basenames of the files that were opened)."""
    with scripted(FileCalls(), ("open",)) as calls:
        result = bench.back_up(**options)
    return result, calls.opened


@pytest.fixture
def tree(bench):
    draw = random.Random(2)
    write_tree(bench.root, {f"d{n % 4}/f{n:02}": draw.randbytes(100 + n) for n in range(40)})
    write_tree(bench.root, {f"large/{n}": draw.randbytes(30_000) for n in range(2)})
    return bench


def test_a_run_stopped_anywhere_is_resumed_and_reads_each_file_once(tree):
    """Stopped at every question in turn: what the stopped run finished, the next one does not open."""
    questions = questions_of(tree)
    assert questions > 40, "it asks at every file, and within large ones"
    for number in range(questions):
        tree.change_source(name=f"tree {number}")
        stop = StopAfter(number)
        with scripted(FileCalls(), ("open",)) as first, pytest.raises(InterruptedRunError) as caught:
            tree.back_up(stop=stop)
        assert "stopped by request" == caught.value.details["reason"]
        result, names = opened(tree)
        again = len(first.made) + len(names) - 42
        assert again in (0, 1), "only the file at hand is read twice"
        tree.assert_saved(result)
        assert [] == tree.stored_names("checkpoints/")
        assert [] == tree.stored_names("leases/")


def test_a_second_backup_stopped_anywhere_keeps_what_it_and_its_parent_know(tree):
    """The checkpoint holds the run's own part and, for the rest, the parent's."""
    tree.back_up()
    for n in range(0, 40, 3):
        (tree.root / f"d{n % 4}" / f"f{n:02}").write_bytes(b"changed %d" % n)
    (tree.root / "d1" / "f01").unlink()
    write_tree(tree.root, {"d2/new": b"n", "a new folder/x": b"x"})
    state = tree.backend._objects.copy()
    questions = 0
    while True:
        tree.backend._objects = state.copy()
        tree.repo = tree.reopen()
        with scripted(FileCalls(), ("open",)) as first:
            try:
                tree.back_up(stop=StopAfter(questions))
            except InterruptedRunError:
                pass
            else:
                break
        result, names = opened(tree)
        assert len(first.made) + len(names) - 16 in (0, 1)
        tree.assert_saved(result)
        questions += 1
    assert questions > 16


def test_runs_that_are_stopped_again_and_again_come_to_an_end(tree):
    """Each gets a few files further; the last finds all done."""
    shutil.rmtree(tree.root / "large")
    for _ in range(40):
        try:
            result = tree.back_up(stop=StopAfter(16))
        except InterruptedRunError:
            continue
        break
    tree.assert_saved(result)
    assert_sound(tree.backend, {}, tree.root)


def test_a_run_stops_within_a_large_folder(bench, monkeypatch):
    """A folder of many entries is cut in pieces; a stop in it keeps the pieces and the part of one."""
    monkeypatch.setattr(blockcut, "MAX_ENTRIES", 64)
    monkeypatch.setattr(blockcut, "_PIECE", 16)
    write_tree(bench.root, {f"{n:03}": b"%d" % n for n in range(300)})
    for number in (1, 50, 150, 280):
        bench.change_source(name=f"s{number}")
        with pytest.raises(InterruptedRunError):
            bench.back_up(stop=StopAfter(number))
        result, names = opened(bench)
        assert len(names) <= 300 - number + 2 * len(bench.root.parts) + 3  # it also asks at the folders above
        bench.assert_saved(result)


def test_a_deadline_stops_a_run_as_a_signal_does(tree):
    """By the repository's monotonic clock."""
    with pytest.raises(InterruptedRunError) as caught:
        tree.back_up(deadline_s=tree.clock.monotonic_s() + 0.5)
    assert "the time given to it is over" == caught.value.details["reason"]
    result = tree.back_up(deadline_s=tree.clock.monotonic_s() + 100)
    tree.assert_saved(result)


def test_a_run_stopped_before_it_did_anything_leaves_no_checkpoint(tree):
    """There is nothing to go on from."""
    with pytest.raises(InterruptedRunError):
        tree.back_up(stop=StopAfter(0))
    assert [] == tree.stored_names("checkpoints/")
    assert [] == tree.stored_names("packs/")


def test_a_checkpoint_is_no_backup(tree):
    """Nothing is listed, nothing can be restored from it; the next commit removes it."""
    with pytest.raises(InterruptedRunError):
        tree.back_up(stop=StopAfter(30))
    assert 1 == len(tree.stored_names("checkpoints/"))
    assert [] == tree.reopen().snapshots()
    tree.assert_saved(tree.back_up())
    assert [] == tree.stored_names("checkpoints/")


def test_a_damaged_checkpoint_only_costs_the_reading(tree):
    """It cannot be opened: the run begins anew, and finds its chunks stored."""
    with pytest.raises(InterruptedRunError):
        tree.back_up(stop=StopAfter(questions_of(tree) - 1))
    (name,) = tree.stored_names("checkpoints/")
    data, time_ns = tree.backend._objects[name]
    tree.backend._objects[name] = (data[:-1] + bytes([data[-1] ^ 1]), time_ns)
    result, names = opened(tree)
    assert 42 == len(names)
    assert result.stats["chunks_known"] > 0
    tree.assert_saved(result)


def test_a_checkpoint_older_than_the_last_snapshot_is_not_gone_on_from(tree):
    """The store refused to delete it, say: the snapshot knows more."""
    with pytest.raises(InterruptedRunError):
        tree.back_up(stop=StopAfter(30))
    old = {name: tree.backend._objects[name] for name in tree.stored_names("checkpoints/")}
    tree.back_up()
    tree.backend._objects |= old
    result, names = opened(tree)
    assert [] == names
    assert [] == tree.stored_names("checkpoints/"), "it is removed by the next commit"
    tree.assert_saved(result)


def test_a_checkpoint_of_the_future_is_not_preferred_for_ever(tree):
    """The clock went back behind a checkpoint: the runs after it are whole all the same."""
    with pytest.raises(InterruptedRunError):
        tree.back_up(stop=StopAfter(30))
    tree.clock.set_wall(tree.clock.now_ns() - 86_400 * 10**9)
    for number in range(3):
        (tree.root / "d0" / "f00").write_bytes(b"%d" % number)
        tree.assert_saved(tree.back_up())
    assert checkpoint.newest(tree.backend, tree.repo.keyring, tree.repo.keyring.ids.source_tag("tree")) is not None
    tree.clock.advance(2 * 86_400)
    tree.assert_saved(tree.back_up())
    assert [] == tree.stored_names("checkpoints/")


def test_the_lease_is_renewed_while_one_large_file_is_read(bench, monkeypatch):
    """Hours within a single file: the writer is not taken for dead."""
    write_tree(bench.root, {"large": random.Random(3).randbytes(300_000)})
    renewed = []
    real = lease.renew

    def renew(backend, keyring, held, clock):
        real(backend, keyring, held, clock)
        renewed.append(held.renewals)

    monkeypatch.setattr(lease, "renew", renew)

    class Slow(Progress):
        def __setattr__(self, name, value):
            object.__setattr__(self, name, value)
            if name == "bytes_done":
                bench.clock.advance(1800)

    result = backup(bench.repo, bench.source, options=BackupOptions(workers=1), progress=Slow())
    assert renewed[-1] > 3
    assert list(range(1, renewed[-1] + 1)) == renewed
    assert [] == bench.stored_names("leases/")
    bench.assert_saved(result)
