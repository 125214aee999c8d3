"""Client programs as children of this process: how they reach the server, and that they end when we do.

Owns: their environment, their standard error, their end. Refuses: to put a password, or anything but a database's name
and time-outs, on a command line: every user of the machine can read those.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# How libpq's parameters are called in the environment.
_VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "application_name": "PGAPPNAME",
    "gssencmode": "PGGSSENCMODE",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
}
# A user's settings would change what is read, or how, or from which server.
_DROPPED = (
    "PGCLIENTENCODING",
    "PGDATABASE",
    "PGHOSTADDR",
    "PGOPTIONS",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGTARGETSESSIONATTRS",
)
_LINES_KEPT = 200  # of standard error: the last lines; each is cut, so that a broken program cannot fill the memory
_LINE_CHARACTERS = 2000
_PATIENCE_S = 5.0  # between the polite signal and the other one [s]


def environment(parameters: Mapping[str, Any], **more: str) -> dict[str, str]:
    """Return a child's environment: ours without our own secrets, and how to reach the server.

    Args:
        parameters: As libpq knows them; those without a variable are left out, see `conninfo`.
        **more: Further variables.
    """
    given = {name: value for name, value in os.environ.items() if not name.startswith("COFFER_")}
    for name in _DROPPED:
        given.pop(name, None)
    for name, variable in _VARIABLES.items():
        if name in parameters:
            given[variable] = str(parameters[name])
    return {**given, "LC_ALL": "C", **more}  # messages are told by their words


def conninfo(parameters: Mapping[str, Any]) -> str:
    """Return the part of a connection that has no variable, as a connection string: database and keepalives."""
    rest = {name: value for name, value in parameters.items() if name not in _VARIABLES}
    return " ".join(f"{name}={_quoted(str(value))}" for name, value in rest.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class Child:
    """A program that runs. It dies with the thread that started it: keep that thread as long as the child.

    Attributes:
        name: Of the program.
        stdin, stdout: Its ends for us; None where they lead elsewhere.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        given: Mapping[str, str],
        *,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
        lines_kept: int = _LINES_KEPT,
    ) -> None:
        """Start it.

        Args:
            command: The program and its arguments.
            given: Its environment.
            stdin: Where it reads from, as `subprocess.Popen` takes it.
            stdout: Where it writes to, likewise.
            pass_fds: Descriptors that it gets under the same numbers.
            lines_kept: How many lines of its standard error are kept, the last ones.

        Raises:
            OSError: It cannot be started.
        """
        self.name = Path(command[0]).name
        self._lines: deque[str] = deque(maxlen=lines_kept)
        self._process = subprocess.Popen(  # noqa: S603 - a program that was found, no shell
            [*_deathbed(), *map(str, command)],
            env=dict(given),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            start_new_session=True,  # Ctrl-C is for us: we end our children in order
        )
        self.stdin: IO[bytes] | None = self._process.stdin
        self.stdout: IO[bytes] | None = self._process.stdout
        self._listener = threading.Thread(target=self._listen, name=f"coffer-{self.name}-stderr", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def lines(self) -> list[str]:
        """The last lines of its standard error; all of them once it has ended."""
        return list(self._lines)

    def wait(self) -> int:
        """Wait for its end and return its exit code; negative for a signal."""
        code = self._process.wait()
        self._listener.join(_PATIENCE_S)  # a child of its own may still hold the pipe
        return code

    def wait_for(self, seconds: float) -> int | None:
        """Wait for its end no longer than some time [s]; return its exit code, or None while it runs."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return self.wait()

    def close(self) -> None:
        """End it if it runs, and close all that leads to it. Idempotent."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._listener.join(_PATIENCE_S)
        for stream in (self.stdin, self.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was left unwritten: the reader is gone
                    stream.close()

    def kill(self) -> None:
        """Send the signal that ends it, without waiting; for another thread than its own."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def _listen(self) -> None:
        assert self._process.stderr is not None  # a pipe, see above
        with contextlib.suppress(ValueError, OSError):  # closed under us
            while line := self._process.stderr.readline(_LINE_CHARACTERS):
                self._lines.append(line.decode("utf-8", "replace").rstrip())


def _deathbed() -> list[str]:
    """Return the words before a command that make the kernel end it with its parent (prctl(2), PR_SET_PDEATHSIG).

    Without util-linux it still ends: at the next write to a pipe that nobody reads, or read from one that was closed.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


@contextlib.contextmanager
def started(command: Sequence[str | Path], given: Mapping[str, str], **how: Any) -> Iterator[Child]:
    """Hand out a running program, and end it whatever happens. See `Child`."""
    child = Child(command, given, **how)
    try:
        yield child
    finally:
        child.close()


def in_memory(data: bytes) -> int:
    """Return a descriptor of a file that lies in memory only, with some content, ready to be read from its start.

    For what a program wants to open and seek in, so that no plaintext touches a disk. To be closed by the caller.
    """
    fd = os.memfd_create("coffer")
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd
