"""What is left out: gitignore patterns and tagged cache folders."""

from __future__ import annotations

import os
import stat
from typing import Protocol

from coffer.errors import UsageError

# The signature of https://bford.info/cachedir/ (Bryan Ford, Cache Directory Tagging Specification).
CACHE_TAG_NAME = b"CACHEDIR.TAG"
_CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"


class Excludes(Protocol):
    """Says whether a path is left out."""

    def __call__(self, path: bytes, *, is_folder: bool) -> bool:
        """Return whether `path`, relative to its root, is left out."""
        ...


def make_excludes(exclude: tuple[str, ...], include: tuple[str, ...]) -> Excludes | None:
    """Return a function (path relative to its root, is a folder) → left out, or None where nothing is.

    Raises:
        UsageError: A pattern is not gitignore syntax.
    """
    lines = [*exclude, *("!" + pattern for pattern in include)]
    if not exclude:
        return None
    from pathspec import GitIgnoreSpec  # about 20 ms; only runs with patterns pay for it

    try:
        spec = GitIgnoreSpec.from_lines(lines)
    except Exception as error:  # noqa: BLE001 - pathspec raises its own kinds and re.error; all are the user's pattern
        raise UsageError(f"exclude patterns: {error}", hint="Patterns are written as in a .gitignore file.") from None

    def excluded(path: bytes, *, is_folder: bool) -> bool:
        text = os.fsdecode(path)
        return spec.match_file(text + "/" if is_folder else text)

    return excluded


def is_tagged_cache(folder_fd: int) -> bool:
    """Say whether an open folder holds a valid CACHEDIR.TAG: a regular file, no link, that begins as it must."""
    try:
        # O_NONBLOCK: a fifo of that name must not hang us.
        fd = os.open(CACHE_TAG_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and os.read(fd, len(_CACHE_TAG)) == _CACHE_TAG
    except OSError:
        return False
    finally:
        os.close(fd)
