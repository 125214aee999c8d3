"""A folder for a restored cluster that does not outlive its purpose, and the process that sees to it.

The folder is removed when the space is closed; by its watchdog when our process dies before; and where a machine went
down, or somebody killed both, by the next space that is made in the same place: whoever holds the lock of the
folder's mark lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import select
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from coffer.clock import Clock
from coffer.errors import RestoreSpaceError
from coffer.errors_postgres import ScratchServerError
from coffer.recovery import watchdog
from coffer.units import human_size

PREFIX = "coffer-scratch-"
_SOCKET_PREFIX = "coffer-socket-"
_MARK = "coffer-scratch.lock"
_SOCKET_NAME_BYTES = len("/.s.PGSQL.65535.lock")
_SOCKET_PATH_BYTES = 107  # of sun_path, see unix(7)
_ANSWER_S = 30.0  # how long the watchdog may take to start a program, or to end it by force [s]
_PATIENCE_S = 60.0  # for a server that is asked to end, and for the removal of its folder [s]


def server_user() -> pwd.struct_passwd | None:
    """Return who runs a server, as PostgreSQL refuses root; None where it is this process's own user.

    Raises:
        ScratchServerError: We are root, and there is no harmless user.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ScratchServerError("scratch server: there is neither a user 'postgres' nor 'nobody' to run it as")


class ScratchSpace:
    """A folder of its own, with a watchdog. A context manager; `close` removes everything. For one thread.

    Attributes:
        root: The folder. It stays ours: what we write into it as root, nobody can have put a link in place of.
        data: For the data folder, not made yet.
        tablespaces: For tablespaces, each in a folder of its own below.
        sockets: For the server's socket: its path is short, and it is closed to all but the server's user.
        log: Where the server writes.
        user: Who runs the server; None for this process's user.
    """

    def __init__(self, parent: Path, clock: Clock) -> None:
        """Remove what dead runs left in the same place, and make a new space.

        Args:
            parent: An existing folder, on the disk that is to hold the cluster.
            clock: For the time that is waited.

        Raises:
            ScratchServerError: The folder cannot be used.
        """
        self.user = server_user()
        self._clock = clock
        self._pending = b""
        self._is_running = False
        self.exit_code: int | None = None
        try:
            sweep(parent)
            self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            self._lock = self._mark()
            self.sockets = self._make_sockets()
        except OSError as error:
            raise ScratchServerError(
                f"scratch folder {parent}: cannot be used ({error.strerror})", hint="Name another folder by --scratch."
            ) from None
        self.data, self.tablespaces, self.log = self.root / "data", self.root / "tablespaces", self.root / "log"
        self._dog = self._start_watchdog()
        try:
            self.tablespaces.mkdir(mode=0o700)
            if self.user is not None:
                for folder in (self.root, self.tablespaces):
                    folder.chmod(0o711)  # to be gone through, not looked into
                os.chown(self.sockets, self.user.pw_uid, self.user.pw_gid)
            require_open(self.data, self.user)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ScratchSpace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def owner(self) -> tuple[int, int] | None:
        """(uid, gid) of the server's user; None where it is this process's own."""
        return None if self.user is None else (self.user.pw_uid, self.user.pw_gid)

    def require_room(self, needed_bytes: int) -> None:
        """Refuse to begin what the disk cannot hold.

        Raises:
            RestoreSpaceError: There is less free than needed; nothing was written.
        """
        found = os.statvfs(self.root)
        free_bytes = found.f_bavail * found.f_frsize
        if free_bytes < needed_bytes:
            raise RestoreSpaceError(
                f"scratch folder {self.root.parent}: {human_size(needed_bytes)} are needed, "
                f"{human_size(free_bytes)} are free",
                hint="Name a folder on a larger disk by --scratch.",
                needed_bytes=needed_bytes,
                free_bytes=free_bytes,
            )

    # ----------------------------------------------------------------------------------------------- the server

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run the server as a child of the watchdog, and return its process id.

        Raises:
            ScratchServerError: It could not be started at all.
        """
        user = None if self.user is None else [self.user.pw_uid, self.user.pw_gid]
        self.exit_code = None
        self._is_running = True  # before it is asked for: its start and its end may be heard of at once
        order = {"command": list(command), "environment": dict(environment), "log": str(self.log), "user": user}
        try:
            self._order({"start": order})
            return self._await("started", _ANSWER_S)
        except ScratchServerError:
            self._is_running = False
            raise

    def has_ended(self) -> bool:
        """Say whether the server has ended by itself; `exit_code` tells how."""
        self._listen(0)
        return not self._is_running

    def stop_server(self) -> None:
        """End the server in order, with a checkpoint; its folder stays. Nothing to do where it has ended.

        Raises:
            ScratchServerError: It could not be ended.
        """
        if not self.has_ended():
            self._order({"stop": int(signal.SIGINT)})
            self._await("exited", _PATIENCE_S)

    def log_tail(self, lines: int = 20) -> list[str]:
        """Return the last lines that the server wrote."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - (64 << 10)))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return text.splitlines()[-lines:]

    def close(self) -> None:
        """End the server at once, and remove everything. Idempotent."""
        if self._dog.stdin is not None and not self._dog.stdin.closed:
            with suppress(OSError):
                self._dog.stdin.close()
        try:
            self._dog.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._dog.kill()  # the server dies with it; the folder is removed below
            self._dog.wait()
        if self._dog.stdout is not None:
            self._dog.stdout.close()
        for folder in (self.root, self.sockets):
            watchdog.remove(str(folder))
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # ----------------------------------------------------------------------------------------------- the watchdog

    def _mark(self) -> int:
        try:
            return _make_mark(self.root)
        except OSError:  # no room even for that: nobody else would ever remove it
            watchdog.remove(str(self.root))
            raise

    def _make_sockets(self) -> Path:
        near = self.root / "s"
        if len(os.fsencode(near)) + _SOCKET_NAME_BYTES <= _SOCKET_PATH_BYTES:
            near.mkdir(mode=0o700)
            return near
        return Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir="/tmp"))  # the shortest there is; mode 0700

    def _start_watchdog(self) -> subprocess.Popen[bytes]:
        program = subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-I", watchdog.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # what is sent to our group does not reach it
            pass_fds=[self._lock],
        )
        self._dog = program
        self._order({"folders": [str(self.root), str(self.sockets)], "parent": os.getpid()})
        return program

    def _order(self, what: dict[str, Any]) -> None:
        assert self._dog.stdin is not None  # a pipe, see above
        try:
            self._dog.stdin.write(json.dumps(what).encode() + b"\n")
            self._dog.stdin.flush()
        except (OSError, ValueError):
            raise ScratchServerError("scratch server: its watchdog is gone") from None

    def _await(self, word: str, patience_s: float) -> int:
        """Return the watchdog's answer."""
        until_s = self._clock.monotonic_s() + patience_s
        while self._clock.monotonic_s() < until_s and self._dog.poll() is None:
            answers = self._listen(0.2)
            if word in answers:
                return answers[word]
            if "failed" in answers:
                raise ScratchServerError(f"scratch server: cannot be started ({os.strerror(answers['failed'])})")
        if self._dog.poll() is not None:
            raise ScratchServerError("scratch server: its watchdog is gone")
        raise ScratchServerError(f"scratch server: {word!r} was not heard of within {patience_s:.0f} s")

    def _listen(self, wait_s: float) -> dict[str, int]:
        """Return the answers that have come."""
        assert self._dog.stdout is not None  # a pipe, see above
        found: dict[str, int] = {}
        poll = select.poll()
        poll.register(self._dog.stdout, select.POLLIN)
        if not poll.poll(wait_s * 1000):
            return found
        data = os.read(self._dog.stdout.fileno(), 1 << 16)
        if not data:
            self._is_running = False
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            found |= json.loads(line)
        if "exited" in found:
            self._is_running, self.exit_code = False, found["exited"]
        return found


# ---------------------------------------------------------------------------------------------------- what is left over


def _make_mark(root: Path) -> int:
    """Return the locked mark of a space; it has its name only once it is locked."""
    unfinished = root / (_MARK + ".new")
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename(unfinished, root / _MARK)
    return descriptor


def sweep(parent: Path) -> list[Path]:
    """Remove the spaces in a folder whose process and watchdog are both gone; return them."""
    swept = []
    for folder in sorted(parent.glob(PREFIX + "*")):
        with suppress(OSError):  # another one sweeps, or it is not ours
            descriptor = os.open(folder / _MARK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(descriptor).st_uid != os.geteuid():
                    continue
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _end_orphan(folder / "data")
                watchdog.remove(str(folder))
                swept.append(folder)
            finally:
                os.close(descriptor)
    return swept


def _end_orphan(data: Path) -> None:
    """End a server that still runs in a folder of a dead run, if it is certain that it does."""
    with suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text(encoding="ascii").splitlines()[0])
        if os.path.samefile(f"/proc/{pid}/cwd", data):
            os.kill(pid, signal.SIGQUIT)


def require_open(path: Path, user: pwd.struct_passwd | None) -> None:
    """Make sure that the server's user gets to a folder or program of ours.

    Raises:
        ScratchServerError: A folder above it is closed to that user.
    """
    if user is None:
        return
    for folder in path.resolve().parents:
        found = folder.stat()
        bit = stat.S_IXOTH
        if found.st_uid == user.pw_uid:
            bit = stat.S_IXUSR
        elif found.st_gid == user.pw_gid:
            bit = stat.S_IXGRP
        if not found.st_mode & bit:
            raise ScratchServerError(
                f"{path}: the folder {folder} is closed to user {user.pw_name!r}, who runs the scratch server",
                hint="Run as an ordinary user, or name a folder by --scratch (programs by COFFER_PG_BIN) that all may "
                "enter.",
            )
