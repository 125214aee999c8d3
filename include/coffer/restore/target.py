"""The target folder: what it must be before anything is written into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from coffer.errors import RestoreTargetError, UsageError
from coffer.repository.repository import Repository
from coffer.restore.spec import Overwrite

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # the path is resolved: a link there is a new one


@contextmanager
def taken_back_unused(target: Path) -> Iterator[None]:
    """Take back the target folder, and the parents made for it, where the restore within turns out to want nothing.

    Only folders that were not there before, and only while they are empty: what is in them stays. The error goes on.
    """
    path = Path(os.path.realpath(target))
    missing = list(takewhile(lambda folder: not os.path.lexists(folder), (path, *path.parents)))
    try:
        yield
    except UsageError:
        try:
            for folder in missing:
                folder.rmdir()
        except OSError:  # not made, or somebody put something into it meanwhile
            pass
        raise


class Target:
    """A target that was found fit.

    Attributes:
        path: Absolute, symbolic links of the user's own spelling resolved.
        is_empty: Nothing is in it, or it does not exist.
        forbidden: (device, inode) of the repository's folder, which is not to be entered; None if it is elsewhere.
    """

    def __init__(self, repo: Repository, target: Path, overwrite: Overwrite | None) -> None:
        """Check a target; changes nothing.

        Raises:
            RestoreTargetError: It is no folder, lies in the repository, may not be read, or is not empty where nothing
                was said about overwriting.
        """
        self.path = Path(os.path.realpath(target))
        self.forbidden = _refuse_repository(repo, self.path)
        self._identity: tuple[int, int] | None = None
        names = self._names()
        self.exists = names is not None
        self.is_empty = not names
        if not self.is_empty and overwrite is None:
            raise RestoreTargetError(f"target {self.path}: is not empty")

    def _names(self) -> list[str] | None:
        try:
            fd = os.open(self.path, _OPEN)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise RestoreTargetError(f"target {self.path}: is not a folder", hint=_FOLDER_HINT) from None
        except OSError as error:
            raise self._cannot("cannot be read", error) from error
        try:
            status = os.fstat(fd)
            self._identity = status.st_dev, status.st_ino
            return _first_name(fd)
        except OSError as error:
            raise self._cannot("cannot be read", error) from error
        finally:
            os.close(fd)

    def open(self, *, create: bool) -> int | None:
        """Return a descriptor of the target; makes it (mode 0700, with its parents) if asked to.

        Returns:
            None where it does not exist and is not to be made.

        Raises:
            RestoreTargetError: It cannot be made or opened.
        """
        if not self.exists and not create:
            return None
        try:
            if not self.exists:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.mkdir(mode=0o700)
            fd = os.open(self.path, _OPEN)
        except OSError as error:
            raise self._cannot("cannot be used", error) from error
        try:
            self._require_same(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _require_same(self, fd: int) -> None:
        """Refuse a folder that is not the one that was looked at: somebody put another in its place meanwhile.

        Raises:
            RestoreTargetError: It is another, or is not empty any more. Nothing was written.
        """
        status = os.fstat(fd)
        other = self._identity is not None and self._identity != (status.st_dev, status.st_ino)
        if other or (self.is_empty and _first_name(fd)):
            raise RestoreTargetError(
                f"target {self.path}: was changed while the restore began",
                hint="Who else may write there? Give a folder that only you can write to.",
            )

    def _cannot(self, what: str, error: OSError) -> RestoreTargetError:
        return RestoreTargetError(
            f"target {self.path}: {what} ({(error.strerror or str(error)).lower()})", hint=_FOLDER_HINT
        )


def _first_name(fd: int) -> list[str]:
    """Return one name in a folder, or none."""
    with os.scandir(fd) as listing:
        return [entry.name for entry in listing][:1]


_FOLDER_HINT = "Give a folder that you may write to, or one that does not exist yet."


def _refuse_repository(repo: Repository, target: Path) -> tuple[int, int] | None:
    """Refuse a target in the repository's own folder; return that folder's identity."""
    url = urlsplit(repo.backend.url)
    if url.scheme != "file":
        return None
    own = Path(os.path.realpath(unquote(url.path)))
    if target == own or own in target.parents:
        raise RestoreTargetError(
            f"target {target}: lies in the repository {own} itself", hint="Give a folder outside the repository."
        )
    try:
        status = os.stat(own)
    except OSError:
        return None
    return status.st_dev, status.st_ino
