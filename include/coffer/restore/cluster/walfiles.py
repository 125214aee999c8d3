"""Put saved WAL into pg_wal as segments, so that the recovery asks for nothing."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from coffer.errors import InterruptedRunError, PermanentError
from coffer.postgres.lsn import Lsn, Segment
from coffer.postgres.timeline import history_name
from coffer.progress import Progress
from coffer.restore.cluster.datafolder import DataFolder
from coffer.restore.cluster.walpath import WalPath
from coffer.restore.pagecache import write_all

WAL_FOLDER = b"pg_wal"
STATUS_FOLDER = b"pg_wal/archive_status"


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment: its name, and the bytes of it that are needed."""

    name: str
    start: Lsn
    end: Lsn


def write_wal(
    path: WalPath,
    end: Lsn,
    data: DataFolder,
    *,
    workers: int,
    progress: Progress,
    stop: threading.Event,
    last: int | None = None,
) -> int:
    """Write the segments that hold the WAL from the path's beginning up to a position.

    Each is written whole, with zeros behind the position. Their status is "archived": a server that archives would
    else send them a second time. With `last` only so many at the end are written.

    Returns:
        Count of segments.

    Raises:
        WalGapError, WalConflictError, ObjectCorruptError: Some of it is missing or damaged.
        InterruptedRunError: `stop` was set.
        RestoreSpaceError: The disk is full.
    """
    parts = list(_parts(path, end))
    if last is not None:
        parts = parts[-last:]
    failed = threading.Event()

    def write(part: _Part) -> None:
        if failed.is_set() or stop.is_set():
            return
        try:
            _write_segment(path, part, data)
        except BaseException:
            failed.set()
            raise
        progress.bytes_done += part.end - part.start

    with data.opened(STATUS_FOLDER), ThreadPoolExecutor(workers, "coffer-wal") as pool:
        for future in [pool.submit(write, part) for part in parts]:
            future.result()
    if stop.is_set():
        raise InterruptedRunError("restore of the cluster: stopped by request", hint="Run it again, with --delta.")
    return len(parts)


def _parts(path: WalPath, end: Lsn) -> list[_Part]:
    size = path.segment_bytes
    parts = []
    for start in range(path.begin, end, size):
        stop = min(Lsn(start + size), end)
        timeline = path.timeline_at(Lsn(stop - 1))
        parts.append(_Part(Segment.holding(timeline, Lsn(start), size).name(size), Lsn(start), stop))
    return parts


def _write_segment(path: WalPath, part: _Part, data: DataFolder) -> None:
    with data.opened(WAL_FOLDER) as folder, data.new_file(folder, part.name.encode()) as fd:
        for piece in path.read(part.start, part.end):
            write_all(fd, memoryview(piece))
        os.ftruncate(fd, path.segment_bytes)
    data.write(STATUS_FOLDER + f"/{part.name}.done".encode(), b"")


def write_histories(path: WalPath, data: DataFolder) -> None:
    """Write the history of every timeline that is known.

    Those that the recovery does not follow too: a server that is promoted takes the next free number, and must not take
    one that the cluster used already.

    Raises:
        ObjectCorruptError: That of the timeline that is followed is damaged; another one is left out.
    """
    for timeline in path.archive.histories():
        name = history_name(timeline).encode()
        try:
            content = path.archive.history_content(timeline)
        except PermanentError:
            if timeline == path.history.timeline:
                raise
            continue
        data.write(WAL_FOLDER + b"/" + name, content)
        data.write(STATUS_FOLDER + b"/" + name + b".done", b"")
