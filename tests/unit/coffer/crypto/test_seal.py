"""Sealed objects: a key each, a commitment first, and frames that open in their own place only (I5)."""

import struct
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coffer.crypto.kdf import derive_key_and_commitment
from coffer.crypto.keyring import ROOT, Keyring
from coffer.crypto.seal import (
    FORMAT_VERSION,
    HEADER_BYTES,
    KIND_INDEX,
    KIND_LEASE,
    KIND_OFFSET,
    KIND_PACK,
    MAGIC,
    TAG_BYTES,
    FrameMeta,
    ObjectKey,
    new_object_key,
    open_header,
    open_single,
    seal_single,
)
from coffer.errors import FormatVersionError, KeyMissingError, ObjectCorruptError, WrongKeyError
from tests.harness.keyrings import KEYS, REPOSITORY_ID, make_keyring

KEYRING = make_keyring()
META = FrameMeta(position=3, type=1, codec=1, raw_length=9, sealed_length=7 + TAG_BYTES)


def _key(**changes):
    parts = {"repository_id": REPOSITORY_ID, "kind": KIND_PACK, "epoch": 1, "salt": b"s" * 32, "root": KEYS[ROOT, 1]}
    return ObjectKey(**(parts | changes))


def test_a_frame_is_aes_gcm_under_a_derived_key_with_a_counted_nonce():
    """Opened here with the primitives alone, by docs/format.md §3."""
    sealed = _key().seal(b"payload", META)
    info = b"coffer/1/object-key" + REPOSITORY_ID + b"\x01"
    key, commitment = derive_key_and_commitment(KEYS[ROOT, 1], salt=b"s" * 32, info=info)
    aad = REPOSITORY_ID + b"s" * 32 + struct.pack(">QBBBxII", 3, 1, 1, 0, 9, 23)
    assert b"payload" == AESGCM(key).decrypt((3).to_bytes(12, "big"), sealed, aad)
    assert MAGIC + struct.pack(">HBxI", FORMAT_VERSION, KIND_PACK, 1) + b"s" * 32 + commitment == _key().header
    assert KIND_PACK == _key().header[KIND_OFFSET]


def test_a_frame_opens_to_its_payload():
    """Ciphertext and tag are 16 bytes longer; any buffer will do."""
    sealed = _key().seal(memoryview(b"payload"), META)
    assert len(b"payload") + TAG_BYTES == len(sealed)
    assert b"payload" == _key().open(memoryview(sealed), META, "x")


@pytest.mark.parametrize(
    "change",
    [
        {"position": 4},
        {"type": 2},
        {"codec": 0},
        {"raw_length": 10},
        {"sealed_length": 24},
        {"last": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_frame_opens_in_its_own_place_only(change):
    """Position, type, codec, both lengths and the last-frame flag are all bound (I5)."""
    sealed = _key().seal(b"payload", META)
    with pytest.raises(ObjectCorruptError, match="failed authentication"):
        _key().open(sealed, replace(META, **change), "x")


@pytest.mark.parametrize(
    "change",
    [
        {"repository_id": bytes(16)},
        {"kind": KIND_INDEX},
        {"salt": b"t" * 32},
        {"root": b"r" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_frame_opens_in_its_own_object_only(change):
    """Repository, kind, salt and root all change the key (I5)."""
    sealed = _key().seal(b"payload", META)
    with pytest.raises(ObjectCorruptError):
        _key(**change).open(sealed, META, "x")


@pytest.mark.parametrize("bit", range(0, 8 * (7 + TAG_BYTES), 5))
def test_any_flipped_bit_of_a_frame_is_noticed(bit):
    """In the ciphertext or in the tag; no plaintext is released."""
    sealed = bytearray(_key().seal(b"payload", META))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ObjectCorruptError):
        _key().open(sealed, META, "x")


@pytest.mark.parametrize("length", [0, 1, TAG_BYTES - 1, TAG_BYTES, TAG_BYTES + 6])
def test_a_frame_cut_short_is_noticed(length):
    """Even one without room for a tag."""
    sealed = _key().seal(b"payload", META)
    with pytest.raises(ObjectCorruptError):
        _key().open(sealed[:length], META, "x")


def test_a_wrong_length_is_the_programmers_mistake():
    """The length is part of what is sealed, so it must be true."""
    with pytest.raises(ValueError, match="sealed_length"):
        _key().seal(b"payloads", META)


def test_every_new_object_has_a_salt_of_its_own():
    """Two objects of the same bytes share no key, so a counter is a safe nonce."""
    headers = {new_object_key(KEYRING, KIND_PACK).header for _ in range(100)}
    assert 100 == len(headers)
    assert 100 == len({seal_single(KEYRING, KIND_LEASE, b"x") for _ in range(100)})


@pytest.mark.parametrize("plaintext", [b"", b"x", bytes(100_000)], ids=len)
def test_a_single_object_opens_to_its_plaintext(plaintext):
    """Header, then one frame that is the last."""
    data = seal_single(KEYRING, KIND_LEASE, plaintext)
    assert HEADER_BYTES + len(plaintext) + TAG_BYTES == len(data)
    assert plaintext == open_single(KEYRING, KIND_LEASE, data, "x")


def test_every_bit_of_a_single_object_counts():
    """All of header, its pad byte too, ciphertext and tag: each flipped bit is a typed error."""
    data = seal_single(KEYRING, KIND_LEASE, b"body")
    accepted = []
    for bit in range(8 * len(data)):
        harmed = bytearray(data)
        harmed[bit // 8] ^= 1 << bit % 8
        try:
            open_single(KEYRING, KIND_LEASE, bytes(harmed), "x")
        except (ObjectCorruptError, FormatVersionError, KeyMissingError, WrongKeyError):
            continue
        accepted.append(bit)
    assert [] == accepted


@pytest.mark.parametrize("length", [0, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + TAG_BYTES - 1])
def test_a_single_object_cut_short_is_corrupt(length):
    """Within the header, or before a whole tag."""
    data = seal_single(KEYRING, KIND_LEASE, b"body")
    with pytest.raises(ObjectCorruptError):
        open_single(KEYRING, KIND_LEASE, data[:length], "x")


def test_what_is_wrong_with_a_header_is_told_apart():
    """No object of ours, a newer format, another kind, an epoch without a root, a foreign object."""
    data = seal_single(KEYRING, KIND_LEASE, b"body")
    with pytest.raises(ObjectCorruptError, match="not an object of a coffer repository"):
        open_header(KEYRING, b"PK" + data[2:], KIND_LEASE, "x")
    with pytest.raises(FormatVersionError, match="format 2, this version reads 1"):
        open_header(KEYRING, data[:8] + b"\0\2" + data[10:], KIND_LEASE, "x")
    with pytest.raises(ObjectCorruptError, match="object of kind 4, expected 1"):
        open_header(KEYRING, data, KIND_PACK, "x")
    with pytest.raises(KeyMissingError, match="epoch 9"):
        open_header(KEYRING, data[:12] + b"\0\0\0\x09" + data[16:], KIND_LEASE, "x")
    for other in (make_keyring(bytes(16)), make_keyring(root=b"r" * 32)):
        with pytest.raises(WrongKeyError, match="key commitment differs"):
            open_header(other, data, KIND_LEASE, "x")


def test_objects_of_an_older_epoch_still_open():
    """A new root is for new objects; nothing has to be written again."""
    old = seal_single(KEYRING, KIND_LEASE, b"old")
    newer = Keyring.of(REPOSITORY_ID, KEYS | {(ROOT, 2): b"2" * 32})
    new = seal_single(newer, KIND_LEASE, b"new")
    assert (b"old", b"new") == (open_single(newer, KIND_LEASE, old, "x"), open_single(newer, KIND_LEASE, new, "x"))
    with pytest.raises(KeyMissingError):
        open_single(KEYRING, KIND_LEASE, new, "x")
