"""A folder of segments that were brought ahead of a server in recovery, and the process that fills it.

The server's restore command first moves a segment out of the spool, which costs no start of Python. The process that
fills the spool sees by the missing file that the server went on, and brings the next. A mark beside a segment says that
it is about to come: a server that is faster than the archive waits for it a moment, instead of bringing it itself. The
process ends, and removes what it brought, when the server has taken nothing for a while.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from coffer.clock import Clock
from coffer.errors import CofferError, RestoreTargetError
from coffer.postgres.lsn import Segment
from coffer.postgres.restore_command import MARK
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_segments import plan_segment, segment_content
from coffer.recovery.wal_fetch import is_segment_name, write_file

DEFAULT_AHEAD = 8  # segments
MAX_SPOOL_BYTES = 128 << 20
IDLE_S = 30.0  # a server replays a segment in far less, unless it has come to its target
_LOOK_S = 0.005  # how soon it is seen that a segment was taken
_WANTED = ".wanted"
_LOCK = ".lock"
_MAX_WORKERS = 4


class Spool:
    """The folder. Private to its user: what lies in it is plain WAL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder where it is missing, mode 0700.

        Raises:
            RestoreTargetError: It cannot be made, belongs to somebody else, or others may read it.
        """
        try:
            with suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)
            status = self.folder.lstat()
        except OSError as error:
            raise RestoreTargetError(
                f"spool {self.folder}: cannot be made: {error.strerror}", hint="Name a folder that can, by --spool."
            ) from error
        is_private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
        if not stat.S_ISDIR(status.st_mode) or not is_private:
            raise RestoreTargetError(
                f"spool {self.folder}: is no folder that this user alone may read",
                hint="Give it to the server's user with mode 0700, or name another one by --spool.",
            )

    def take(self, name: str, destination: Path) -> bool:
        """Move a segment that lies here to its destination; say whether it did."""
        try:
            os.rename(self.folder / name, destination)
        except OSError:  # not there; or on another file system, and the archive brings it
            return False
        return True

    def want(self, name: str) -> None:
        """Tell whoever fills the spool which segment the server has just got otherwise."""
        with suppress(RestoreTargetError):
            write_file(self.folder / _WANTED, [name.encode()], durable=False)

    def wanted(self) -> str:
        """Return the segment of the last `want`; empty where there was none."""
        try:
            return (self.folder / _WANTED).read_text(encoding="ascii")
        except (OSError, ValueError):
            return ""

    def lock(self) -> int | None:
        """Become the one that fills the spool; None where another one does. The lock ends with the process."""
        fd = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return None
        return fd

    def names(self) -> set[str]:
        """Return the segments that lie here; none where the folder is gone."""
        try:
            return {name for name in os.listdir(self.folder) if is_segment_name(name)}
        except OSError:
            return set()

    def marks(self) -> set[str]:
        """Return the segments that are marked as about to come."""
        try:
            return {name.removesuffix(MARK) for name in os.listdir(self.folder) if name.endswith(MARK)}
        except OSError:
            return set()

    def mark(self, name: str) -> None:
        """Mark a segment as about to come."""
        with suppress(OSError):
            os.close(os.open(self.folder / (name + MARK), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def unmark(self, names: set[str]) -> None:
        """Take marks away."""
        self.remove({name + MARK for name in names})

    def remove(self, names: set[str]) -> None:
        """Remove segments; those that are gone are no error."""
        for name in names:
            with suppress(OSError):
                os.unlink(self.folder / name)

    def is_locked(self) -> bool:
        """Say whether the file of the lock is still there: whoever removes the spool removes it first."""
        return os.path.exists(self.folder / _LOCK)

    def clear(self) -> None:
        """Remove everything that lies here, and the folder; whoever fills it ends."""
        with suppress(OSError):
            for name in (_LOCK, *os.listdir(self.folder)):
                with suppress(OSError):
                    os.unlink(self.folder / name)
            self.folder.rmdir()


@dataclass(slots=True)
class Prefetcher:
    """Fills a spool with the segments that follow the one that the server has.

    Attributes:
        archive: Of the source.
        spool: The folder; locked by the caller.
        segment_bytes: Size of a segment [bytes].
        clock: Tells how long the server has taken nothing.
        ahead: How many segments are kept ready; together at most 128 MiB, but one at least.
        idle_s: When it ends, after the server's last sign [s].
    """

    archive: WalArchive
    spool: Spool
    segment_bytes: int
    clock: Clock
    ahead: int = DEFAULT_AHEAD
    idle_s: float = IDLE_S
    _timeline: int = 0
    _low: int = 0  # the first segment that the server does not have
    _end: int | None = None  # the first that the archive cannot bring, where that is known
    _ready: set[int] = field(default_factory=set)  # brought, and not seen to be taken
    _coming: dict[tuple[int, int], Future[bool]] = field(default_factory=dict)  # (timeline, number)
    _wanted: str = ""
    _marked: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Work until the server has taken nothing for a while, or the spool is removed; then remove what is left."""
        pause = Event()
        last_sign_s = self.clock.monotonic_s()
        self.spool.unmark(self.spool.marks())  # of one that was killed
        self.spool.remove(self.spool.names())
        with ThreadPoolExecutor(min(_MAX_WORKERS, os.cpu_count() or 1)) as pool:
            while self.clock.monotonic_s() - last_sign_s < self.idle_s and self.spool.is_locked():
                if self._look():
                    last_sign_s = self.clock.monotonic_s()
                self._mark()
                for number in self._window():
                    key = self._timeline, number
                    if number not in self._ready and key not in self._coming:
                        self._coming[key] = pool.submit(self._bring, Segment(*key))
                pause.wait(_LOOK_S)
        self.spool.clear()

    def _window(self, times: int = 1) -> range:
        """Return the numbers of the segments that are to be ready; none before the server has said where it is."""
        room = max(1, min(self.ahead, MAX_SPOOL_BYTES // self.segment_bytes)) if self._timeline else 0
        end = self._low + times * room
        return range(self._low, end if self._end is None else min(end, self._end))

    def _mark(self) -> None:
        """Mark what is about to come: also what follows the window, which moves with the server."""
        due = {self._name(number) for number in self._window(2) if number not in self._ready}
        for name in due - self._marked:
            self.spool.mark(name)
        self.spool.unmark(self._marked - due)
        self._marked = due

    def _look(self) -> bool:
        """Take note of what the server did and of what has come; say whether there was anything."""
        wanted, there = self.spool.wanted(), self.spool.names()
        is_alive = wanted != self._wanted and is_segment_name(wanted)
        if is_alive:
            self._wanted = wanted
            at = Segment.parse(wanted, self.segment_bytes)
            if at.timeline != self._timeline:
                self._drop(self._ready)
            self._timeline, self._low, self._end = at.timeline, at.number + 1, None
        taken = {number for number in self._ready if self._name(number) not in there}
        if taken:
            is_alive = True
            self._ready -= taken
            self._low = max(self._low, max(taken) + 1)
        for key, future in list(self._coming.items()):
            if future.done():
                is_alive = True
                del self._coming[key]
                self._came(*key, is_there=future.result())
        self._drop(self._ready - set(self._window()))
        return is_alive

    def _came(self, timeline: int, number: int, *, is_there: bool) -> None:
        if timeline != self._timeline:
            self.spool.remove({Segment(timeline, number).name(self.segment_bytes)})
        elif is_there:
            self._ready.add(number)
        elif number >= self._low:
            self._end = number if self._end is None else min(self._end, number)  # who asks for it is told why

    def _drop(self, numbers: set[int]) -> None:
        self.spool.remove({self._name(number) for number in numbers})
        self._ready = self._ready - numbers

    def _name(self, number: int) -> str:
        return Segment(self._timeline, number).name(self.segment_bytes)

    def _bring(self, segment: Segment) -> bool:
        """Bring one segment; say whether it is there. Not synced: the server syncs what it keeps."""
        try:
            plan = plan_segment(self.archive, segment, self.segment_bytes)
            if not plan.is_whole:
                return False
            pieces = segment_content(self.archive, plan)
            write_file(self.spool.folder / segment.name(self.segment_bytes), pieces, durable=False)
        except CofferError:
            return False
        return True


def prefetch_in_background(archive: WalArchive, spool: Spool, segment_bytes: int, clock: Clock, ahead: int) -> None:
    """Start a process that fills the spool, where none does; return at once.

    It is a fork: keys and modules are there already. It leaves the caller's session, signals and streams, so the server
    neither waits for it nor ends it.
    """
    if os.fork():
        return
    try:  # the child: it must not come back
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        if spool.lock() is not None:
            Prefetcher(archive, spool, segment_bytes, clock, ahead).run()
    finally:
        os._exit(0)
