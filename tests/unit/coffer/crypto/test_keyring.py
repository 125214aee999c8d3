"""Wrapped keys: bound to repository, kind, number and coffer.json; and the keyring that they open to."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coffer.crypto.kek import Kek
from coffer.crypto.keyring import (
    CHUNK_ID,
    MAX_OBJECT_BYTES,
    ROOT,
    SIGNATURE_BYTES,
    SIGNING,
    Keyring,
    WrapContext,
    key_object_name,
    new_keys,
    parse_wrapped_key,
    unwrap_key,
    verify_signature,
    wrap_key,
)
from coffer.errors import FormatVersionError, KeyMissingError, ObjectCorruptError, SignatureError, WrongKeyError
from tests.harness.keyrings import KEYS, REPOSITORY_ID, make_keyring

KEK = Kek(b"k" * 32, b"c" * 32)
CONTEXT = WrapContext.of(REPOSITORY_ID, b"{}")
SECRET = b"s" * 32


def _wrapped(**changes):
    document = json.loads(wrap_key(KEK, CONTEXT, ROOT, 1, SECRET)) | changes
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def test_a_wrapped_key_opens_to_what_was_wrapped():
    """Kind, number and key come back; kind and number can be read without any key."""
    data = wrap_key(KEK, CONTEXT, CHUNK_ID, 7, SECRET)
    assert (CHUNK_ID, 7, SECRET) == unwrap_key(KEK, CONTEXT, data, "keys/x")
    assert (CHUNK_ID, 7) == parse_wrapped_key(data, "keys/x")
    assert len(data) < MAX_OBJECT_BYTES
    assert SECRET.hex().encode() not in data


def test_a_wrap_is_aes_gcm_bound_to_repository_configuration_kind_and_number():
    """Opened here with the primitive alone, by docs/format.md §2."""
    document = json.loads(wrap_key(KEK, CONTEXT, ROOT, 12, SECRET))
    aad = b"coffer/1/wrap\0" + CONTEXT.repository_id + CONTEXT.config_digest + b"root/12"
    opened = AESGCM(KEK.key).decrypt(bytes.fromhex(document["nonce"]), base64.b64decode(document["sealed"]), aad)
    assert SECRET == opened


def test_wrapping_twice_never_uses_a_nonce_twice():
    """Each wrap draws a fresh nonce."""
    nonces = {json.loads(wrap_key(KEK, CONTEXT, ROOT, 1, SECRET))["nonce"] for _ in range(100)}
    assert 100 == len(nonces)


def test_another_kek_is_told_from_a_damaged_object():
    """The commitment differs: the wrong key, not damage."""
    with pytest.raises(WrongKeyError, match="does not open this repository"):
        unwrap_key(Kek(KEK.key, b"d" * 32), CONTEXT, _wrapped(), "keys/x")


@pytest.mark.parametrize(
    "context",
    [WrapContext.of(bytes(16), b"{}"), WrapContext.of(REPOSITORY_ID, b"{} ")],
    ids=["repository", "coffer.json"],
)
def test_a_wrap_opens_in_no_other_place(context):
    """Not in another repository, and not beside an edited coffer.json."""
    with pytest.raises(ObjectCorruptError, match="altered"):
        unwrap_key(KEK, context, _wrapped(), "keys/x")


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": CHUNK_ID},
        {"number": 2},
        {"nonce": "00" * 12},
        {"nonce": "00" * 7},
        {"nonce": "zz"},
        {"sealed": base64.b64encode(bytes(48)).decode()},
        {"sealed": ""},
        {"sealed": "not base64!"},
    ],
)
def test_an_altered_wrap_fails_authentication(changes):
    """Every field that is used is authenticated."""
    with pytest.raises(ObjectCorruptError, match="failed authentication"):
        unwrap_key(KEK, CONTEXT, _wrapped(**changes), "keys/x")


@pytest.mark.parametrize(
    "changes",
    [
        {"object": "coffer-pack"},
        {"kind": "other"},
        {"kind": 3},
        {"kind": None},
        {"number": -1},
        {"number": 1 << 32},
        {"number": "1"},
        {"number": None},
        {"nonce": None},
        {"sealed": 5},
        {"kek_commitment": None},
        {"kek_commitment": "ä"},
    ],
)
def test_a_wrap_without_its_fields_is_corrupt(changes):
    """Missing fields, wrong types and unknown kinds are damage, not a crash."""
    with pytest.raises(ObjectCorruptError):
        unwrap_key(KEK, CONTEXT, _wrapped(**changes), "keys/x")


@pytest.mark.parametrize("data", [b"", b"[]", b"nul", b"\xff\xfe", b"[" * 3000, b"1" * 5000, b'{"object": []}'])
def test_what_is_no_wrapped_key_is_corrupt(data):
    """Whatever the bytes are, the answer is a typed error."""
    with pytest.raises(ObjectCorruptError, match="not a wrapped key"):
        unwrap_key(KEK, CONTEXT, data, "keys/x")


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_format_of_wraps_is_refused_by_name(version):
    """A newer Coffer may write it: the user is told so."""
    with pytest.raises(FormatVersionError, match="key format"):
        unwrap_key(KEK, CONTEXT, _wrapped(format=version), "keys/x")


def test_a_wrapped_key_of_another_length_is_corrupt():
    """Sealed with the right key, but no key of ours."""
    with pytest.raises(ObjectCorruptError, match="31 bytes"):
        unwrap_key(KEK, CONTEXT, wrap_key(KEK, CONTEXT, ROOT, 1, b"s" * 31), "keys/x")


def test_a_new_repository_has_one_key_of_each_kind():
    """Fresh random keys, 32 bytes each, all different."""
    keys = new_keys()
    assert [(CHUNK_ID, 0), (ROOT, 1), (SIGNING, 0)] == sorted(keys)
    assert {32} == {len(key) for key in keys.values()}
    assert 6 == len({*keys.values(), *new_keys().values()})


def test_each_wrap_of_a_key_has_a_name_of_its_own():
    """Roots are named by their epoch; wrapping again is the next number."""
    assert "keys/0012-1" == key_object_name(ROOT, 12, 1)
    assert "keys/chunk-id-3" == key_object_name(CHUNK_ID, 0, 3)


@pytest.mark.parametrize("missing", list(KEYS))
def test_a_keyring_needs_every_kind_of_key(missing):
    """The message names the kind that is not there."""
    with pytest.raises(KeyMissingError, match=f"no {missing[0]} key"):
        Keyring.of(REPOSITORY_ID, {name: key for name, key in KEYS.items() if name != missing})


def test_new_objects_are_sealed_under_the_newest_epoch():
    """Older roots stay, to open what was sealed under them."""
    keyring = Keyring.of(REPOSITORY_ID, KEYS | {(ROOT, 3): b"3" * 32, (ROOT, 2): b"2" * 32})
    assert 3 == keyring.current_epoch
    assert (KEYS[ROOT, 1], b"2" * 32) == (keyring.root(1), keyring.root(2))
    with pytest.raises(KeyMissingError, match="epoch 4"):
        keyring.root(4)


def test_a_signature_verifies_with_the_public_half_and_for_its_message_only():
    """Ed25519 (RFC 8032); the public half is the one that belongs to the wrapped secret."""
    keyring = make_keyring()
    expected = Ed25519PrivateKey.from_private_bytes(KEYS[SIGNING, 0]).public_key().public_bytes_raw()
    assert expected == keyring.public_key
    signature = keyring.sign(b"message")
    assert SIGNATURE_BYTES == len(signature)
    verify_signature(keyring.public_key, signature, b"message", "x")
    for key, signed, message in (
        (keyring.public_key, signature, b"Message"),
        (keyring.public_key, bytes(64), b"message"),
        (keyring.public_key, b"", b"message"),
        (make_keyring(signing=b"x" * 32).public_key, signature, b"message"),
    ):
        with pytest.raises(SignatureError, match="x: signature does not verify"):
            verify_signature(key, signed, message, "x")


def test_no_repr_shows_a_key():
    """A keyring that is printed by accident shows nothing."""
    shown = repr(make_keyring())
    assert all(key.hex() not in shown and repr(key)[2:-1] not in shown for key in KEYS.values())
