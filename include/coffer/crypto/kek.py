"""The key-encryption key of the embedded default: from a key file or a passphrase. Never stored with the data."""

from __future__ import annotations

import base64
import binascii
import errno
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coffer.crypto.kdf import KEY_BYTES, Argon2Params, argon2id, derive_key_and_commitment
from coffer.errors import KeyFileError

KEY_FILE_MARK = "coffer-key-1"
KIND_KEY_FILE = "key-file"
KIND_PASSPHRASE = "passphrase"  # noqa: S105 - the word for it, not one
MIN_NEW_PASSPHRASE = 8  # [characters] NIST SP 800-63B, section 5.1.1.1: no memorized secret is shorter
_INFO = b"coffer/1/kek"
_SEVERAL_WORDS = f"Give several words, {MIN_NEW_PASSPHRASE} characters or more: a short one is found by trying."


@dataclass(frozen=True, slots=True, repr=False)
class Kek:
    """A key-encryption key and its public commitment [32 bytes each]. Its repr shows neither."""

    key: bytes
    commitment: bytes


class Unlocker(Protocol):
    """What a person or a machine holds to open a repository."""

    @property
    def kind(self) -> str:
        """One of the kinds that coffer.json names."""
        ...

    def kek(self, *, salt: bytes, params: Argon2Params) -> Kek:
        """Return the KEK for a repository's salt [32 bytes]; deterministic; may cost memory and time (Argon2id)."""
        ...


class KeyFileUnlocker:
    """Opens with 32 random bytes kept in a file."""

    kind = KIND_KEY_FILE

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a key file holds {KEY_BYTES} bytes")
        self._secret = secret

    @classmethod
    def load(cls, path: Path) -> KeyFileUnlocker:
        """Read a key file.

        Raises:
            KeyFileError: Missing, unreadable, malformed, or readable by group or others.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(4096)
        except FileNotFoundError:
            raise KeyFileError(f"key file {path}: does not exist") from None
        except OSError as error:
            raise KeyFileError(f"key file {path}: cannot be read ({error.strerror})") from None
        if stat.S_ISREG(mode) and mode & 0o077:
            raise KeyFileError(
                f"key file {path}: mode {mode & 0o777:04o} lets others read it", hint=f"Run: chmod 600 {path}"
            )
        return cls(_parse_key_file(text, path))

    def kek(self, *, salt: bytes, params: Argon2Params) -> Kek:  # noqa: ARG002 - one interface for both kinds
        """Derive the KEK by HKDF: the secret is random, so no slow function is needed."""
        return Kek(*derive_key_and_commitment(self._secret, salt=salt, info=_INFO))


class PassphraseUnlocker:
    """Opens with a passphrase, stretched by Argon2id."""

    kind = KIND_PASSPHRASE

    def __init__(self, passphrase: str) -> None:
        if not passphrase:
            raise KeyFileError("passphrase: empty", hint=_SEVERAL_WORDS)
        try:
            self._passphrase = passphrase.encode()
        except UnicodeEncodeError:  # an environment variable may hold any bytes; the error would show them
            raise KeyFileError("passphrase: not UTF-8", hint="Give it as UTF-8 text.") from None

    def require_fit_for_new(self) -> None:
        """Refuse what no new repository should be opened by. Opening one asks nothing of this: the words are its own.

        Raises:
            KeyFileError: It is blank, or shorter than `MIN_NEW_PASSPHRASE`. The message does not say how long it is.
        """
        text = self._passphrase.decode()
        if not text.strip():
            raise KeyFileError("passphrase: nothing but white space", hint=_SEVERAL_WORDS)
        if len(text) < MIN_NEW_PASSPHRASE:
            raise KeyFileError(f"passphrase: shorter than {MIN_NEW_PASSPHRASE} characters", hint=_SEVERAL_WORDS)

    def kek(self, *, salt: bytes, params: Argon2Params) -> Kek:
        """Derive the KEK by Argon2id, then HKDF."""
        return Kek(
            *derive_key_and_commitment(argon2id(self._passphrase, salt=salt, params=params), salt=salt, info=_INFO)
        )


def write_new_key_file(path: Path) -> KeyFileUnlocker:
    """Make a key file of 32 random bytes, mode 0600; on return it is fsynced, its folder too.

    Raises:
        KeyFileError: The file exists (it is untouched), or cannot be written.
    """
    secret = secrets.token_bytes(KEY_BYTES)
    text = f"{KEY_FILE_MARK} {base64.b64encode(secret).decode()}\n".encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        except OSError:
            path.unlink()  # half a key opens nothing, and would be in the way of the next try
            raise
        finally:
            os.close(fd)
        folder_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder_fd)
        finally:
            os.close(folder_fd)
    except OSError as error:
        if isinstance(error, FileExistsError) and os.path.lexists(path):
            hint = "A key is never overwritten. Name another file, or use this one."
            raise KeyFileError(f"key file {path}: exists already", hint=hint) from None
        raise KeyFileError(f"key file {path}: cannot be written ({error.strerror})") from None
    return KeyFileUnlocker(secret)


def _parse_key_file(text: bytes, path: Path) -> bytes:
    words = text.split()
    if len(words) != 2 or words[0] != KEY_FILE_MARK.encode():
        raise KeyFileError(f"key file {path}: not of the form '{KEY_FILE_MARK} <44 base64 characters>'")
    try:
        secret = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        raise KeyFileError(f"key file {path}: its base64 is damaged") from None
    if len(secret) != KEY_BYTES:
        raise KeyFileError(f"key file {path}: holds {len(secret)} bytes, not {KEY_BYTES}")
    return secret
