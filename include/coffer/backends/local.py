"""A store in a folder of this machine: local disk, USB disk, NFS mount.

An object ``packs/ab/abcd`` is the file of that name below the root, mode 0400. A put writes a temporary in ``.tmp``
(names with a dot are no objects), fsyncs it, links it to its name, and fsyncs the folder.

The root is opened once and everything goes through that descriptor, one level at a time without following symbolic
links. So a disk that is unmounted or a folder that is renamed meanwhile never leads the store elsewhere, and the root
is never made anew behind the user's back.
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from coffer.backends.base import Buffer, ObjectInfo, validate_name, validate_prefix
from coffer.backends.folders import list_folder, make_folder, open_folder, open_root, root_is_gone
from coffer.backends.handles import HandleCache
from coffer.backends.posix_errors import translate
from coffer.backends.publish import fsync_directory, publish, write_parts
from coffer.backends.temporaries import TEMP_FOLDER, Temporary, sweep_temporaries
from coffer.errors import (
    BackendLocationError,
    BackendUnavailableError,
    CofferError,
    ObjectExistsError,
    ObjectNameInvalidError,
    ObjectNotFoundError,
    ShortReadError,
)

# Packs kept open for ranged reads. A restore reads from a few packs at a time; 16 is far below any limit on open files.
OPEN_PACKS = 16

# O_NONBLOCK: opening a fifo that someone left in the store must not hang; it does nothing to a regular file.
_OPEN_OBJECT = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

# A name, or a level of it, that is not there or is something else: no such object.
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


class LocalBackend:
    """Objects as files below a folder.

    Args:
        root: The folder; may itself be reached through symbolic links.
        create: Make it (mode 0700, with its parents) if it is missing.

    Raises:
        BackendLocationError: The root is missing (and `create` not given) or is no folder.
        BackendAccessError: It may not be opened or made.
        BackendFullError, BackendUnavailableError: The system could not open or make it just now.
    """

    def __init__(self, root: Path, *, create: bool = False) -> None:
        self._root = Path(os.path.abspath(root))
        self._root_fd_or_none: int | None = open_root(self._root, create=create)
        self._lock = Lock()
        self._handles = HandleCache(OPEN_PACKS)
        self._durable_folders: set[str] = set()
        self._swept = False

    @property
    def url(self) -> str:
        """Say where the store is."""
        return self._root.as_uri()

    def put(self, name: str, parts: Sequence[Buffer]) -> None:
        """Store an object durably under a name that is not taken; see `Backend.put`.

        Costs one write of the data, one fsync of the file and one of its folder; the first put of this backend into a
        folder also one for each folder above it.
        """
        validate_name(name)
        folder, _, leaf = name.rpartition("/")
        try:
            dir_fd = make_folder(self._root_fd, folder, self._durable_folders)
            try:
                self._require_free(dir_fd, leaf, name)
                self._write_and_publish(dir_fd, leaf, name, parts)
            finally:
                os.close(dir_fd)
        except OSError as error:
            raise self._put_error(error, name) from error

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; see `Backend.get`. Packs that ranges are read from are kept open."""
        validate_name(name)
        if offset < 0 or (length is not None and length < 0):
            raise ValueError(f"range of {name!r} must not be negative: offset {offset}, length {length}")
        try:
            if length is None:
                fd = self._open_object(name)
                try:
                    return _read_range(fd, name, offset, None)
                finally:
                    os.close(fd)
            handle = self._handles.acquire(name, self._open_object)
            try:
                return _read_range(handle.fd, name, offset, length)
            finally:
                self._handles.release(handle)
        except OSError as error:
            raise self._error(error, name, "cannot be read") from error

    def stat(self, name: str) -> ObjectInfo:
        """Return size and time of one object; see `Backend.stat`."""
        validate_name(name)
        folder, _, leaf = name.rpartition("/")
        try:
            with self._opened(folder) as dir_fd:
                status = os.stat(leaf, dir_fd=dir_fd, follow_symlinks=False)
        except OSError as error:
            raise self._error(error, name, "cannot be looked up") from error
        if not stat_module.S_ISREG(status.st_mode):
            raise _not_found(name)
        return ObjectInfo(name, status.st_size, status.st_mtime_ns)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects below a prefix, sorted by name; see `Backend.list`.

        Names with a leading dot, what file systems make by themselves (``lost+found``) and what is neither file nor
        folder are passed over. A folder is read when the listing comes to it, and held in memory one at a time.
        """
        validate_prefix(prefix)
        self._require_root()
        folder, _, leaf_prefix = prefix.rpartition("/")
        return self._list_below(folder, leaf_prefix)

    def delete(self, name: str) -> None:
        """Remove one object durably if it is there; see `Backend.delete`. Its folder stays."""
        validate_name(name)
        self._handles.forget(name)
        folder, _, leaf = name.rpartition("/")
        try:
            with self._opened(folder) as dir_fd:
                if _kind_of(leaf, dir_fd) == stat_module.S_IFREG:
                    with suppress(FileNotFoundError):
                        os.unlink(leaf, dir_fd=dir_fd)
                # Also where nothing was there: an earlier delete may have been cut short before its fsync.
                fsync_directory(dir_fd)
        except OSError as error:
            found = self._error(error, name, "cannot be deleted")
            if not isinstance(found, ObjectNotFoundError):
                raise found from error

    def close(self) -> None:
        """Close all descriptors; idempotent."""
        self._handles.clear()
        with self._lock:
            root_fd, self._root_fd_or_none = self._root_fd_or_none, None
        if root_fd is not None:
            os.close(root_fd)

    # ------------------------------------------------------------------------------------------------ put

    def _require_free(self, dir_fd: int, leaf: str, name: str) -> None:
        """Spare the writing of an object whose name is taken; publishing decides in the end."""
        kind = _kind_of(leaf, dir_fd)
        if kind == stat_module.S_IFDIR:
            raise ObjectNameInvalidError(f"object {name!r}: a folder of that name is in the store", name=name)
        if kind is not None:
            self._raise_exists(dir_fd, name)

    def _raise_exists(self, dir_fd: int, name: str) -> None:
        # Who is told "exists already" will rely on the object there; its writer may not have come to this fsync yet.
        fsync_directory(dir_fd)
        raise ObjectExistsError(f"object {name!r}: exists already", name=name)

    def _write_and_publish(self, dir_fd: int, leaf: str, name: str, parts: Sequence[Buffer]) -> None:
        temp_dir_fd = make_folder(self._root_fd, TEMP_FOLDER, self._durable_folders)
        try:
            self._sweep_once(temp_dir_fd)
            with Temporary(temp_dir_fd) as temp:
                _write_durably(temp, name, parts)
                try:
                    publish(temp, leaf, dir_fd)
                except FileExistsError:
                    self._raise_exists(dir_fd, name)
        finally:
            os.close(temp_dir_fd)
        try:
            fsync_directory(dir_fd)
        except OSError as error:
            # Whatever the cause: the name may be there now, which only "unavailable" leaves open.
            raise BackendUnavailableError(
                f"object {name!r}: stored, but its folder could not be synced", name=name
            ) from error

    def _sweep_once(self, temp_dir_fd: int) -> None:
        """Remove killed writers' temporaries with the first put: who only reads changes nothing."""
        with self._lock:
            if self._swept:
                return
            self._swept = True
        sweep_temporaries(temp_dir_fd)

    def _put_error(self, error: OSError, name: str) -> CofferError:
        if root_is_gone(self._root_fd, self._root):
            return self._root_gone()
        if error.errno == errno.ENOTDIR:
            return ObjectNameInvalidError(f"object {name!r}: a level of it is not a folder in the store", name=name)
        return translate(error, f"object {name!r}: cannot be stored")

    # ------------------------------------------------------------------------------------------------ reading

    def _open_object(self, name: str) -> int:
        folder, _, leaf = name.rpartition("/")
        with self._opened(folder) as dir_fd:
            fd = os.open(leaf, _OPEN_OBJECT, dir_fd=dir_fd)
        if not stat_module.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise _not_found(name)
        return fd

    def _list_below(self, folder: str, leaf_prefix: str) -> Iterator[ObjectInfo]:
        try:
            with self._opened(folder) as dir_fd:
                entries = list_folder(dir_fd, folder, leaf_prefix)
        except OSError as error:
            found = self._error(error, folder or ".", "cannot be listed")
            if isinstance(found, ObjectNotFoundError):
                return
            raise found from error
        for entry in entries:
            if entry.info is not None:
                yield entry.info
            else:
                yield from self._list_below(entry.path, "")

    # ------------------------------------------------------------------------------------------------ root

    @property
    def _root_fd(self) -> int:
        root_fd = self._root_fd_or_none
        if root_fd is None:
            raise ValueError("the store was closed")
        return root_fd

    @contextmanager
    def _opened(self, folder: str) -> Iterator[int]:
        dir_fd = open_folder(self._root_fd, folder)
        try:
            yield dir_fd
        finally:
            os.close(dir_fd)

    def _error(self, error: OSError, name: str, what: str) -> CofferError:
        """Return the error of a failed look at a name: an absent one is told from an absent store."""
        if error.errno not in _MISSING:
            return translate(error, f"object {name!r}: {what}")
        return self._root_gone() if root_is_gone(self._root_fd, self._root) else _not_found(name)

    def _require_root(self) -> None:
        if root_is_gone(self._root_fd, self._root):
            raise self._root_gone()

    def _root_gone(self) -> CofferError:
        return BackendLocationError(
            f"store {self.url}: its folder was removed while it was in use",
            hint="Was its disk unmounted, or the folder moved?",
        )


def _not_found(name: str) -> ObjectNotFoundError:
    return ObjectNotFoundError(f"object {name!r}: not found", name=name)


def _kind_of(leaf: str, dir_fd: int) -> int | None:
    """Return the file type bits of an entry; None where there is none."""
    try:
        return stat_module.S_IFMT(os.stat(leaf, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def _write_durably(temp: Temporary, name: str, parts: Sequence[Buffer]) -> None:
    written_bytes = write_parts(temp.fd, parts)
    # After a failed fsync the kernel may drop the dirty pages and let a second fsync succeed, so an error here ends
    # this temporary; a retry writes a new one. Source: Rebello et al., "Can applications recover from fsync failures?",
    # USENIX ATC 2020.
    os.fsync(temp.fd)
    size_bytes = os.fstat(temp.fd).st_size
    if size_bytes != written_bytes:
        raise BackendUnavailableError(
            f"object {name!r}: {written_bytes} bytes were written, the file has {size_bytes}", name=name
        )


def _read_range(fd: int, name: str, offset: int, length: int | None) -> bytes:
    """Read exactly a range; the size is asked first, so that a false length takes no memory."""
    size_bytes = os.fstat(fd).st_size
    stop = max(offset, size_bytes) if length is None else offset + length
    if stop > size_bytes:
        raise _short_read(name, size_bytes, stop)
    missing_bytes = stop - offset
    pieces: list[bytes] = []
    while missing_bytes:
        # One call reads at most 2 GiB on Linux, and may read less.
        piece = os.pread(fd, missing_bytes, offset)
        if not piece:
            raise _short_read(name, offset, stop)
        if not pieces and len(piece) == missing_bytes:
            return piece
        pieces.append(piece)
        offset += len(piece)
        missing_bytes -= len(piece)
    return b"".join(pieces)


def _short_read(name: str, size_bytes: int, wanted_bytes: int) -> ShortReadError:
    return ShortReadError(
        f"object {name!r}: has {size_bytes} bytes, {wanted_bytes} were expected", name=name, size_bytes=size_bytes
    )
