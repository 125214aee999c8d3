"""Key derivation: HKDF by the book, a commitment beside each key, and a bounded Argon2id."""

import hashlib
import hmac
import pickle

import pytest

from coffer.crypto.kdf import Argon2Params, argon2id, derive_key_and_commitment, hkdf_sha256
from coffer.errors import SizeLimitError


def _hkdf_by_the_book(secret, salt, info, length):
    extracted = hmac.digest(salt or bytes(32), secret, hashlib.sha256)
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(extracted, block + info + bytes((counter,)), hashlib.sha256)
        out, counter = out + block, counter + 1
    return out[:length]


@pytest.mark.parametrize(("salt", "info", "length"), [(b"", b"", 32), (b"s" * 32, b"info", 64), (b"s", b"i" * 99, 255)])
def test_hkdf_is_extract_then_expand(salt, info, length):
    """As RFC 5869 §2 writes it down, computed here with hmac alone."""
    expected = _hkdf_by_the_book(b"secret", salt, info, length)
    assert expected == hkdf_sha256(b"secret", salt=salt, info=info, length=length)


def test_key_and_commitment_are_the_two_halves_of_one_derivation():
    """Whoever shows the commitment has fixed the key; neither tells the other."""
    key, commitment = derive_key_and_commitment(b"s" * 32, salt=b"salt" * 8, info=b"i")
    assert _hkdf_by_the_book(b"s" * 32, b"salt" * 8, b"i", 64) == key + commitment
    assert (32, 32) == (len(key), len(commitment))


@pytest.mark.parametrize(
    "costs",
    [
        {"iterations": 0},
        {"iterations": 65},
        {"lanes": 0},
        {"lanes": 65},
        {"memory_kib": (1 << 20) + 1},
        {"memory_kib": 31, "lanes": 4},
        {"memory_kib": -1},
    ],
)
def test_costs_out_of_bounds_are_refused_before_any_memory_is_taken(costs):
    """They come from coffer.json, which no key has authenticated yet (I7)."""
    with pytest.raises(SizeLimitError, match="argon2id cost"):
        Argon2Params(**costs)


def test_costs_at_the_bounds_are_taken():
    """The least that RFC 9106 allows, and the most that an honest repository asks for."""
    assert 8 == Argon2Params(iterations=1, lanes=1, memory_kib=8).memory_kib
    assert 1 << 20 == Argon2Params(iterations=64, lanes=64, memory_kib=1 << 20).memory_kib


def test_the_default_costs_are_the_second_recommended_option():
    """RFC 9106 §4: 3 passes, 4 lanes, 64 MiB."""
    assert Argon2Params(iterations=3, lanes=4, memory_kib=64 * 1024) == Argon2Params()
    assert Argon2Params() == pickle.loads(pickle.dumps(Argon2Params()))


def test_argon2id_depends_on_passphrase_salt_and_every_cost():
    """Another passphrase, salt, count of passes, lanes or memory gives another key."""
    base = Argon2Params(iterations=1, lanes=1, memory_kib=64)
    keys = {
        argon2id(b"passphrase", salt=b"s" * 32, params=base),
        argon2id(b"Passphrase", salt=b"s" * 32, params=base),
        argon2id(b"passphrase", salt=b"t" * 32, params=base),
        argon2id(b"passphrase", salt=b"s" * 32, params=Argon2Params(iterations=2, lanes=1, memory_kib=64)),
        argon2id(b"passphrase", salt=b"s" * 32, params=Argon2Params(iterations=1, lanes=2, memory_kib=64)),
        argon2id(b"passphrase", salt=b"s" * 32, params=Argon2Params(iterations=1, lanes=1, memory_kib=65)),
    }
    assert (6, {32}) == (len(keys), {len(key) for key in keys})
    assert argon2id(b"passphrase", salt=b"s" * 32, params=base) in keys
