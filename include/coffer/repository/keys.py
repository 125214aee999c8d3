"""The wrapped keys below ``keys/``: written at init, opened with every repository."""

from __future__ import annotations

import hmac
from typing import NamedTuple

from coffer.backends.base import Backend, ObjectInfo
from coffer.crypto.kek import Kek, Unlocker
from coffer.crypto.keyring import (
    MAX_OBJECT_BYTES,
    Keyring,
    WrapContext,
    key_object_name,
    new_keys,
    parse_wrapped_key,
    unwrap_key,
    wrap_key,
)
from coffer.errors import CryptoError, FormatVersionError, ObjectCorruptError, SizeLimitError, WrongKeyError
from coffer.repository.objects import read_whole
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
        ObjectCorruptError, SizeLimitError: A wrapped key is damaged.
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
        data = read_whole(backend, info.name, MAX_OBJECT_BYTES, info.size_bytes)
        try:
            kind, number, secret = unwrap_key(kek, context, data, info.name)
        except WrongKeyError as error:
            refusal = error
            continue
        if not hmac.compare_digest(keys.setdefault((kind, number), secret), secret):
            raise ObjectCorruptError(f"{info.name}: wraps another {kind} key than its other wraps", object=info.name)
    if refusal is not None and not keys:
        raise refusal
    return Keyring.of(settings.repository_id, keys)


class WrappedKey(NamedTuple):
    """One object below ``keys/``, as `survey_keys` found it.

    Attributes:
        name: The object.
        kind: What the key is for; empty where the object is damaged.
        number: The epoch of a root, else 0.
        opens: Whether the key or passphrase at hand opens it.
        damage: What is wrong with the object; empty where nothing is.
    """

    name: str
    kind: str
    number: int
    opens: bool
    damage: str


def survey_keys(backend: Backend, settings: RepositorySettings, unlocker: Unlocker) -> list[WrappedKey]:
    """Return every wrapped key, sorted by name, and whether it opens. Damage of one is in its row; no secret is kept.

    Raises:
        BackendError, TransientError: The store could not be read.
    """
    kek = _kek(settings, unlocker) if unlocker.kind == settings.unlock_kind else None
    context = WrapContext.of(settings.repository_id, settings.raw)
    return [_survey(backend, info, kek, context) for info in backend.list(PREFIX)]


def _survey(backend: Backend, info: ObjectInfo, kek: Kek | None, context: WrapContext) -> WrappedKey:
    kind, number = "", 0
    try:
        data = read_whole(backend, info.name, MAX_OBJECT_BYTES, info.size_bytes)
        kind, number = parse_wrapped_key(data, info.name)
        if kek is None:
            return WrappedKey(info.name, kind, number, opens=False, damage="")
        unwrap_key(kek, context, data, info.name)
    except WrongKeyError:
        return WrappedKey(info.name, kind, number, opens=False, damage="")
    except (ObjectCorruptError, SizeLimitError, FormatVersionError) as error:
        return WrappedKey(info.name, kind, number, opens=False, damage=error.message)
    return WrappedKey(info.name, kind, number, opens=True, damage="")


def _kek(settings: RepositorySettings, unlocker: Unlocker) -> Kek:
    return unlocker.kek(salt=settings.unlock_salt, params=settings.argon2)
