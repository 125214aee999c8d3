"""From the location that a user writes to the store that it means."""

from __future__ import annotations

import os
from pathlib import Path

from coffer.backends.base import Backend
from coffer.errors import BackendLocationError

_LATER_SCHEMES = frozenset({"s3", "gs"})


def open_backend(location: str | Path, *, create: bool = False) -> Backend:
    """Open the store at a location.

    Args:
        location: A folder, as a path (``~`` is the home folder) or as ``file:///...`` (percent-encoded).
        create: Make the folder if it is missing.

    Raises:
        BackendLocationError: The location is of an unknown kind, missing, or not a folder; nothing was made.
        BackendAccessError: It may not be opened or made.
    """
    # Imported here, so that a program pays for the one kind of store that it opens.
    from coffer.backends.local import LocalBackend

    return LocalBackend(parse_local_location(location), create=create)


def parse_local_location(location: str | Path) -> Path:
    """Return the folder that a location means.

    Raises:
        BackendLocationError: It is empty, or not a place on this machine.
    """
    if isinstance(location, Path):
        return location
    scheme, separator, rest = location.partition("://")
    if not separator:
        if not location:
            raise BackendLocationError("location: is empty")
        path = os.path.expanduser(location)
        if location.startswith("~") and path == location:
            user = location.split("/", 1)[0]
            raise BackendLocationError(
                f"location {location!r}: there is no user {user[1:]!r}",
                hint=f"Write the whole path, or ./{user} for a folder of that name.",
            )
        return Path(path)
    if scheme in _LATER_SCHEMES:
        raise BackendLocationError(
            f"location of kind {scheme!r}: not in this version", hint="Give a folder; object stores come later."
        )
    if scheme != "file":
        # The rest is not shown: a mistyped address may hold a password.
        raise BackendLocationError(
            f"location of kind {scheme[:20]!r}: unknown", hint="Give a folder, or file:///folder."
        )
    if not rest.startswith("/"):
        raise BackendLocationError(
            "location of kind 'file': names a machine", hint="Write three slashes: file:///folder."
        )
    from urllib.parse import unquote_to_bytes

    path = os.fsdecode(unquote_to_bytes(rest))
    if "\0" in path:
        raise BackendLocationError("location of kind 'file': holds a null byte", hint="No path can hold %00.")
    return Path(path)
