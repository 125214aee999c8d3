"""Write regular files: whole or not at all, and never into a file that was there before.

A folder that this run made holds nobody else's files, so a new file gets its own name at once and is removed if it
cannot be finished. In a folder that was there before, a file is written under a temporary name and renamed when it is
whole, so an old file is replaced in one step, and a hard link to it elsewhere keeps the old content.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass, fields

from coffer.backends.publish import rename_noreplace
from coffer.errors import ObjectCorruptError, PermanentError, RestoreSpaceError, RestoreTargetError
from coffer.repository.blocks import SIZE, Row
from coffer.restore.attributes import Attributes
from coffer.restore.decision import Powers, decide
from coffer.restore.folders import Folder, Folders, look
from coffer.restore.ledger import Ledger, Xattrs
from coffer.restore.pagecache import flags_for, write_all, write_at
from coffer.restore.spec import Action, IssueLog, Overwrite

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PRIVATE = 0o600  # until owner and mode are set: nobody else reads the content before
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


@dataclass(slots=True)
class Tally:
    """What one thread restored. Sizes in bytes."""

    files: int = 0
    directories: int = 0
    symlinks: int = 0
    hardlinks: int = 0
    others: int = 0
    size_bytes: int = 0
    written_bytes: int = 0
    kept: int = 0
    read_bytes: int = 0
    verified_files: int = 0

    def stats(self, *others: Tally) -> dict[str, int]:
        """Return the sums of this tally and others, by name."""
        return {field.name: sum(getattr(tally, field.name) for tally in (self, *others)) for field in fields(self)}


class SmallFile:
    """A regular file whose content lies in one chunk, or that is empty.

    Attributes:
        folder, name: Where it goes.
        row, xattrs: What it is to be.
        offset: Of its content in the chunk [bytes].
    """

    __slots__ = ("folder", "name", "offset", "row", "xattrs")

    def __init__(self, folder: bytes, name: bytes, row: Row, xattrs: Xattrs, offset: int) -> None:
        self.folder, self.name, self.row, self.xattrs, self.offset = folder, name, row, xattrs, offset

    @property
    def path(self) -> bytes:
        """Its path in the snapshot."""
        return join(self.folder, self.name)


class LargeFile:
    """A regular file of several extents while it is written, by several threads.

    Attributes:
        folder, name, row, xattrs: As of a small file.
        fd: Open for writing.
        flags: Of its writes; see `write_at`.
        temporary: The name it has until it is whole.
        action: What was decided of its place.
        failed: Something of it cannot be had: it is given up.
        holders: Parts on their way, and the planner while it adds more.
    """

    __slots__ = ("_lock", "action", "failed", "fd", "flags", "folder", "holders", "name", "row", "temporary", "xattrs")

    def __init__(
        self, folder: bytes, name: bytes, row: Row, xattrs: Xattrs, fd: int, temporary: bytes, action: Action
    ) -> None:
        self.folder, self.name, self.row, self.xattrs = folder, name, row, xattrs
        self.fd, self.temporary, self.action = fd, temporary, action
        self.flags = flags_for(row[SIZE])
        self.failed = False
        self.holders = 1
        self._lock = threading.Lock()

    @property
    def path(self) -> bytes:
        """Its path in the snapshot."""
        return join(self.folder, self.name)

    def hold(self) -> None:
        """Count one more part."""
        with self._lock:
            self.holders += 1

    def give_up(self) -> bool:
        """Mark the file as failed; return whether this was the first to do so."""
        with self._lock:
            first, self.failed = not self.failed, True
            return first

    def let_go(self) -> bool:
        """Count one part less; return whether it was the last."""
        with self._lock:
            self.holders -= 1
            return not self.holders


class Part:
    """A run of a large file's content that lies in one chunk.

    Attributes:
        file: That it belongs to.
        at: Where it goes in the file [bytes].
        offset, length: Where it lies in the chunk [bytes].
    """

    __slots__ = ("at", "file", "length", "offset")

    def __init__(self, file: LargeFile, at: int, offset: int, length: int) -> None:
        self.file, self.at, self.offset, self.length = file, at, offset, length


def join(folder: bytes, name: bytes) -> bytes:
    """Return the path of a name in a folder."""
    return folder + b"/" + name if folder else name


def split(path: bytes) -> tuple[bytes, bytes]:
    """Return (folder, name) of a path."""
    folder, _, name = path.rpartition(b"/")
    return folder, name


class FileWriter:
    """Writes files for one thread, with a tally of its own."""

    def __init__(
        self,
        folders: Folders,
        attributes: Attributes,
        ledger: Ledger,
        failures: IssueLog,
        powers: Powers,
        overwrite: Overwrite | None,
    ) -> None:
        self.folders, self.attributes, self.ledger, self.failures = folders, attributes, ledger, failures
        self.powers, self.overwrite = powers, overwrite
        self.tally = Tally()

    # ----------------------------------------------------------------------------------------------- small files

    def write_small(self, folder: Folder, file: SmallFile, data: bytes | memoryview) -> None:
        """Write one file from its chunk.

        Args:
            folder: The file's folder, open.
            file: What to write.
            data: The chunk's plaintext.

        Raises:
            ObjectCorruptError: The entry's content reaches beyond its chunk; nothing was written.
            RestoreTargetError: Its place is taken and may not be.
            OSError: It could not be written; what there was of it is removed.
        """
        size = file.row[SIZE]
        end = file.offset + size
        if end > len(data):
            raise ObjectCorruptError(f"content ends at byte {end} of a chunk of {len(data)} bytes")
        opened = self.open_new(folder, file.name, file.folder, file.row)
        if opened is None:
            return
        fd, temporary, action = opened
        try:
            try:
                if size:
                    write_all(fd, memoryview(data)[file.offset : end])
                self.attributes.set_file(fd, file, folder)
            finally:
                os.close(fd)  # a full quota on a network file system may be told here only
            if temporary is not file.name:
                self.give_name(folder, temporary, file.name, action)
        except BaseException:
            _remove(folder, temporary)
            raise
        tally = self.tally
        tally.files += 1
        tally.size_bytes += size
        tally.written_bytes += size

    # ----------------------------------------------------------------------------------------------- large files

    def open_large(self, folder: Folder, name: bytes, row: Row, xattrs: Xattrs) -> LargeFile | None:
        """Begin a file of several extents; None where the one that is there stays.

        Raises:
            RestoreTargetError, OSError: As `write_small`.
        """
        opened = self.open_new(folder, name, folder.path, row)
        if opened is None:
            return None
        fd, temporary, action = opened
        return LargeFile(folder.path, name, row, xattrs, fd, temporary, action)

    def write_part(self, part: Part, data: bytes) -> None:
        """Write one part from its chunk.

        Raises:
            ObjectCorruptError, OSError: As `write_small`; the file is still open.
        """
        end = part.offset + part.length
        if end > len(data):
            raise ObjectCorruptError(f"content ends at byte {end} of a chunk of {len(data)} bytes")
        file = part.file
        file.flags = write_at(file.fd, memoryview(data)[part.offset : end], part.at, file.flags)
        self.tally.written_bytes += part.length

    def finish_large(self, file: LargeFile) -> None:
        """Set size and attributes and give the file its name; removes it if it failed. Once, by the last holder.

        Raises:
            RestoreTargetError, OSError: As `write_small`.
        """
        try:
            folder = self.folders.acquire(file.folder)
        except BaseException:
            os.close(file.fd)
            raise
        whole = False
        try:
            try:
                if not file.failed:
                    os.ftruncate(file.fd, file.row[SIZE])  # a hole at the end has no part that makes it
                    self.attributes.set_file(file.fd, file, folder)
            finally:
                os.close(file.fd)
            if not file.failed:
                if file.temporary is not file.name:
                    self.give_name(folder, file.temporary, file.name, file.action)
                whole = True
        finally:
            if not whole:
                _remove(folder, file.temporary)
            self.folders.release(folder)
        if whole:
            self.tally.files += 1
            self.tally.size_bytes += file.row[SIZE]

    def abandon(self, file: LargeFile) -> None:
        """Close and remove a file that will not be finished; nobody else may be writing it."""
        file.give_up()
        with suppress(OSError, PermanentError):
            self.finish_large(file)

    # ----------------------------------------------------------------------------------------------- names

    def open_new(self, folder: Folder, name: bytes, path_above: bytes, row: Row) -> tuple[int, bytes, Action] | None:
        """Return (descriptor, name for now, action) of a new file; None where the one that is there stays.

        Raises:
            RestoreTargetError: The place is taken and may not be.
            OSError: Nothing was made.
        """
        if folder.fresh:
            try:
                return os.open(name, _CREATE, PRIVATE, dir_fd=folder.fd), name, Action.CREATE
            except FileExistsError:
                pass  # a second entry of this name, or a file system that folds names: the rule decides
        action = self.settle(folder, name, join(path_above, name), row)
        if action is Action.KEEP:
            return None
        temporary = temporary_name()
        return os.open(temporary, _CREATE, PRIVATE, dir_fd=folder.fd), temporary, action

    def settle(self, folder: Folder, name: bytes, path: bytes, row: Row, *, same_place: bool = True) -> Action:
        """Decide what becomes of an entry that is no folder; returns CREATE, OVERWRITE or KEEP (counted).

        Raises:
            RestoreTargetError: Its place is taken and may not be.
        """
        there = look(folder, name)
        action = decide(row, there, self.overwrite, self.powers, same_place=same_place)
        if action is Action.REFUSE:
            assert there is not None  # an empty place is never refused
            raise RestoreTargetError(refusal(there))
        if action is Action.KEEP:
            self.tally.kept += 1
            if self.overwrite is Overwrite.NEVER:
                self.ledger.pass_over(path)
        return action

    def give_name(self, folder: Folder, temporary: bytes, name: bytes, action: Action) -> None:
        """Give something that is whole its name: in one step over what is there if that was decided, else beside it.

        Raises:
            RestoreTargetError: The name was taken meanwhile, and may not be.
            OSError: From the system; the temporary is still there.
        """
        if action is Action.OVERWRITE or self.overwrite not in (None, Overwrite.NEVER):
            os.rename(temporary, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
            return
        try:
            os.link(temporary, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
        except FileExistsError:
            raise RestoreTargetError("its place was taken while it was restored") from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            rename_noreplace(os.fsdecode(temporary), folder.fd, os.fsdecode(name), folder.fd)
            return
        os.unlink(temporary, dir_fd=folder.fd)

    # ----------------------------------------------------------------------------------------------- failures

    def fail(self, path: bytes, error: Exception) -> None:
        """Record why a file is not restored.

        Raises:
            RestoreSpaceError: The target is full: the run is to end.
        """
        if isinstance(error, OSError) and error.errno in FULL:
            raise RestoreSpaceError(f"target: no space left at {os.fsdecode(path)!r} ({error.strerror})") from None
        self.ledger.pass_over(path)
        self.failures.add(path, *describe(error))


def describe(error: Exception) -> tuple[str, str]:
    """Return (code, message) of what kept one file from being restored."""
    if isinstance(error, OSError):
        return "restore", f"cannot be written: {(error.strerror or str(error)).lower()}"
    code = getattr(error, "code", "restore")
    return str(code), str(error)


def refusal(there: os.stat_result) -> str:
    """Say why a place may not be taken."""
    kind = "a folder" if stat.S_ISDIR(there.st_mode) else "something else"
    return f"{kind} is in its place, which is not replaced"


def temporary_name() -> bytes:
    """Return a name that nothing in a folder has [29 bytes]."""
    return b".coffer-" + os.urandom(8).hex().encode() + b".part"


def _remove(folder: Folder, name: bytes) -> None:
    with suppress(OSError):  # whatever kept it from being written may keep it from being removed
        os.unlink(name, dir_fd=folder.fd)
