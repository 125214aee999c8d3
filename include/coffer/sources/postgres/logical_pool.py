"""Threads that read tables and programs side by side, and one queue of what they read, of bounded length."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from coffer.chunking.cutter import Cutter
from coffer.postgres.children import Child, started
from coffer.sources.postgres.logical_copy import CopySession, ReadInto, program_stream
from coffer.sources.postgres.program_failures import warnings_of

_TICK_S = 0.5  # between two looks at the clock while nothing comes [s]
_WAITING = 2  # pieces in the queue for each thread, of up to 4 MiB each


@dataclass(frozen=True, slots=True)
class Reading:
    """One file to read: a table by a statement, or the output of a program.

    Attributes:
        path: Of the file in the snapshot.
        what: What is read, for people.
        statement: A COPY ... TO STDOUT; "" where a program is run.
        command: The program with its arguments.
        environment: Of the program.
    """

    path: bytes
    what: str
    statement: str = ""
    command: Sequence[str | Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a thread read.

    Attributes:
        reading: What it is of.
        data: The next piece of the file; None at its end.
        rows: At its end: rows of a table.
        warnings: At its end: what the program warned of.
    """

    reading: Reading
    data: bytes | None
    rows: int = 0
    warnings: tuple[str, ...] = ()


class _Killable(Protocol):
    def kill(self) -> None: ...


class _GivenUpError(Exception):
    """The pool was closed while a thread was at work."""


class ReadingPool:
    """Reads a list of files on some threads, in the order of the list. Closed by `close`, however it ends."""

    def __init__(
        self,
        readings: Sequence[Reading],
        threads: int,
        *,
        label: str,
        open_session: Callable[[], CopySession],
        make_cutter: Callable[[], Cutter],
    ) -> None:
        """Start the threads.

        Args:
            readings: What to read.
            threads: How many at a time.
            label: The server, as messages name it.
            open_session: Makes a thread's own connection for tables.
            make_cutter: Makes a thread's own cutter.
        """
        self._label, self._open_session, self._make_cutter = label, open_session, make_cutter
        self._left = iter(readings)
        self._lock = threading.Lock()  # of the iterator and the running programs
        self._given_up = threading.Event()
        self._running: list[_Killable] = []
        count = min(threads, len(readings))
        self._queue: queue.Queue[Piece | BaseException | None] = queue.Queue(maxsize=_WAITING * max(count, 1))
        self._threads = [
            threading.Thread(target=self._work, name=f"coffer-copy-{n}", daemon=True) for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def pieces(self, tick: Callable[[], None]) -> Iterator[Piece]:
        """Yield what is read, pieces of one file in order, until all is read.

        Args:
            tick: Called about twice a second and before each piece; what it raises ends the reading.

        Raises:
            CofferError: A table could not be read, or a program failed.
        """
        left = len(self._threads)
        while left:
            tick()
            try:
                item = self._queue.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            if item is None:
                left -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item

    def close(self) -> None:
        """End what still runs. Idempotent."""
        self._given_up.set()
        with self._lock:
            for running in self._running:
                running.kill()
        for thread in self._threads:
            thread.join()

    # ----------------------------------------------------------------------------------------------- threads

    def _work(self) -> None:
        session: CopySession | None = None
        try:
            cutter = self._make_cutter()
            while (reading := self._next()) is not None:
                if reading.statement:
                    if session is None:
                        session = self._open_session()
                        self._watch(session)
                    self._read(cutter, reading, session.stream(reading.statement, reading.what))
                else:
                    self._run(cutter, reading)
            if session is not None:
                session.finish()
            self._put(None)
        except _GivenUpError:
            pass
        except BaseException as error:  # noqa: BLE001 - carried to the thread that asks, raised there
            with suppress(_GivenUpError):
                self._put(error)
        finally:
            if session is not None:
                session.close()

    def _next(self) -> Reading | None:
        if self._given_up.is_set():
            raise _GivenUpError
        with self._lock:
            return next(self._left, None)

    def _run(self, cutter: Cutter, reading: Reading) -> None:
        with started(reading.command, reading.environment) as child:
            self._watch(child)
            self._read(cutter, reading, program_stream(child, self._label, reading.what), child)

    def _read(self, cutter: Cutter, reading: Reading, readinto: ReadInto, child: Child | None = None) -> None:
        rows = 0
        for data in cutter.cut(readinto):
            if child is None:
                rows += data.count(b"\n")  # COPY ends each row with a line feed, and writes no other
            self._put(Piece(reading, data))
        warnings = tuple(warnings_of(child.lines)) if child is not None else ()
        self._put(Piece(reading, None, rows, warnings))

    def _watch(self, running: _Killable) -> None:
        with self._lock:
            self._running.append(running)
        if self._given_up.is_set():
            running.kill()

    def _put(self, item: Piece | BaseException | None) -> None:
        """Hand over what was read; waits while the queue is full.

        Raises:
            _GivenUpError: The pool is closed: nobody wants it any more.
        """
        while not self._given_up.is_set():
            try:
                self._queue.put(item, timeout=_TICK_S)
            except queue.Full:
                continue
            return
        raise _GivenUpError
