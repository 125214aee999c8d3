"""Turn a data folder that is there into the snapshot: only pages that differ are written, what is too much is removed.

Files are changed in place. The caller has removed pg_control before, so a folder that is half done cannot be started.
A file that has a second name elsewhere (a copy by hard links) is replaced and not written into.
"""

from __future__ import annotations

import os
import stat
import threading
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from coffer.crypto.hashing import PAGE_DIGEST_BYTES
from coffer.errors import InterruptedRunError, PermanentError, RestoreSpaceError
from coffer.postgres.facts import PAGES_FOLDER
from coffer.postgres.page import PAGE_BYTES
from coffer.progress import Progress
from coffer.repository.blocks import GID, MODE, MTIME, SIZE, UID, Group, Row
from coffer.repository.entries import Content, Extent
from coffer.repository.repository import Repository
from coffer.restore.cluster.content import ChunkCache, pieces
from coffer.restore.cluster.datafolder import DataFolder, remove
from coffer.restore.cluster.tablespaces import FOLDER as TABLESPACES
from coffer.restore.files import FULL, describe, join
from coffer.restore.folders import Folder, require_safe_folder, unsafe_name
from coffer.restore.selection import Selection
from coffer.restore.spec import IssueLog

STEP_BYTES = 128 * PAGE_BYTES
_OF_THE_DISK = b"lost+found"  # where a file system begins
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WAITING_PER_WORKER = 64  # files handed to the workers and not done yet


@dataclass(slots=True)
class DeltaTally:
    """What was found and done."""

    files: int = 0
    size_bytes: int = 0
    pages_compared: int = 0
    pages_written: int = 0
    written_bytes: int = 0
    read_bytes: int = 0
    files_removed: int = 0


class Delta:
    """One run over a data folder and its tablespaces.

    Attributes:
        tally: Counts.
        failures: Files that are not as in the snapshot.
    """

    def __init__(
        self,
        repo: Repository,
        selection: Selection,
        data: DataFolder,
        tablespaces: dict[int, DataFolder],
        *,
        workers: int,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._repo, self._selection, self._manifest = repo, selection, selection.manifest
        self._data, self._tablespaces = data, tablespaces
        self._progress, self._stop = progress, stop
        self.tally, self.failures = DeltaTally(), IssueLog()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._caches: list[ChunkCache] = []
        self._workers = workers
        self._slots = threading.BoundedSemaphore(workers * _WAITING_PER_WORKER)
        self._error: BaseException | None = None
        self._is_partly_unread = False
        self._digests_of: tuple[bytes, dict[bytes, Content]] | None = None

    def run(self) -> None:
        """Do it all.

        Raises:
            InterruptedRunError: `stop` was set; the folder is between two states.
            RestoreSpaceError, TransientError: The disk is full, or the store does not answer; likewise.
        """
        kept: tuple[bytes, set[bytes]] | None = None
        empty: set[bytes] = set()
        with ThreadPoolExecutor(self._workers, "coffer-delta") as pool:
            for group, rows in self._groups():
                if kept is None or kept[0] != group.folder:
                    self._clear(kept)
                    kept = group.folder, set()
                    empty.discard(group.folder)
                kept[1].update(group.names[at] for at in rows)
                self._take_group(pool, group, rows, empty)
                self._check()
            self._clear(kept)
            for folder in sorted(empty):
                self._clear((folder, set()))
        self._check()
        self.tally.read_bytes = sum(cache.read_bytes for cache in self._caches)

    def _groups(self) -> Iterator[tuple[Group, list[int]]]:
        for ordinal in self._selection.ordinals:
            try:
                groups = self._selection.groups(ordinal)
            except PermanentError as error:
                block = self._manifest.root.blocks[ordinal]
                lost = f"{block.entry_count} entries from here on cannot be read: {error}"
                self._is_partly_unread = True
                self.failures.add(join(block.folder, block.name), error.code, lost, block.entry_count)
                continue
            for group in groups:
                rows = [at for at in self._selection.pick(group).rows if not unsafe_name(group.names[at])]
                if rows:
                    require_safe_folder(group.folder)
                    yield group, rows

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._stop.is_set():
            raise InterruptedRunError(
                "delta restore: stopped by request; the folder cannot be started as it is",
                hint="Run the same restore again: what is done is passed over.",
            )

    # ------------------------------------------------------------------------------------------------- places

    def _place(self, path: bytes) -> tuple[DataFolder, bytes]:
        """Return where a path of the snapshot lies: in which folder, and its path there."""
        parts = path.split(b"/", 2)
        if len(parts) > 1 and parts[0] == TABLESPACES and parts[1].isdigit():
            found = self._tablespaces.get(int(parts[1]))
            if found is not None:
                return found, parts[2] if len(parts) > 2 else b""
        return self._data, path

    def _clear(self, kept: tuple[bytes, set[bytes]] | None) -> None:
        """Remove what a folder has and the snapshot has not.

        Not from the top of a tablespace: other versions of PostgreSQL may have folders there. And nothing any more
        once a block of the manifest could not be read: what it names would be taken for too much.
        """
        if kept is None or self._is_partly_unread:
            return
        home, path = self._place(kept[0])
        if home is not self._data and not path:
            return
        try:
            with home.opened(path) as folder:
                for name in map(os.fsencode, os.listdir(folder.fd)):
                    if name not in kept[1] and name != _OF_THE_DISK:
                        home.folders.forget(join(path, name))
                        self.tally.files_removed += remove(folder.fd, name)
        except OSError as error:
            self.failures.add(kept[0], *describe(error))

    def _take_group(self, pool: ThreadPoolExecutor, group: Group, rows: list[int], empty: set[bytes]) -> None:
        digests = self._digests(group.folder)
        for at in rows:
            name, row = group.names[at], group.rows[at]
            path = join(group.folder, name)
            if stat.S_ISDIR(row[MODE]):
                empty.add(path)
                self._take_folder(path, row)
            elif stat.S_ISREG(row[MODE]):
                self._slots.acquire()
                future = pool.submit(
                    self._take_file, group.folder, name, row, group.contents.get(at), digests.get(name)
                )
                future.add_done_callback(self._done)
        self._progress.current = group.folder

    def _digests(self, folder: bytes) -> dict[bytes, Content]:
        """Return the lists of page digests of a folder's files, by name; damaged ones are done without."""
        if self._digests_of is not None and self._digests_of[0] == folder:
            return self._digests_of[1]  # a very large folder comes in several groups
        found: dict[bytes, Content] = {}
        with suppress(PermanentError):
            for entry in self._manifest.children(join(PAGES_FOLDER, folder) if folder else PAGES_FOLDER):
                if entry.content is not None:
                    found[entry.name] = entry.content
        self._digests_of = folder, found
        return found

    def _done(self, future: Future[None]) -> None:
        self._slots.release()
        error = future.exception()
        if error is not None and self._error is None:
            self._error = error

    def _take_folder(self, path: bytes, row: Row) -> None:
        home, below = self._place(path)
        try:
            with home.opened(below) as folder:
                self._set_attributes(home, folder.fd, row)
        except OSError as error:
            self.failures.add(path, *describe(error))

    @staticmethod
    def _set_attributes(home: DataFolder, fd: int, row: Row) -> None:
        if os.geteuid() == 0:
            os.fchown(fd, *(home.owner or (row[UID], row[GID])))
        os.fchmod(fd, row[MODE] & 0o7777)
        os.utime(fd, ns=(row[MTIME], row[MTIME]))

    # ------------------------------------------------------------------------------------------------- files

    def _take_file(self, above: bytes, name: bytes, row: Row, content: Content | None, digests: Content | None) -> None:
        if self._error is not None or self._stop.is_set():
            return
        home, path = self._place(above)
        tally = DeltaTally(files=1, size_bytes=row[SIZE])
        try:
            with home.opened(path) as folder:
                fd = self._open(home, folder, name)
                try:
                    if os.fstat(fd).st_size != row[SIZE]:
                        os.ftruncate(fd, row[SIZE])
                    if content is not None:
                        self._compare(fd, row[SIZE], content, digests, tally)
                    self._set_attributes(home, fd, row)
                finally:
                    os.close(fd)
        except (PermanentError, OSError) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise RestoreSpaceError(f"target {home.path}: no space left at {os.fsdecode(path)!r}") from None
            self.failures.add(join(above, name), *describe(error))
            tally.files = 0
        self._add(tally)

    def _add(self, tally: DeltaTally) -> None:
        with self._lock:
            mine = self.tally
            mine.files += tally.files
            mine.size_bytes += tally.size_bytes
            mine.pages_compared += tally.pages_compared
            mine.pages_written += tally.pages_written
            mine.written_bytes += tally.written_bytes
            self._progress.files_done = mine.files
            self._progress.bytes_done = mine.size_bytes
            self._progress.bytes_stored = mine.written_bytes

    @staticmethod
    def _open(home: DataFolder, folder: Folder, name: bytes) -> int:
        """Open a file to be changed in place; what else is there, or is not ours alone, gives way to a new one."""
        with suppress(OSError):
            fd = os.open(name, _OPEN, dir_fd=folder.fd)
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                return fd
            os.close(fd)
        with suppress(FileNotFoundError):
            home.folders.forget(join(folder.path, name))
            remove(folder.fd, name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=folder.fd)

    def _compare(self, fd: int, size: int, content: Content, digests: Content | None, tally: DeltaTally) -> None:
        pages = -(-size // PAGE_BYTES)
        wanted = None
        if digests is not None and sum(extent.length for extent in digests.extents) == pages * PAGE_DIGEST_BYTES:
            with suppress(PermanentError):
                wanted = b"".join(pieces(self._cache(), self._manifest, digests, STEP_BYTES))
        if wanted is None or len(wanted) != pages * PAGE_DIGEST_BYTES:
            self._compare_bytes(fd, content, tally)
            return
        places = _Places(list(self._manifest.expand(content)))
        ids = self._repo.keyring.ids
        for at in range(0, size, STEP_BYTES):
            length = min(STEP_BYTES, size - at)
            first = at // PAGE_BYTES
            found = ids.page_digests(_read(fd, at, length))
            expected = wanted[first * PAGE_DIGEST_BYTES : first * PAGE_DIGEST_BYTES + len(found)]
            tally.pages_compared += len(found) // PAGE_DIGEST_BYTES
            if found == expected:
                continue
            for begin, end in _differing(found, expected, PAGE_DIGEST_BYTES):
                start, stop = at + begin * PAGE_BYTES, min(at + end * PAGE_BYTES, size)
                data = b"".join(self._cache().piece(*where) for where in places.between(start, stop))
                _write(fd, data, start, tally)

    def _compare_bytes(self, fd: int, content: Content, tally: DeltaTally) -> None:
        at = 0
        for piece in pieces(self._cache(), self._manifest, content, STEP_BYTES):
            found = _read(fd, at, len(piece))
            tally.pages_compared += -(-len(piece) // PAGE_BYTES)
            if found != piece:
                for begin, end in _differing(found, piece, PAGE_BYTES):
                    _write(fd, piece[begin * PAGE_BYTES : end * PAGE_BYTES], at + begin * PAGE_BYTES, tally)
            at += len(piece)

    def _cache(self) -> ChunkCache:
        cache: ChunkCache | None = getattr(self._local, "cache", None)
        if cache is None:
            cache = self._local.cache = ChunkCache(self._repo)
            with self._lock:
                self._caches.append(cache)
        return cache


class _Places:
    """Where the bytes of a file lie in chunks."""

    def __init__(self, extents: list[Extent]) -> None:
        self._extents = extents
        self._starts = []
        at = 0
        for extent in extents:
            self._starts.append(at)
            at += extent.length

    def between(self, start: int, end: int) -> Iterator[tuple[bytes | None, int, int]]:
        """Yield (chunk, offset, length) of a run of the file."""
        number = bisect_right(self._starts, start) - 1
        while start < end and number < len(self._extents):
            chunk_id, offset, length, _ = self._extents[number]
            skip = start - self._starts[number]
            step = min(length - skip, end - start)
            yield chunk_id, offset + skip, step
            start += step
            number += 1


def _read(fd: int, at: int, length: int) -> bytes:
    data = os.pread(fd, length, at)
    while len(data) < length:
        more = os.pread(fd, length - len(data), at + len(data))
        if not more:  # somebody cut the file meanwhile
            return data + bytes(length - len(data))
        data += more
    return data


def _differing(found: bytes, wanted: bytes, width: int) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of each run of items of a width that differ."""
    first = None
    count = -(-len(wanted) // width)
    for number in range(count):
        same = found[number * width : (number + 1) * width] == wanted[number * width : (number + 1) * width]
        if same and first is not None:
            yield first, number
            first = None
        elif not same and first is None:
            first = number
    if first is not None:
        yield first, count


def _write(fd: int, data: bytes, at: int, tally: DeltaTally) -> None:
    view = memoryview(data)
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done:], at + done)
    tally.pages_written += -(-len(view) // PAGE_BYTES)
    tally.written_bytes += len(view)
