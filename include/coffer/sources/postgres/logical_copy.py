"""The data of tables, one after another over one connection of psql, each as a stream of what COPY writes.

psql and not the driver: a driver hands over one row at a time, which for small rows costs more than all the rest of the
backup. psql writes to a pipe, and the pipe is read in large pieces. No file is written.

The end of a table is told by a line that psql is asked to write after it: 32 random hexadecimal digits, made anew for
each session after the data's snapshot was taken, so no row holds them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

from coffer.errors import CofferError
from coffer.errors_postgres import PostgresUnavailableError
from coffer.postgres.children import Child, conninfo, environment
from coffer.postgres.names import quoted_text
from coffer.sources.postgres import logical_sql as sql
from coffer.sources.postgres.connection import PostgresConnection
from coffer.sources.postgres.program_failures import program_failure

PIPE_BYTES = 1 << 20  # what a pipe holds; the largest that Linux gives to everybody (pipe-max-size)
ReadInto = Callable[[memoryview], int]


def widen(fd: int) -> None:
    """Let a pipe hold as much as it may: each side then waits for the other less often."""
    with contextlib.suppress(OSError):  # the user's share of pipes is used up: it works without
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class CopySession:
    """One psql that reads tables within a snapshot. For the thread that made it, but for `kill`."""

    def __init__(self, psql: Path, target: PostgresConnection, version: int, snapshot: str, lock_wait_s: int) -> None:
        """Start psql and let it take the snapshot.

        Args:
            psql: The program.
            target: Where and as whom; `dbname` is the database.
            version: Of the server, as in server_version_num.
            snapshot: Name of an exported snapshot, held by somebody else.
            lock_wait_s: How long to wait for a table [s].

        Raises:
            OSError: It cannot be started.
        """
        self._label = target.label
        self._database = target.dbname
        parameters = target.parameters()
        command: list[str | Path] = [
            psql,
            "-XqAt",
            "-v",
            "ON_ERROR_STOP=1",
            "--no-password",
            f"--dbname={conninfo(parameters)}",
        ]
        given = environment(parameters, PGCLIENTENCODING="UTF8")
        self._child = Child(command, given, stdin=subprocess.PIPE)
        assert self._child.stdout is not None  # a pipe by default
        self._fd = self._child.stdout.fileno()
        widen(self._fd)
        self._mark = secrets.token_hex(16)
        begin = f"{sql.BEGIN};\nSET TRANSACTION SNAPSHOT {quoted_text(snapshot)};\n"
        self._first = f"{sql.session(version, lock_wait_s)}\n{begin}"

    def stream(self, statement: str, what: str) -> ReadInto:
        """Begin one COPY ... TO STDOUT and return a function that fills a view with its output; 0 at its end.

        One at a time, each read to its end. The function raises a CofferError where the statement fails.

        Args:
            statement: Without semicolon.
            what: What is read, for people.
        """
        assert self._child.stdin is not None  # a pipe, see __init__
        script = f"{self._first}{statement};\nCOPY (SELECT '{self._mark}') TO STDOUT;\n"
        self._first = ""
        with contextlib.suppress(BrokenPipeError):  # it has ended: the first read tells why
            self._child.stdin.write(script.encode())
            self._child.stdin.flush()
        return _Marked(self._fd, f"{self._mark}\n".encode(), lambda: self._failure(what)).readinto

    def finish(self) -> None:
        """End psql in order.

        Raises:
            CofferError: It did not end well.
        """
        assert self._child.stdin is not None  # a pipe, see __init__
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        if self._child.wait():
            raise self._failure("the end of the session")

    def kill(self) -> None:
        """Let reads that wait come to an end; for another thread."""
        self._child.kill()

    def close(self) -> None:
        """End psql however it stands. Idempotent."""
        self._child.close()

    def _failure(self, what: str) -> CofferError:
        code = self._child.wait()
        if code == 0:
            return PostgresUnavailableError(f"postgres {self._label}: psql ended before {what} did")
        return program_failure(self._child.name, code, self._child.lines, self._label, f"{what} of {self._database!r}")


class _Marked:
    """A stream that ends with a mark; what may be the mark is held back until more is seen."""

    def __init__(self, fd: int, mark: bytes, failure: Callable[[], CofferError]) -> None:
        self._fd, self._mark, self._failure = fd, mark, failure
        self._data = b""
        self._at = 0
        self._ended = False

    def readinto(self, view: memoryview) -> int:
        """Fill a view; return the count of bytes, 0 at the end."""
        while True:
            ready = len(self._data) - self._at - (0 if self._ended else len(self._mark))
            if ready > 0:
                count = min(ready, len(view))
                view[:count] = memoryview(self._data)[self._at : self._at + count]
                self._at += count
                return count
            if self._ended:
                return 0
            self._read_more()

    def _read_more(self) -> None:
        more = os.read(self._fd, PIPE_BYTES)
        if not more:
            raise self._failure()
        self._data = self._data[self._at :] + more  # at most the mark's length is carried over
        self._at = 0
        if self._data.endswith(self._mark):
            self._data = self._data[: -len(self._mark)]
            self._ended = True


def program_stream(child: Child, label: str, what: str) -> ReadInto:
    """Return a function that fills a view with what a program writes; 0 once it has ended well.

    The function raises a CofferError where the program fails.
    """
    assert child.stdout is not None  # a pipe by default
    fd = child.stdout.fileno()
    widen(fd)

    def readinto(view: memoryview) -> int:
        count = os.readv(fd, [view])
        if count == 0 and (code := child.wait()):
            raise program_failure(child.name, code, child.lines, label, what)
        return count

    return readinto
