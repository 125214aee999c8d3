"""Folders of a local store: opened below the root level by level, made durably, listed in the order of names."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from coffer.backends.base import ObjectInfo, validate_name
from coffer.backends.posix_errors import translate
from coffer.backends.publish import fsync_directory
from coffer.errors import BackendLocationError

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Made by file systems and file servers by themselves, in any folder; none is in the alphabet of names. Any other stray
# name is reported: it was put there by someone, and may be a copy of an object under a damaged name.
FOREIGN_NAMES = frozenset(
    {"lost+found", "@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file (with `info`) or a folder (without) of the store; `path` is its name from the root."""

    path: str
    info: ObjectInfo | None


def open_root(root: Path, *, create: bool) -> int:
    """Open the root of a store; return its descriptor.

    Args:
        root: Absolute path; symbolic links in it are followed.
        create: Make it, and its parents, if missing (mode 0700, durably).

    Raises:
        BackendLocationError: It is missing, or no folder.
        BackendAccessError, BackendFullError, BackendUnavailableError: It could not be opened or made.
    """
    try:
        if create:
            _make_root(root)
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BackendLocationError(f"store {root.as_uri()}: the folder does not exist") from error
    except (NotADirectoryError, FileExistsError) as error:
        raise BackendLocationError(f"store {root.as_uri()}: is not a folder") from error
    except OSError as error:
        raise translate(error, f"store {root.as_uri()}: cannot be opened") from error


def _make_root(root: Path) -> None:
    missing = list(takewhile(lambda folder: not folder.is_dir(), (root, *root.parents)))
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        parent_fd = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fsync_directory(parent_fd)
        finally:
            os.close(parent_fd)


def root_is_gone(root_fd: int, root: Path) -> bool:
    """Return whether the open root was removed from its file system.

    Some FUSE file systems count no links at all, so a count of nought is believed only if the path agrees.
    """
    try:
        status = os.fstat(root_fd)
    except OSError:
        # The file system does not answer (ESTALE, EIO): that is another matter, which the failed call itself reports.
        return False
    if status.st_nlink > 0:
        return False
    try:
        return not os.path.samestat(status, os.stat(root))
    except OSError:
        return True


def open_folder(root_fd: int, folder: str) -> int:
    """Open a folder by its name from the root; return a new descriptor. No level may be a symbolic link.

    Raises:
        OSError: ENOENT, ENOTDIR or ELOOP where a level is missing or no folder.
    """
    current_fd = os.open(".", _OPEN_FOLDER, dir_fd=root_fd)
    for level in folder.split("/") if folder else ():
        parent_fd = current_fd
        try:
            current_fd = os.open(level, _OPEN_FOLDER, dir_fd=parent_fd)
        finally:
            os.close(parent_fd)
    return current_fd


def make_folder(root_fd: int, folder: str, durable: set[str]) -> int:
    """Open a folder as `open_folder` does, making levels that are missing (mode 0700).

    Each level's entry in its parent is fsynced when it is made, and once per `durable` where another process made it:
    that one may have been killed before it came to it.

    Args:
        root_fd: The root.
        folder: Name from the root; empty for the root itself.
        durable: Levels known to be durable; added to. A set's `in` and `add` are atomic, no lock is needed.

    Raises:
        OSError: A level could not be made or opened; levels above it may have been made.
    """
    current_fd = os.open(".", _OPEN_FOLDER, dir_fd=root_fd)
    path = ""
    for level in folder.split("/") if folder else ():
        path = f"{path}/{level}" if path else level
        parent_fd = current_fd
        try:
            is_new = _make_if_missing(level, parent_fd)
            if is_new or path not in durable:
                fsync_directory(parent_fd)
                durable.add(path)
            current_fd = os.open(level, _OPEN_FOLDER, dir_fd=parent_fd)
        finally:
            os.close(parent_fd)
    return current_fd


def _make_if_missing(level: str, parent_fd: int) -> bool:
    try:
        os.stat(level, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        # Another writer may be quicker.
        with suppress(FileExistsError):
            os.mkdir(level, 0o700, dir_fd=parent_fd)
        return True
    return False


def list_folder(dir_fd: int, folder: str, leaf_prefix: str) -> list[Entry]:
    """Return the objects and folders of one folder whose last level starts with a prefix, in order of object names.

    A folder counts as its name and a slash, since that is how the names of its objects begin: ``a-b`` and ``a.b`` come
    before ``a/x``, and that before ``a0``.

    Raises:
        OSError: The folder cannot be read.
        ObjectNameInvalidError: An entry's name is outside the alphabet.
    """
    found: list[tuple[str, Entry]] = []
    above = f"{folder}/" if folder else ""
    with os.scandir(dir_fd) as entries:
        for entry in entries:
            leaf = entry.name
            if leaf.startswith(".") or leaf in FOREIGN_NAMES or not leaf.startswith(leaf_prefix):
                continue
            path = above + leaf
            if entry.is_dir(follow_symlinks=False):
                found.append((leaf + "/", Entry(validate_name(path), None)))
            elif entry.is_file(follow_symlinks=False):
                info = _info(validate_name(path), leaf, dir_fd)
                if info is not None:
                    found.append((leaf, Entry(path, info)))
    found.sort(key=lambda item: item[0])
    return [entry for _, entry in found]


def _info(name: str, leaf: str, dir_fd: int) -> ObjectInfo | None:
    try:
        status = os.stat(leaf, dir_fd=dir_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOENT:
            # Deleted between the two calls.
            return None
        raise
    return ObjectInfo(name, status.st_size, status.st_mtime_ns)
