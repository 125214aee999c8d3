"""Threads that do a restore's jobs, with a short queue before them."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
Job = Callable[[T], None]

_TICK_S = 0.2
MAX_WORKERS = 8  # by default; each holds up to two spans and a chunk, about 15 MB


def worker_count(asked: int) -> int:
    """Return how many threads to run: as asked, or one per core that this process may use."""
    return asked or min(len(os.sched_getaffinity(0)), MAX_WORKERS)


class Workers(Generic[T]):
    """Runs jobs, each with a worker's own state. The first error ends it all: later jobs are dropped.

    Args:
        states: One for each thread.
        stop: Ends it all as well, once set.
    """

    def __init__(self, states: Sequence[T], stop: threading.Event) -> None:
        self.states = states
        self._stop = stop
        self._jobs: queue.Queue[Job[T] | None] = queue.Queue(2 * len(states))
        self._error: BaseException | None = None
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, args=(state,), name=f"coffer-restore-{n}", daemon=True)
            for n, state in enumerate(states)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def halted(self) -> bool:
        """Whether jobs are no longer to be done."""
        return self._error is not None or self._closing or self._stop.is_set()

    @property
    def hungry(self) -> bool:
        """Whether no job waits."""
        return self._jobs.empty()

    def submit(self, job: Job[T]) -> None:
        """Queue a job; waits while the queue is full.

        Raises:
            CofferError: A job failed.
        """
        self._jobs.put(job)
        self.raise_error()

    def drain(self, tick: Callable[[], None]) -> None:
        """Wait until every job is done; calls `tick` every now and then.

        Raises:
            CofferError: One failed.
        """
        done = self._jobs.all_tasks_done
        with done:
            while self._jobs.unfinished_tasks:
                done.wait(_TICK_S)
                tick()
        tick()
        self.raise_error()

    def close(self) -> None:
        """Stop the threads; jobs that wait are dropped. Idempotent."""
        self._closing = True
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()

    def raise_error(self) -> None:
        """Raise the error that ended it all, if there is one."""
        if self._error is not None:
            raise self._error

    def _work(self, state: T) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if not self.halted:
                    job(state)
            except BaseException as error:  # noqa: BLE001 - carried to the thread that submits, raised there
                self._error = self._error or error
            finally:
                self._jobs.task_done()
