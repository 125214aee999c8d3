"""Sealed objects: a header that names and commits to the key, then frames of AES-256-GCM.

Layout in docs/format.md §3. Each object has its own key, derived from its epoch's root over a fresh 32-byte salt, so a
counter is a safe nonce: a key seals one object, and a position in it is used once.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coffer.crypto.kdf import COMMITMENT_BYTES, SALT_BYTES, derive_key_and_commitment
from coffer.errors import FormatVersionError, KeyMissingError, ObjectCorruptError, WrongKeyError

MAGIC = b"coffer\x00\x1a"  # [8 bytes]; the control characters show up a transfer that treated the object as text
FORMAT_VERSION = 1
TAG_BYTES = 16

KIND_PACK = 1
KIND_INDEX = 2
KIND_SNAPSHOT = 3
KIND_LEASE = 4
KIND_CHECKPOINT = 5
KIND_REVOKED = 6
KIND_WAL = 7
KIND_WAL_HISTORY = 8

# magic, version, kind, pad, epoch, salt, commitment
_HEADER = struct.Struct(f">8sHBxI{SALT_BYTES}s{COMMITMENT_BYTES}s")
HEADER_BYTES = _HEADER.size  # 80
KIND_OFFSET = 10  # of the kind in the header [bytes]
_AAD = struct.Struct(">16s32sQBBBxII")  # repository, salt, position, type, codec, last, pad, raw length, sealed length
_INFO = b"coffer/1/object-key"

FRAME_LAST = 1


class RootSource(Protocol):
    """Who knows the epoch roots."""

    @property
    def repository_id(self) -> bytes:
        """The repository that every seal is bound to [16 bytes]."""
        ...

    @property
    def current_epoch(self) -> int:
        """The epoch that new objects are sealed under."""
        ...

    def root(self, epoch: int) -> bytes:
        """Return the root of an epoch [32 bytes].

        Raises:
            KeyMissingError: The repository holds no such root.
        """
        ...


@dataclass(frozen=True, slots=True)
class FrameMeta:
    """What a frame's seal is bound to, beside its object.

    Attributes:
        position: Index of the frame in its object, from 0; also its nonce.
        type: What the frame holds (docs/format.md §4).
        codec: How the plaintext was compressed.
        raw_length: Length before compression [bytes].
        sealed_length: Length in the object, tag included [bytes].
        last: Whether it is the object's last frame; a truncated object cannot pass for a whole one.
    """

    position: int
    type: int
    codec: int
    raw_length: int
    sealed_length: int
    last: bool = False


class ObjectKey:
    """The key of one sealed object. Thread-safe: it holds no state but the key."""

    __slots__ = ("_aead", "_repository_id", "_salt", "epoch", "header", "kind")

    def __init__(self, repository_id: bytes, kind: int, epoch: int, salt: bytes, root: bytes) -> None:
        info = _INFO + repository_id + bytes((kind,))
        key, commitment = derive_key_and_commitment(root, salt=salt, info=info)
        self._aead = AESGCM(key)
        self._repository_id = repository_id
        self._salt = salt
        self.kind = kind
        self.epoch = epoch
        self.header = _HEADER.pack(MAGIC, FORMAT_VERSION, kind, epoch, salt, commitment)

    def seal(self, payload: bytes | memoryview, meta: FrameMeta) -> bytes:
        """Return ciphertext and tag [len(payload) + 16 bytes]. A position may be sealed once only per object."""
        if meta.sealed_length != len(payload) + TAG_BYTES:
            raise ValueError("sealed_length must be the payload's length plus the tag's")
        return self._aead.encrypt(meta.position.to_bytes(12, "big"), payload, self._aad(meta))

    def open(self, sealed: bytes | memoryview, meta: FrameMeta, what: str) -> bytes:
        """Return the payload of a frame.

        Args:
            sealed: Exactly the frame's bytes.
            meta: What the frame is expected to be; any difference fails.
            what: The object's name, for the message.

        Raises:
            ObjectCorruptError: The bytes, or their place, are not what was sealed; no plaintext is released.
        """
        try:
            return self._aead.decrypt(meta.position.to_bytes(12, "big"), sealed, self._aad(meta))
        except InvalidTag:
            raise ObjectCorruptError(f"{what}: frame {meta.position} failed authentication", object=what) from None

    def _aad(self, meta: FrameMeta) -> bytes:
        return _AAD.pack(
            self._repository_id,
            self._salt,
            meta.position,
            meta.type,
            meta.codec,
            FRAME_LAST if meta.last else 0,
            meta.raw_length,
            meta.sealed_length,
        )


def new_object_key(roots: RootSource, kind: int) -> ObjectKey:
    """Return the key of a new object under the current epoch, with a fresh random salt."""
    epoch = roots.current_epoch
    return ObjectKey(roots.repository_id, kind, epoch, secrets.token_bytes(SALT_BYTES), roots.root(epoch))


def open_header(roots: RootSource, header: bytes, kind: int, what: str) -> ObjectKey:
    """Return the key of a stored object from its header, after checking the commitment.

    Raises:
        ObjectCorruptError: The header is short, of another kind, or not Coffer's.
        FormatVersionError: A newer format.
        KeyMissingError: The repository holds no root of the epoch.
        WrongKeyError: The root does not belong to this object (commitment differs): altered header or foreign object.
    """
    if len(header) < HEADER_BYTES:
        raise ObjectCorruptError(f"{what}: header is {len(header)} bytes, not {HEADER_BYTES}", object=what)
    magic, version, found_kind, epoch, salt, _ = _HEADER.unpack_from(header)
    if magic != MAGIC:
        raise ObjectCorruptError(f"{what}: not an object of a coffer repository", object=what)
    if version != FORMAT_VERSION:
        raise FormatVersionError(f"{what}: format {version}, this version reads {FORMAT_VERSION}", object=what)
    if found_kind != kind:
        raise ObjectCorruptError(f"{what}: object of kind {found_kind}, expected {kind}", object=what)
    try:
        root = roots.root(epoch)
    except KeyMissingError as error:
        raise KeyMissingError(f"{what}: {error.message}", object=what) from None
    key = ObjectKey(roots.repository_id, kind, epoch, salt, root)
    # The whole header, so that the pad byte cannot be altered unnoticed either.
    if not hmac.compare_digest(key.header, bytes(header[:HEADER_BYTES])):
        raise WrongKeyError(
            f"{what}: key commitment differs",
            hint="The object's header was altered, or it belongs to another repository. Run 'coffer check'.",
            object=what,
        )
    return key


def seal_single(roots: RootSource, kind: int, plaintext: bytes) -> bytes:
    """Return a whole object of one frame: header, then the sealed plaintext."""
    key = new_object_key(roots, kind)
    meta = FrameMeta(0, 0, 0, len(plaintext), len(plaintext) + TAG_BYTES, last=True)
    return key.header + key.seal(plaintext, meta)


def open_single(roots: RootSource, kind: int, data: bytes, what: str) -> bytes:
    """Return the plaintext of an object made by `seal_single`.

    Raises:
        ObjectCorruptError, FormatVersionError, KeyMissingError, WrongKeyError: As `open_header` and `ObjectKey.open`.
    """
    key = open_header(roots, data, kind, what)
    sealed = memoryview(data)[HEADER_BYTES:]
    if len(sealed) < TAG_BYTES:
        raise ObjectCorruptError(f"{what}: truncated", object=what)
    meta = FrameMeta(0, 0, 0, len(sealed) - TAG_BYTES, len(sealed), last=True)
    return key.open(sealed, meta, what)
