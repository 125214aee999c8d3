"""Paths as users write them on the command line."""

from __future__ import annotations

import os
from pathlib import Path

from coffer.errors import UsageError


def user_path(text: str) -> Path:
    """Return the path that an option means; ``~`` and ``~user`` are home folders.

    Raises:
        UsageError: There is no such user, as after a typing mistake: a folder named ``~user`` is hardly meant.
    """
    path = os.path.expanduser(text)
    if text.startswith("~") and path == text:
        user = text.split("/", 1)[0]
        raise UsageError(
            f"path {text!r}: there is no user {user[1:]!r}",
            hint=f"Write the whole path, or ./{user} for a folder of that name.",
        )
    return Path(path)
