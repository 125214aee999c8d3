"""What is left out: gitignore patterns and tagged cache folders."""

from __future__ import annotations

import os
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


def is_tagged_cache(folder: bytes) -> bool:
    """Say whether a folder holds a valid CACHEDIR.TAG."""
    try:
        with open(os.path.join(folder, CACHE_TAG_NAME), "rb") as file:
            return file.read(len(_CACHE_TAG)) == _CACHE_TAG
    except OSError:
        return False
