"""Segments that lie ready before a server asks for them, and the process that keeps them ready."""

from __future__ import annotations

import os
import threading

import pytest

from coffer.clock import SYSTEM_CLOCK
from coffer.errors import RestoreTargetError
from coffer.postgres.lsn import Segment
from coffer.recovery import wal_spool
from coffer.recovery.wal_spool import Prefetcher, Spool, prefetch_in_background
from tests.harness.postgres import wait_for
from tests.harness.wal_files import MIB, SavedWal, log_bytes


@pytest.fixture
def saved():
    """An archive of 30 segments of 1 MiB, from the first on."""
    found = SavedWal()
    for start in range(0, 30, 10):
        found.put(start * MIB, (start + 10) * MIB)
    return found


@pytest.fixture
def spool(tmp_path):
    """A spool, made."""
    found = Spool(tmp_path / "spool")
    found.prepare()
    return found


def name_of(number, timeline=1):
    """The name of a segment."""
    return Segment(timeline, number).name(MIB)


def names_of(numbers):
    """Those of several."""
    return {name_of(number) for number in numbers}


def filling(saved, spool, **more):
    """A prefetcher at work in a thread; the lock's descriptor lasts as long as the tests."""
    assert spool.lock() is not None
    prefetcher = Prefetcher(saved.archive, spool, MIB, SYSTEM_CLOCK, **{"ahead": 4, "idle_s": 30.0, **more})
    thread = threading.Thread(target=prefetcher.run, daemon=True)
    thread.start()
    return thread


def stop(spool, thread):
    """Remove the spool: whoever fills it ends, and leaves nothing."""
    spool.clear()
    thread.join(20)
    assert (False, False) == (thread.is_alive(), spool.folder.exists())


def holds(spool, numbers):
    """Wait until just these segments lie in the spool."""
    wait_for(lambda: spool.names() == names_of(numbers), f"segments {list(numbers)}", 20)


# ------------------------------------------------------------------------------------------------ the folder


def test_a_spool_is_private(tmp_path):
    """Made with mode 0700, and refused where others may read it, or where it is no folder: plain WAL lies in it."""
    spool = Spool(tmp_path / "s")
    spool.prepare()
    spool.prepare()
    assert 0o700 == spool.folder.stat().st_mode & 0o7777
    spool.folder.chmod(0o750)
    with pytest.raises(RestoreTargetError, match="this user alone"):
        spool.prepare()
    (tmp_path / "file").touch(mode=0o600)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(RestoreTargetError):
            Spool(tmp_path / name).prepare()
    with pytest.raises(RestoreTargetError, match="cannot be made"):
        Spool(tmp_path / "no" / "s").prepare()


def test_a_segment_is_taken_once(spool, tmp_path):
    """By a rename; what is not there is not taken."""
    (spool.folder / name_of(1)).write_bytes(b"log")
    assert spool.take(name_of(1), tmp_path / "out")
    assert b"log" == (tmp_path / "out").read_bytes()
    assert not spool.take(name_of(1), tmp_path / "out2")


def test_one_at_a_time_fills_a_spool(spool):
    """The lock ends with whoever holds it."""
    held = spool.lock()
    assert held is not None
    assert spool.lock() is None
    os.close(held)
    again = spool.lock()
    assert again is not None
    os.close(again)


def test_a_folder_that_is_gone_is_no_error(spool):
    """It may be removed at any moment."""
    spool.clear()
    assert not spool.folder.exists()
    spool.clear()
    spool.want(name_of(1))
    assert ("", set()) == (spool.wanted(), spool.names())


# ------------------------------------------------------------------------------------------------ filling it


def test_the_segments_that_follow_are_kept_ready(saved, spool, tmp_path):
    """As many as are wanted; each that is taken is followed by a further one; each is whole."""
    spool.want(name_of(4))
    thread = filling(saved, spool)
    holds(spool, range(5, 9))
    for number in range(5, 12):
        wait_for(lambda number=number: spool.take(name_of(number), tmp_path / "out"), "the next segment", 20)
        assert log_bytes(number * MIB, (number + 1) * MIB) == (tmp_path / "out").read_bytes()
    holds(spool, range(12, 16))
    stop(spool, thread)


def test_another_place_is_gone_to_at_once(saved, spool):
    """Forward, where what is ready stays; backward, where it goes; to a timeline of which nothing is saved."""
    spool.want(name_of(4))
    thread = filling(saved, spool)
    holds(spool, range(5, 9))
    spool.want(name_of(6))
    holds(spool, range(7, 11))
    spool.want(name_of(0))
    holds(spool, range(1, 5))
    spool.want(name_of(0, 2))
    holds(spool, [])
    spool.want(name_of(20))
    holds(spool, range(21, 25))
    stop(spool, thread)


def test_the_end_of_the_archive_and_damage_end_what_is_brought(saved, spool):
    """Whoever asks for the next segment is told why; what comes before it is ready."""
    spool.want(name_of(27))
    thread = filling(saved, spool)
    holds(spool, [28, 29])
    saved.store.flip_bit(saved.archive.ranges()[1].name, -1)  # the last bytes of segment 19
    spool.want(name_of(16))
    holds(spool, [17, 18])
    stop(spool, thread)


def test_what_is_about_to_come_is_marked(saved, spool):
    """What follows what is ready; nothing behind the archive's end; marks of one that was killed are taken away."""
    spool.mark(name_of(3))
    spool.want(name_of(4))
    thread = filling(saved, spool)
    holds(spool, range(5, 9))
    wait_for(lambda: spool.marks() == names_of(range(9, 13)), "the marks", 20)
    spool.want(name_of(23))
    holds(spool, range(24, 28))
    wait_for(lambda: spool.marks() == names_of(range(28, 32)), "the marks", 20)
    spool.want(name_of(27))
    holds(spool, [28, 29])
    wait_for(lambda: not spool.marks(), "the end of the marks", 20)
    stop(spool, thread)


def test_a_server_that_takes_nothing_any_more_leaves_nothing_behind(saved, spool):
    """The process ends, and removes the segments and the folder."""
    spool.want(name_of(4))
    thread = filling(saved, spool, idle_s=0.3)
    thread.join(20)
    assert (False, False) == (thread.is_alive(), spool.folder.exists())


def test_what_one_that_was_killed_left_is_removed(saved, spool):
    """Whole or not, it is brought anew."""
    (spool.folder / name_of(9)).write_bytes(b"old")
    (spool.folder / name_of(25)).write_bytes(b"old")
    spool.want(name_of(8))
    thread = filling(saved, spool)
    holds(spool, range(9, 13))
    assert MIB == (spool.folder / name_of(9)).stat().st_size
    stop(spool, thread)


def test_the_spool_takes_128_mib_at_most(saved, spool, monkeypatch):
    """However many segments are wanted; but one always."""
    monkeypatch.setattr(wal_spool, "MAX_SPOOL_BYTES", 3 * MIB)
    spool.want(name_of(4))
    thread = filling(saved, spool, ahead=1000)
    holds(spool, range(5, 8))
    stop(spool, thread)


def test_a_process_in_the_background_fills_it(saved, spool, tmp_path, monkeypatch):
    """The caller goes on at once; a second one is not started; it ends when the folder goes."""
    monkeypatch.setattr(wal_spool, "_MAX_WORKERS", 1)
    spool.want(name_of(4))
    program = os.fork()
    if program == 0:  # a caller of its own, so that this process has no children of it
        prefetch_in_background(saved.archive, spool, MIB, SYSTEM_CLOCK, 3)
        prefetch_in_background(saved.archive, spool, MIB, SYSTEM_CLOCK, 3)
        os._exit(0)
    assert 0 == os.waitpid(program, 0)[1]
    holds(spool, range(5, 8))
    assert spool.lock() is None
    assert spool.take(name_of(5), tmp_path / "out")
    holds(spool, range(6, 9))
    lock = os.open(spool.folder / ".lock", os.O_RDWR)
    spool.clear()

    def is_free():
        import fcntl

        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    wait_for(is_free, "the end of the process", 20)
    os.close(lock)
