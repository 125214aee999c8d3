"""Files of pg_wal that a server in recovery asks for, brought out of the repository.

Source: PostgreSQL documentation, "Recovering Using a Continuous Archive Backup". The server asks for segments and
histories by their names, also for such as were never archived.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from coffer.errors import ObjectNotFoundError, RestoreSpaceError, RestoreTargetError, UsageError
from coffer.postgres.lsn import Segment
from coffer.postgres.timeline import parse_history_name
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_segments import SegmentPlan, plan_segment, segment_bytes_of, segment_content

_SEGMENT = re.compile(r"[0-9A-F]{24}")
# What a server may also ask for, and no archive of ours holds: backup labels, segments that were never finished.
_NEVER_KEPT = re.compile(r"[0-9A-F]{24}(?:\.[0-9A-F]{8}\.backup|\.partial)")


def is_segment_name(name: str) -> bool:
    """Say whether a file name has the form of a WAL segment's."""
    return _SEGMENT.fullmatch(name) is not None


def fetch(archive: WalArchive, name: str, destination: Path, *, partial: bool = False) -> bool:
    """Bring a file of pg_wal; on return its content is on the disk. What is at the destination is replaced.

    It is written beside the destination, and takes its name when it is whole.

    Args:
        archive: Of the source.
        name: Of a segment or a history file.
        destination: Where it is to lie.
        partial: Also bring a segment that is saved only in part, with zeros for the rest.

    Returns:
        bool: False where it is not saved, or only in part; nothing was written.

    Raises:
        UsageError: No file of pg_wal has such a name.
        ObjectCorruptError, WrongKeyError, SizeLimitError, WalConflictError: What is saved of it is damaged.
        RestoreTargetError, RestoreSpaceError: It cannot be written.
        TransientError: The store does not answer.
    """
    timeline = parse_history_name(name)
    if timeline is not None:
        try:
            write_file(destination, [archive.history_content(timeline)])
        except ObjectNotFoundError:
            return False
        return True
    if not is_segment_name(name):
        if _NEVER_KEPT.fullmatch(name):
            return False
        raise UsageError(
            f"WAL file {name[:80]!r}: not the name of a segment or a history",
            hint="restore_command must hand over the name as it is: coffer wal fetch %f %p.",
        )
    plan = plan_of(archive, name)
    if plan is None or not (plan.is_whole or (partial and plan.pieces)):
        return False
    write_file(destination, segment_content(archive, plan), size_bytes=plan.end - plan.start)
    return True


def plan_of(archive: WalArchive, name: str) -> SegmentPlan | None:
    """Return where the bytes of a segment come from; None where nothing at all is saved of its source.

    Raises:
        SourceFormatError: The source's segments have another size, and none has this name.
        ObjectCorruptError, WrongKeyError, SizeLimitError: What is saved is damaged.
    """
    segment_bytes = segment_bytes_of(archive)
    if segment_bytes is None:
        return None
    return plan_segment(archive, Segment.parse(name, segment_bytes), segment_bytes)


def write_file(
    destination: Path, pieces: Iterable[bytes], *, size_bytes: int | None = None, durable: bool = True
) -> None:
    """Write a file of mode 0600 beside its place, and give it its name when it is whole.

    Args:
        destination: Its place; what is there is replaced.
        pieces: Its content.
        size_bytes: How long it is to be [bytes]; zeros follow the content.
        durable: Sync it before it takes its name.

    Raises:
        RestoreTargetError: The folder is missing, or may not be written.
        RestoreSpaceError: No space is left. Nothing remains of it either way.
    """
    beside = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.part")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _cannot_write(destination, error) from error
    try:
        try:
            for piece in pieces:
                _write_all(fd, piece)
            if size_bytes is not None:
                os.ftruncate(fd, size_bytes)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(beside, destination)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(beside)
        if isinstance(error, OSError):
            raise _cannot_write(destination, error) from error
        raise


def _write_all(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]


def _cannot_write(destination: Path, error: OSError) -> RestoreTargetError | RestoreSpaceError:
    text = f"{destination}: cannot be written: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RestoreSpaceError(text, hint="Free space where the server's pg_wal lies; the server asks again.")
    return RestoreTargetError(text, hint="Does the folder exist, and may the server's user write there?")
