"""The threads of a restore: every job once, the first error ends it all, nothing hangs."""

import os
import threading

import pytest

from coffer.errors import RestoreSpaceError
from coffer.restore.workers import MAX_WORKERS, Workers, worker_count


def nothing():
    pass


def test_every_job_is_done_once():
    """Jobs run with a worker's own state; draining waits for them all."""
    workers = Workers([[], [], []], threading.Event())
    for number in range(500):
        workers.submit(lambda done, number=number: done.append(number))
    ticks = []
    workers.drain(lambda: ticks.append(1))
    assert list(range(500)) == sorted(number for done in workers.states for number in done)
    assert ticks
    workers.close()
    workers.close()


def test_the_first_error_is_raised_and_the_rest_dropped():
    """An error in a job comes out where jobs are submitted or awaited; later jobs do nothing."""
    done = []

    def fail(_):
        raise RestoreSpaceError("planned")

    workers = Workers([None], threading.Event())
    workers.submit(fail)
    with pytest.raises(RestoreSpaceError, match="planned"):
        workers.drain(nothing)
    assert workers.halted
    with pytest.raises(RestoreSpaceError):
        workers.submit(done.append)
    workers.close()
    assert [] == done


def test_a_stop_drops_what_waits():
    """Once stop is set, jobs that have not begun are passed over, without an error."""
    stop, begun, go_on = threading.Event(), threading.Event(), threading.Event()
    done = []

    def first(_):
        begun.set()
        go_on.wait(10)

    workers = Workers([None], stop)
    workers.submit(first)
    begun.wait(10)
    assert workers.hungry
    workers.submit(done.append)
    assert not workers.hungry
    stop.set()
    go_on.set()
    workers.drain(nothing)
    workers.close()
    assert [] == done


def test_closing_drops_what_waits():
    """A run that ends early does not work off its queue first."""
    begun, go_on = threading.Event(), threading.Event()
    done = []

    def first(_):
        begun.set()
        go_on.wait(10)

    workers = Workers([None], threading.Event())
    workers.submit(first)
    begun.wait(10)
    workers.submit(done.append)
    closer = threading.Thread(target=workers.close)
    closer.start()
    while not workers.halted:
        pass
    go_on.set()
    closer.join(10)
    assert ([], False) == (done, closer.is_alive())


def test_the_count_of_workers_follows_the_cores():
    """As asked; by default one per core that this process may use, up to a limit."""
    assert (5, min(len(os.sched_getaffinity(0)), MAX_WORKERS)) == (worker_count(5), worker_count(0))
