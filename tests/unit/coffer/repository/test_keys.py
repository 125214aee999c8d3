"""The wrapped keys of a repository: made once, opened by the right key only."""

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.chunking.cutter import ChunkParams
from coffer.crypto.kdf import Argon2Params
from coffer.crypto.kek import KeyFileUnlocker, PassphraseUnlocker
from coffer.crypto.keyring import CHUNK_ID, ROOT, SIGNING, WrapContext, wrap_key
from coffer.errors import KeyMissingError, ObjectCorruptError, SizeLimitError, WrongKeyError
from coffer.repository.keys import create_keys, open_keys, survey_keys
from coffer.repository.settings import new_settings
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store import TamperableMemoryBackend

CHEAP = Argon2Params(iterations=1, lanes=1, memory_kib=64)
MINE, OTHER = KeyFileUnlocker(b"m" * 32), KeyFileUnlocker(b"o" * 32)


def _made(unlocker=MINE):
    store = TamperableMemoryBackend()
    settings = new_settings(unlocker.kind, ChunkParams(), CHEAP, ManualClock())
    return store, settings, create_keys(store, settings, unlocker)


def _wrap(settings, kind, number, secret, unlocker=MINE):
    kek = unlocker.kek(salt=settings.unlock_salt, params=settings.argon2)
    return wrap_key(kek, WrapContext.of(settings.repository_id, settings.raw), kind, number, secret)


@pytest.mark.parametrize("unlocker", [MINE, PassphraseUnlocker("four words of it")], ids=["key file", "passphrase"])
def test_keys_open_with_what_they_were_made_with(unlocker):
    """The same roots, the same ids, the same signing key."""
    store, settings, made = _made(unlocker)
    opened = open_keys(store, settings, unlocker)
    assert (made.roots, made.public_key, made.current_epoch) == (opened.roots, opened.public_key, opened.current_epoch)
    assert made.ids.chunk_id(b"x") == opened.ids.chunk_id(b"x")
    assert ["keys/0001-1", "keys/chunk-id-1", "keys/signing-1"] == [info.name for info in store.list()]


def test_another_key_opens_nothing():
    """Said to be the wrong key, not damage."""
    store, settings, _ = _made()
    with pytest.raises(WrongKeyError, match="does not open this repository"):
        open_keys(store, settings, OTHER)


def test_another_kind_of_key_is_refused_before_it_is_stretched():
    """The message says which kind opens this repository."""
    store, settings, _ = _made()
    with pytest.raises(WrongKeyError, match="opened by a key-file, a passphrase was given"):
        open_keys(store, settings, PassphraseUnlocker("four words of it"))


@pytest.mark.parametrize("name", ["keys/0001-1", "keys/chunk-id-1", "keys/signing-1"])
def test_a_lost_key_is_named(name):
    """By its kind: another location or the escrow copy has it."""
    store, settings, _ = _made()
    store.delete(name)
    kind = {"keys/0001-1": ROOT, "keys/chunk-id-1": CHUNK_ID, "keys/signing-1": SIGNING}[name]
    with pytest.raises(KeyMissingError, match=f"no {kind} key"):
        open_keys(store, settings, MINE)


def test_a_repository_without_keys_has_lost_them():
    """Nothing below keys/ at all."""
    _, settings, _ = _made()
    with pytest.raises(KeyMissingError):
        open_keys(MemoryBackend(), settings, MINE)


def test_a_damaged_key_is_corrupt():
    """Its nonce altered: it fails authentication."""
    store, settings, _ = _made()
    data = store.get("keys/0001-1")
    store.replace("keys/0001-1", data.replace(b'"nonce": "', b'"nonce": "00', 1))
    with pytest.raises(ObjectCorruptError):
        open_keys(store, settings, MINE)


def test_an_oversized_key_object_is_not_read():
    """A wrapped key has some hundred bytes (I7)."""
    store, settings, _ = _made()
    store.put("keys/0002-1", [bytes(5000)])
    with pytest.raises(SizeLimitError, match="keys/0002-1: 5000 bytes, over the cap of 4096"):
        open_keys(store, settings, MINE)


def test_wraps_for_somebody_else_are_passed_over():
    """A rotation leaves old wraps and new ones side by side; those that open are taken."""
    store, settings, made = _made()
    store.put("keys/0001-2", [_wrap(settings, ROOT, 1, made.roots[1], OTHER)])
    store.put("keys/0001-3", [_wrap(settings, ROOT, 1, made.roots[1])])
    assert made.roots == open_keys(store, settings, MINE).roots


def test_two_wraps_of_one_key_must_agree():
    """Which of the two is true cannot be told, and guessing would seal data under a key that is lost."""
    store, settings, _ = _made()
    store.put("keys/0001-2", [_wrap(settings, ROOT, 1, b"x" * 32)])
    with pytest.raises(ObjectCorruptError, match="keys/0001-2: wraps another root key"):
        open_keys(store, settings, MINE)


def test_a_survey_tells_of_every_wrap_what_it_is_and_whether_it_opens():
    """Damaged ones too; no key is needed for kind and number."""
    store, settings, made = _made()
    store.put("keys/0001-2", [_wrap(settings, ROOT, 1, made.roots[1], OTHER)])
    store.put("keys/0002-1", [b"damaged"])
    store.put("keys/0003-1", [bytes(5000)])
    found = [
        (row.name, row.kind, row.number, row.opens, row.damage != "") for row in survey_keys(store, settings, MINE)
    ]
    assert [
        ("keys/0001-1", ROOT, 1, True, False),
        ("keys/0001-2", ROOT, 1, False, False),
        ("keys/0002-1", "", 0, False, True),
        ("keys/0003-1", "", 0, False, True),
        ("keys/chunk-id-1", CHUNK_ID, 0, True, False),
        ("keys/signing-1", SIGNING, 0, True, False),
    ] == found


def test_a_survey_with_another_kind_of_key_opens_nothing():
    """And stretches no passphrase for it."""
    store, settings, _ = _made()
    rows = survey_keys(store, settings, PassphraseUnlocker("four words of it"))
    assert [False] * 3 == [row.opens for row in rows]
    assert [""] * 3 == [row.damage for row in rows]
