"""The wrapped keys below ``keys/``: written at init, opened with every repository."""

from __future__ import annotations

from coffer.backends.base import Backend
from coffer.crypto.kek import Kek, Unlocker
from coffer.crypto.keyring import (
    MAX_OBJECT_BYTES,
    Keyring,
    WrapContext,
    key_object_name,
    new_keys,
    unwrap_key,
    wrap_key,
)
from coffer.errors import CryptoError, SizeLimitError, WrongKeyError
from coffer.repository.settings import RepositorySettings

PREFIX = "keys/"


def create_keys(backend: Backend, settings: RepositorySettings, unlocker: Unlocker) -> Keyring:
    """Make and put the keys of a new repository, before coffer.json exists; each is durable on return."""
    kek = _kek(settings, unlocker)
    context = WrapContext.of(settings.repository_id, settings.raw)
    keys = new_keys()
    for (kind, number), secret in keys.items():
        backend.put(key_object_name(kind, number, 1), [wrap_key(kek, context, kind, number, secret)])
    return Keyring.of(settings.repository_id, keys)


def open_keys(backend: Backend, settings: RepositorySettings, unlocker: Unlocker) -> Keyring:
    """Unwrap every key that the given key opens.

    Keys wrapped again (rotation) exist several times; the ones that open are taken, and they must agree.

    Raises:
        WrongKeyError: None opens, or the repository is opened by another kind of key.
        KeyMissingError: A kind of key is not there.
        ObjectCorruptError: A wrapped key is damaged.
    """
    if unlocker.kind != settings.unlock_kind:
        raise WrongKeyError(
            f"this repository is opened by a {settings.unlock_kind}, a {unlocker.kind} was given",
            hint="Give a --key-file for a key-file repository, a passphrase for a passphrase repository.",
        )
    kek = _kek(settings, unlocker)
    context = WrapContext.of(settings.repository_id, settings.raw)
    keys: dict[tuple[str, int], bytes] = {}
    refusal: CryptoError | None = None
    for info in backend.list(PREFIX):
        if info.size_bytes > MAX_OBJECT_BYTES:
            raise SizeLimitError(f"{info.name}: {info.size_bytes} bytes, over the cap of {MAX_OBJECT_BYTES}")
        try:
            kind, number, secret = unwrap_key(kek, context, backend.get(info.name), info.name)
        except WrongKeyError as error:
            refusal = error
            continue
        keys[kind, number] = secret
    if refusal is not None and not keys:
        raise refusal
    return Keyring.of(settings.repository_id, keys)


def _kek(settings: RepositorySettings, unlocker: Unlocker) -> Kek:
    return unlocker.kek(salt=settings.unlock_salt, params=settings.argon2)
