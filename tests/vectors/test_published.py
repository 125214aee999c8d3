"""Published vectors: the primitives are the right ones, and our wrappers feed them the right way round."""

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from coffer.crypto import hashing, seal
from coffer.crypto.hashing import IdKeys
from coffer.crypto.kdf import Argon2Params, argon2id, hkdf_sha256
from coffer.crypto.keyring import SIGNING, Keyring, verify_signature
from coffer.crypto.seal import FrameMeta, ObjectKey
from coffer.errors import SignatureError
from tests.harness.keyrings import KEYS, REPOSITORY_ID


def _hex(text):
    return bytes.fromhex(text.replace(" ", ""))


@pytest.mark.parametrize(
    ("secret", "salt", "info", "expected"),
    [
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            (
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
                "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
            ),
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
    ids=["A.1", "A.2", "A.3"],
)
def test_hkdf_sha256_gives_the_vectors_of_rfc_5869(secret, salt, info, expected):
    """Appendix A, test cases 1 to 3."""
    assert expected == hkdf_sha256(secret, salt=salt, info=info, length=len(expected) // 2).hex()


def test_the_primitive_is_argon2id_of_rfc_9106():
    """Section 5.3, with secret and associated data, which our wrapper does not use."""
    kdf = Argon2id(salt=b"\2" * 16, length=32, iterations=3, lanes=4, memory_cost=32, ad=b"\4" * 12, secret=b"\3" * 8)
    assert "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659" == kdf.derive(b"\1" * 32).hex()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (Argon2Params(2, 1, 65536), "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"),
        (Argon2Params(2, 2, 256), "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037"),
    ],
    ids=["t=2 m=2^16 p=1", "t=2 m=2^8 p=2"],
)
def test_our_argon2id_gives_the_vectors_of_the_reference_implementation(params, expected):
    """From its test suite (P-H-C/phc-winner-argon2, src/test.c, version 0x13): each cost lands in its place."""
    assert expected == argon2id(b"password", salt=b"somesalt", params=params).hex()


@pytest.mark.parametrize(
    ("secret", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            (
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
                "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
            ),
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            (
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
            ),
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            (
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
                "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
            ),
        ),
    ],
    ids=["TEST 1", "TEST 2", "TEST 3"],
)
def test_the_keyring_signs_as_rfc_8032_says(secret, public, message, signature):
    """Section 7.1: public half, signature and check; another message does not verify."""
    keyring = Keyring.of(REPOSITORY_ID, KEYS | {(SIGNING, 0): _hex(secret)})
    assert (public, signature) == (keyring.public_key.hex(), keyring.sign(_hex(message)).hex())
    verify_signature(_hex(public), _hex(signature), _hex(message), "x")
    with pytest.raises(SignatureError):
        verify_signature(_hex(public), _hex(signature), _hex(message) + b"!", "x")


GCM_16 = {
    "key": "feffe9928665731c6d6a8f9467308308" * 2,
    "nonce": "cafebabefacedbaddecaf888",
    "aad": "feedfacedeadbeeffeedfacedeadbeefabaddad2",
    "plain": "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    "sealed": "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
}


def test_the_primitive_is_aes_256_gcm():
    """McGrew and Viega, "The Galois/Counter Mode of Operation (GCM)", test cases 13, 14 and 16: NIST's own source."""
    zero = AESGCM(bytes(32))
    assert "530f8afbc74536b9a963b4f1c4cb738b" == zero.encrypt(bytes(12), b"", b"").hex()
    expected = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    assert expected == zero.encrypt(bytes(12), bytes(16), b"").hex()
    case = {name: _hex(value) for name, value in GCM_16.items()}
    assert case["sealed"] == AESGCM(case["key"]).encrypt(case["nonce"], case["plain"], case["aad"])


def test_a_frame_is_sealed_as_test_case_16_is(monkeypatch):
    """With that case's key and additional data in place of ours, position 1 as its nonce would be: the same steps."""
    case = {name: _hex(value) for name, value in GCM_16.items()}
    monkeypatch.setattr(seal, "derive_key_and_commitment", lambda *_, **__: (case["key"], bytes(32)))
    monkeypatch.setattr(ObjectKey, "_aad", lambda *_: case["aad"])
    position = int.from_bytes(case["nonce"], "big")
    meta = FrameMeta(position, 0, 0, len(case["plain"]), len(case["sealed"]))
    key = ObjectKey(REPOSITORY_ID, 1, 1, bytes(32), bytes(32))
    assert case["sealed"] == key.seal(case["plain"], meta)
    assert case["plain"] == key.open(case["sealed"], meta, "x")


BLAKE3_KEY = b"whats the Elvish word for friend"
BLAKE3_KEYED = {
    0: "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
    1: "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b",
    1023: "c951ecdf03288d0fcc96ee3413563d8a6d3589547f2c2fb36d9786470f1b9d6e",
}


@pytest.mark.parametrize("length", list(BLAKE3_KEYED))
def test_chunk_ids_are_keyed_blake3(length, monkeypatch):
    """With the key of the BLAKE3 team's test_vectors.json in place of ours, an id is their keyed_hash."""
    data = bytes(n % 251 for n in range(length))
    assert BLAKE3_KEYED[length] == blake3(data, key=BLAKE3_KEY).hexdigest()
    ids = IdKeys(bytes(32))
    monkeypatch.setitem(ids._chunk, 1, BLAKE3_KEY)
    assert BLAKE3_KEYED[length] == ids.chunk_id(data).hex()
    monkeypatch.setattr(ids, "_content", BLAKE3_KEY)
    assert BLAKE3_KEYED[length][:32] == ids.content_id(data).hex()


def test_sub_keys_are_derived_by_blake3_derive_key(monkeypatch):
    """With their context in place of ours, and no key material, a sub-key is their derive_key."""
    context = "BLAKE3 2019-12-27 16:29:52 test vectors context"
    expected = "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d"
    monkeypatch.setattr(hashing, "_CONTENT", context)
    assert expected == IdKeys(b"")._content.hex()
