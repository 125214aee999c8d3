"""Keys that every run shares, and random numbers that come again. Test keys: they protect nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from blake3 import blake3

from coffer.crypto.kek import KeyFileUnlocker
from coffer.crypto.keyring import CHUNK_ID, ROOT, SIGNING, Keyring

REPOSITORY_ID = bytes(range(16))
KEY_FILE_SECRET = bytes(range(32))
KEYS = {
    (ROOT, 1): b"test root of epoch 1, no secret!",
    (CHUNK_ID, 0): b"test chunk-id key, not a secret!",
    (SIGNING, 0): b"test signing key, not a secret!!",
}


def make_keyring(repository_id: bytes = REPOSITORY_ID, **others: bytes) -> Keyring:
    """Return the test keyring, with other keys where given: root=..., chunk_id=..., signing=... [32 bytes each]."""
    names = {"root": (ROOT, 1), "chunk_id": (CHUNK_ID, 0), "signing": (SIGNING, 0)}
    return Keyring.of(repository_id, KEYS | {names[name]: key for name, key in others.items()})


def make_unlocker() -> KeyFileUnlocker:
    """Return what opens the test repositories."""
    return KeyFileUnlocker(KEY_FILE_SECRET)


@contextmanager
def random_again(label: str) -> Iterator[None]:
    """Let `secrets` give the same numbers again in every run: for objects that are compared with stored ones."""
    drawn = 0

    def token_bytes(count: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return blake3(f"{label}/{drawn}".encode()).digest(length=count)

    with (
        mock.patch.object(secrets, "token_bytes", token_bytes),
        mock.patch.object(secrets, "token_hex", lambda count: token_bytes(count).hex()),
    ):
        yield
