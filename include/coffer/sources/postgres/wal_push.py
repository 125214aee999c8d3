"""Files that a server hands to its archive_command, saved one by one.

Source: PostgreSQL documentation, "Setting Up WAL Archiving": the command is to succeed if the very same file is there
already, and to fail if another one of that name is. It speaks to no server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coffer.errors import SourceFormatError, SourceMissingError, SourceReadError, UsageError
from coffer.postgres.lsn import Lsn
from coffer.postgres.timeline import MAX_HISTORY_BYTES, History, parse_history_name
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_header import HEADER_BYTES, WalHeader, parse_wal_header, require_segment

_PUT_BYTES = 16 << 20  # as the receiver's ranges, so that the same bytes make the same objects
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_PARTIAL = re.compile(r"([0-9A-F]{24})\.partial")
_LABEL = re.compile(r"[0-9A-F]{24}\.[0-9A-F]{8}\.backup")


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a file.

    Attributes:
        kind: "segment", "partial", "history" or "label".
        wal_bytes: How much log is saved of it [bytes].
        note: Why nothing was saved, where nothing was.
    """

    kind: str
    wal_bytes: int = 0
    note: str = ""


def push(archive: WalArchive, path: Path) -> Pushed:
    """Save a file of pg_wal; on return it is durable. The same file again is no error (idempotent).

    A partial segment is saved up to where a history says that its timeline was left. Backup labels are not saved: a
    snapshot has its own.

    Args:
        archive: Of the source.
        path: The file, under the name that the server gave it.

    Raises:
        UsageError: No file of pg_wal has such a name; nothing was saved.
        SourceMissingError, SourceReadError: It cannot be read.
        SourceFormatError: It is not what its name says.
        WalConflictError: Other bytes of the same place are saved; they stay.
        PostgresSystemChangedError: It is of another cluster than the source.
        BackendError, TransientError: The store refuses.
    """
    name = path.name
    timeline = parse_history_name(name)
    if timeline is not None:
        content = _read_small(path, MAX_HISTORY_BYTES + 1)
        archive.put_history(timeline, content, system_id=_cluster_of(archive, path.parent))
        return Pushed("history")
    if _LABEL.fullmatch(name):
        return Pushed("label", note="backup labels are not kept: each snapshot has its own")
    partial = _PARTIAL.fullmatch(name)
    if partial is None and not _SEGMENT.fullmatch(name):
        raise UsageError(
            f"WAL file {name[:80]!r}: not the name of a segment, a history or a backup label",
            hint="archive_command must hand over the path: coffer wal push %p.",
        )
    return _push_segment(archive, path, partial[1] if partial is not None else name, is_partial=partial is not None)


def _push_segment(archive: WalArchive, path: Path, name: str, *, is_partial: bool) -> Pushed:
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            header = parse_wal_header(file.read(HEADER_BYTES) or b"", f"WAL segment {name}")
            segment = require_segment(header, name, header.system_id)
            if size != header.segment_bytes:
                raise SourceFormatError(
                    f"WAL segment {name}: has {size} bytes, segments have {header.segment_bytes}", name=name
                )
            archive.require_cluster(header.system_id)
            start = segment.start(header.segment_bytes)
            end = start.after(header.segment_bytes)
            if is_partial:
                end = _left_at(archive, path.parent, segment.timeline, start, end)
            at = start
            while at < end:
                length = min(end - at, _PUT_BYTES)
                data = _read_at(file.fileno(), at - start, length, name)
                archive.put(segment.timeline, at, data, system_id=header.system_id, segment_bytes=header.segment_bytes)
                at = at.after(length)
    except FileNotFoundError:
        raise SourceMissingError(f"WAL segment {path}: does not exist") from None
    except OSError as error:
        raise SourceReadError(f"WAL segment {path}: cannot be read: {error.strerror}") from error
    kind = "partial" if is_partial else "segment"
    return Pushed(kind, end - start, "" if end > start else "its timeline was left where it begins")


def _left_at(archive: WalArchive, folder: Path, timeline: int, start: Lsn, end: Lsn) -> Lsn:
    """Return where a history says that the timeline of an unfinished segment was left.

    Behind it the file holds zeros, or what it held before it was used again.

    Raises:
        SourceFormatError: No history beside it or in the archive says so.
    """
    places = [
        switch.left_at
        for history in _histories(archive, folder)
        for switch in history.switches
        if switch.timeline == timeline and start <= switch.left_at <= end
    ]
    if places:
        return min(places)  # what lies behind the first parting may be of another life of the server
    raise SourceFormatError(
        f"timeline {timeline}: no history says that it was left between {start} and {end}",
        hint="Push the history of the timeline that follows it first.",
    )


def _histories(archive: WalArchive, folder: Path) -> Iterator[History]:
    """Yield the histories beside a file, then those of the archive."""
    for path in sorted(folder.glob("*.history")):
        timeline = parse_history_name(path.name)
        if timeline is not None:
            with suppress(SourceFormatError, SourceMissingError):
                yield History.parse(timeline, _read_small(path, MAX_HISTORY_BYTES + 1))
    for timeline in archive.histories():
        yield archive.history(timeline)


def _cluster_of(archive: WalArchive, folder: Path) -> int:
    """Return the cluster that a history is of, which it does not say itself: that of the segments beside it.

    Raises:
        SourceFormatError: There is none, and nothing of the source is saved.
    """
    for path in sorted(folder.glob("[0-9A-F]*")):
        if _SEGMENT.fullmatch(path.name):
            with suppress(SourceFormatError, SourceMissingError, SourceReadError):
                return _header(path).system_id
    known = archive.system_id()
    if known is None:
        raise SourceFormatError(
            f"{folder}: holds no WAL segment that says which cluster the history is of",
            hint="Push a segment first, or back the cluster up.",
        )
    return known


def _header(path: Path) -> WalHeader:
    return parse_wal_header(_read_small(path, HEADER_BYTES), f"WAL segment {path.name}")


def _read_small(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(max_bytes)
    except FileNotFoundError:
        raise SourceMissingError(f"WAL file {path}: does not exist") from None
    except OSError as error:
        raise SourceReadError(f"WAL file {path}: cannot be read: {error.strerror}") from error


def _read_at(fd: int, offset: int, length: int, name: str) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = os.preadv(fd, [view], offset)
        if not count:
            raise SourceFormatError(f"WAL segment {name}: was truncated while it was read", name=name)
        view, offset = view[count:], offset + count
    return data
