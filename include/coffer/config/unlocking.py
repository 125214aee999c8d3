"""From what the policy says of the key to what opens a repository. Importing it loads no pydantic."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from coffer.crypto.kek import KeyFileUnlocker, PassphraseUnlocker, Unlocker
from coffer.errors import KeyFileError, UsageError

if TYPE_CHECKING:
    from coffer.config.policy import Policy

_MAX_PASSPHRASE_BYTES = 4096


def policy_unlocker(policy: Policy) -> Unlocker | None:
    """Return what the policy refers to, or None where it leaves the passphrase to the terminal.

    Raises:
        KeyFileError: The file that it names cannot be used.
        UsageError: It refers to something that this version cannot use.
    """
    reference = policy.key_reference
    if reference.storage == "key_file":
        return KeyFileUnlocker.load(reference.key_file)
    if reference.storage != "passphrase":
        raise UsageError(f"encryption.at_rest.key_storage: {reference.storage} is not in this version")
    if reference.passphrase_file is not None:
        return PassphraseUnlocker(read_passphrase_file(reference.passphrase_file))
    text = os.environ.get(reference.passphrase_env) if reference.passphrase_env else None
    return PassphraseUnlocker(text) if text else None


def read_passphrase_file(path: Path, *, what: str = "passphrase") -> str:
    """Return the first line of a file, without its end.

    Args:
        path: The file.
        what: What it holds, for messages.

    Raises:
        KeyFileError: Missing, unreadable, readable by others, empty, or not UTF-8; never with its content.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.readline(_MAX_PASSPHRASE_BYTES).rstrip(b"\r\n")
    except OSError as error:
        raise KeyFileError(
            f"{what} file {path}: cannot be read ({error.strerror})", hint="Check the path, and who may read it."
        ) from None
    if stat.S_ISREG(mode) and mode & 0o077:
        raise KeyFileError(
            f"{what} file {path}: mode {mode & 0o777:04o} lets others read it", hint=f"Run: chmod 600 {path}"
        )
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise KeyFileError(f"{what} file {path}: not UTF-8", hint="Write it as UTF-8 text.") from None
    if not text:
        raise KeyFileError(f"{what} file {path}: its first line is empty", hint=f"Write the {what} into it.")
    return text
