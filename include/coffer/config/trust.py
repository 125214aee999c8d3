"""Whether a policy that lies in the working folder may be believed.

A policy says what is read, where it is written, and with which key. One that nobody named, but that merely lies where a
command happened to be started, is obeyed only if nobody else can have put it there; as ssh does with its own settings.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_ROOT = 0


def distrust(path: Path) -> str:
    """Return why the policy may be somebody else's, in words for a message; empty where it cannot be.

    The file and the folder that holds it are looked at, and where one is a symbolic link, the link too: relative paths
    of the policy count from that folder.

    Raises:
        OSError: One of them cannot be looked at.
    """
    for place in (path, path.parent):
        for found in (os.lstat(place), os.stat(place)):
            reason = distrust_owner(found)
            if reason:
                return f"{'file' if place == path else 'folder'} {reason}"
    return ""


def distrust_owner(found: os.stat_result) -> str:
    """Return whether others than root and oneself own something, or may write it; empty where not.

    The group may write what has this process's own group: many systems give every user a group of his own, and let it
    write.
    """
    if found.st_uid not in (_ROOT, os.geteuid()):
        return f"belongs to user {found.st_uid}"
    if stat.S_ISLNK(found.st_mode):  # a link's mode says nothing
        return ""
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and found.st_gid != os.getegid()):
        return f"may be written by others, mode {mode:04o}"
    return ""
