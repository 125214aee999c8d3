"""Rows of tables on their way back: several tables at a time, each by one COPY in one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, cast

import psycopg2
from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.errors import CofferError, InterruptedRunError, RestoreError
from coffer.postgres.logical_record import SequenceRecord, TableRecord
from coffer.progress import Progress
from coffer.recovery.logical_archive import LogicalArchive
from coffer.recovery.logical_target import Target
from coffer.sources.postgres.failures import server_errors, translate

_STEP_BYTES = 1 << 20  # handed to the driver at a time

Task = Callable[[], None]


class RowLoader:
    """Loads the data of tables into one database."""

    def __init__(self, archive: LogicalArchive, folder: str, encoding: str, target: Target, progress: Progress) -> None:
        """Load from the files below a database's folder.

        Args:
            archive: Where they are.
            folder: Of the database in the snapshot.
            encoding: Of the files.
            target: Where the rows go.
            progress: Counters to keep up to date.
        """
        self._archive, self._folder, self._encoding = archive, folder, encoding
        self._target, self._progress = target, progress
        self._lock = threading.Lock()

    def load(self, tables: Sequence[TableRecord], jobs: int, *, beside: Sequence[Task] = ()) -> None:
        """Load all tables: those of extensions first, one after another in their order; then the others side by side.

        Args:
            tables: To load.
            jobs: How many at a time.
            beside: What else is to be done at the same time, each by a thread of its own.

        Raises:
            CofferError: One failed; its table has no row of it. Others may be loaded, or not.
        """
        first = sorted((table for table in tables if table.extension), key=lambda table: (table.rank, table.oid))
        rest = sorted((table for table in tables if not table.extension), key=lambda table: -table.size_bytes)
        if first:
            self._load_some(iter(first))
        queue = _Shared(rest)
        tasks: list[Task] = [*beside, *[lambda: self._load_some(queue) for _ in range(min(jobs, len(rest)))]]
        _run_together(tasks, queue)

    def _load_some(self, tables: Iterator[TableRecord]) -> None:
        with closing(self._target.connect()) as connection:
            for table in tables:
                self._load_one(connection, table)

    def _load_one(self, connection: SqlConnection, table: TableRecord) -> None:
        content = self._archive.stream(f"{self._folder}/{table.file_name}".encode())
        self._progress.current = table.label.encode()
        with connection.cursor() as cursor:
            try:
                cursor.copy_expert(
                    table.copy_in(self._encoding), cast("Any", content), _STEP_BYTES
                )  # it calls read alone
            except CofferError:
                raise
            except psycopg2.Error as error:
                if content.failure is not None:
                    raise content.failure from None
                raise _with_table(translate(error, self._target.label), table) from error
            rows = cursor.rowcount
        if rows != table.rows:
            raise RestoreError(
                f"table {table.label} of database {self._target.name!r}: {rows} rows were loaded, the backup has"
                f" {table.rows}",
                hint="Does a trigger or a rule of the target change what is loaded? Load into a table without any.",
            )
        with self._lock:
            self._progress.bytes_done += content.size_bytes
            self._progress.files_done += 1

    def set_sequences(self, sequences: Sequence[SequenceRecord]) -> None:
        """Set sequences to their values.

        Raises:
            PostgresError: One is not there.
        """
        if not sequences:
            return
        query = "SELECT pg_catalog.setval(%s::pg_catalog.regclass, %s, %s)"
        with closing(self._target.connect()) as connection, server_errors(self._target.label):
            cursor = connection.cursor()
            for sequence in sequences:
                cursor.execute(query, (sequence.label, sequence.last_value, sequence.is_called))


class _Shared(Iterator[TableRecord]):
    """A list that several threads take from; empty once it is closed."""

    def __init__(self, tables: Sequence[TableRecord]) -> None:
        self._tables = iter(tables)
        self._lock = threading.Lock()
        self._closed = False

    def __next__(self) -> TableRecord:
        with self._lock:
            if self._closed:
                raise StopIteration
            return next(self._tables)

    def close(self) -> None:
        """Give out no more."""
        with self._lock:
            self._closed = True


def _run_together(tasks: Sequence[Task], queue: _Shared) -> None:
    """Run tasks on a thread each, to their end; the first that fails lets no other begin a table.

    Raises:
        CofferError: What the first one that failed raised.
    """
    failures: list[BaseException] = []

    def work(task: Task) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that asks, raised there
            failures.append(error)
            queue.close()

    threads = [
        threading.Thread(target=work, args=(task,), name=f"coffer-load-{n}", daemon=True)
        for n, task in enumerate(tasks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        # What stopped the others is told before the stop itself.
        raise next((error for error in failures if not isinstance(error, InterruptedRunError)), failures[0])


def _with_table(error: CofferError, table: TableRecord) -> CofferError:
    """Return the error with the table in its message."""
    return type(error)(f"table {table.label}: {error.message}", hint=error.hint, **error.details)
