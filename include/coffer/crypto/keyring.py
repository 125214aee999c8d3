"""The keyring: the repository's own keys, each wrapped by the KEK, and how they are wrapped.

Wrapped keys are small JSON objects below ``keys/`` (docs/format.md §2). A wrap is AES-256-GCM under the KEK with a
random nonce (a KEK seals a few dozen keys in its life; NIST SP 800-38D §8.3 allows 2^32), bound to repository, kind,
number and to the exact bytes of coffer.json, so an edited configuration does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coffer.crypto.hashing import IdKeys
from coffer.crypto.kdf import KEY_BYTES
from coffer.crypto.kek import Kek
from coffer.errors import FormatVersionError, KeyMissingError, ObjectCorruptError, SignatureError, WrongKeyError

ROOT = "root"
CHUNK_ID = "chunk-id"
SIGNING = "signing"
_KINDS = (ROOT, CHUNK_ID, SIGNING)
_MARK = "coffer-key"
_VERSION = 1
_NONCE_BYTES = 12
MAX_OBJECT_BYTES = 4096  # a wrapped key is about 400 bytes


@dataclass(frozen=True, slots=True)
class WrapContext:
    """What every wrapped key of a repository is bound to.

    Attributes:
        repository_id: [16 bytes].
        config_digest: SHA-256 of coffer.json as stored [32 bytes].
    """

    repository_id: bytes
    config_digest: bytes

    @classmethod
    def of(cls, repository_id: bytes, config: bytes) -> WrapContext:
        """Return the context for a repository whose coffer.json has the bytes `config`."""
        return cls(repository_id, hashlib.sha256(config).digest())

    def aad(self, kind: str, number: int) -> bytes:
        """Return the additional data of one wrap."""
        return b"coffer/1/wrap\0" + self.repository_id + self.config_digest + f"{kind}/{number}".encode()


def wrap_key(kek: Kek, context: WrapContext, kind: str, number: int, secret: bytes) -> bytes:
    """Return the stored form of one key."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(kek.key).encrypt(nonce, secret, context.aad(kind, number))
    document = {
        "object": _MARK,
        "format": _VERSION,
        "kind": kind,
        "number": number,
        "kek_commitment": kek.commitment.hex(),
        "nonce": nonce.hex(),
        "sealed": base64.b64encode(sealed).decode(),
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def unwrap_key(kek: Kek, context: WrapContext, data: bytes, what: str) -> tuple[str, int, bytes]:
    """Return kind, number and the key of a stored wrap.

    Raises:
        WrongKeyError: The KEK is not the one it was wrapped with.
        ObjectCorruptError: Malformed or altered; or coffer.json was altered since.
        FormatVersionError: A newer format.
    """
    document = _parse(data, what)
    kind, number = document["kind"], document["number"]
    if not hmac.compare_digest(document["kek_commitment"], kek.commitment.hex()):
        raise WrongKeyError("the key or passphrase given does not open this repository", object=what)
    try:
        nonce = bytes.fromhex(document["nonce"])
        sealed = base64.b64decode(document["sealed"], validate=True)
        secret = AESGCM(kek.key).decrypt(nonce, sealed, context.aad(kind, number))
    except (ValueError, binascii.Error, InvalidTag):
        raise ObjectCorruptError(f"{what}: wrapped key failed authentication (it or coffer.json was altered)") from None
    if len(secret) != KEY_BYTES:
        raise ObjectCorruptError(f"{what}: wrapped key has {len(secret)} bytes")
    return kind, number, secret


def parse_wrapped_key(data: bytes, what: str) -> tuple[str, int]:
    """Return kind and number of a stored wrap, which need no key to be read; they are not authenticated.

    Raises:
        ObjectCorruptError: Malformed.
        FormatVersionError: A newer format.
    """
    document = _parse(data, what)
    return document["kind"], document["number"]


def _parse(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ObjectCorruptError(f"{what}: not a wrapped key") from None
    if not isinstance(document, dict) or document.get("object") != _MARK:
        raise ObjectCorruptError(f"{what}: not a wrapped key")
    if document.get("format") != _VERSION:
        raise FormatVersionError(f"{what}: key format {document.get('format')!r}, this version reads {_VERSION}")
    texts = all(isinstance(document.get(name), str) for name in ("kind", "kek_commitment", "nonce", "sealed"))
    number = document.get("number")
    if not texts or document["kind"] not in _KINDS or not isinstance(number, int) or not 0 <= number < 1 << 32:
        raise ObjectCorruptError(f"{what}: wrapped key lacks a field")
    if not document["kek_commitment"].isascii():
        raise ObjectCorruptError(f"{what}: wrapped key lacks a field")
    return document


@dataclass(repr=False)
class Keyring:
    """The opened keys of one repository. Its repr shows none of them.

    Attributes:
        repository_id: [16 bytes].
        roots: Epoch → root [32 bytes].
        current_epoch: The newest epoch.
        ids: The sub-keys for ids.
    """

    repository_id: bytes
    roots: dict[int, bytes]
    current_epoch: int
    ids: IdKeys
    _signing: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def of(cls, repository_id: bytes, keys: dict[tuple[str, int], bytes]) -> Keyring:
        """Build from unwrapped keys, by (kind, number).

        Raises:
            KeyMissingError: One of the kinds is not there at all.
        """
        roots = {number: secret for (kind, number), secret in keys.items() if kind == ROOT}
        for kind, found in ((ROOT, bool(roots)), (CHUNK_ID, (CHUNK_ID, 0) in keys), (SIGNING, (SIGNING, 0) in keys)):
            if not found:
                raise KeyMissingError(f"keys/: no {kind} key in the repository")
        signing = Ed25519PrivateKey.from_private_bytes(keys[SIGNING, 0])
        return cls(repository_id, roots, max(roots), IdKeys(keys[CHUNK_ID, 0]), signing)

    def root(self, epoch: int) -> bytes:
        """Return the root of an epoch [32 bytes].

        Raises:
            KeyMissingError: The repository holds no such root.
        """
        try:
            return self.roots[epoch]
        except KeyError:
            raise KeyMissingError(f"epoch {epoch}: the repository holds no root key of it") from None

    def sign(self, message: bytes) -> bytes:
        """Return an Ed25519 signature (RFC 8032) [64 bytes]."""
        return self._signing.sign(message)

    @property
    def public_key(self) -> bytes:
        """The public half of the signing key [32 bytes]; may be published."""
        return self._signing.public_key().public_bytes_raw()


SIGNATURE_BYTES = 64


def verify_signature(public_key: bytes, signature: bytes, message: bytes, what: str) -> None:
    """Check an Ed25519 signature.

    Raises:
        SignatureError: It does not verify.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        raise SignatureError(f"{what}: signature does not verify", object=what) from None


def new_keys() -> dict[tuple[str, int], bytes]:
    """Return the fresh keys of a new repository, by (kind, number)."""
    return {(kind, number): secrets.token_bytes(KEY_BYTES) for kind, number in ((ROOT, 1), (CHUNK_ID, 0), (SIGNING, 0))}


def key_object_name(kind: str, number: int, wrap: int) -> str:
    """Return the object name of a wrapped key; each re-wrap is a new object with the next `wrap` number."""
    return f"keys/{number:04d}-{wrap}" if kind == ROOT else f"keys/{kind}-{wrap}"
