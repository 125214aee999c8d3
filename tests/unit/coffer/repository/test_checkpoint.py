"""Checkpoints: they save work, and nothing depends on them."""

import json

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.crypto.seal import KIND_CHECKPOINT, seal_single
from coffer.errors import CofferError, ObjectCorruptError
from coffer.repository import checkpoint
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
from tests.harness.keyrings import make_keyring
from tests.harness.manifests import chunk_id
from tests.harness.memory_store import TamperableMemoryBackend

KEYRING = make_keyring()
TAG = "0123abcd"


def _put(store, started_ns, number=1, tag=TAG):
    checkpoint.put(store, KEYRING, tag, started_ns, chunk_id(number))


def _names(store):
    return [info.name for info in store.list()]


def test_the_newest_checkpoint_is_found():
    """By its name, whatever was put last; other sources have their own."""
    store = MemoryBackend()
    _put(store, 10, 1)
    _put(store, 9, 2)
    _put(store, 99, 3, "ffffffff")
    name = f"checkpoints/{TAG}-{10:020d}"
    assert checkpoint.Checkpoint(name, 10, chunk_id(1)) == checkpoint.newest(store, KEYRING, TAG)


def test_a_clock_before_1970_makes_a_checkpoint_that_is_found():
    """As of the first moment that a name can tell."""
    store = MemoryBackend()
    _put(store, -5)
    assert checkpoint.Checkpoint(f"checkpoints/{TAG}-{0:020d}", 0, chunk_id(1)) == checkpoint.newest(
        store, KEYRING, TAG
    )


def test_without_one_there_is_none():
    """A source that was never interrupted."""
    assert checkpoint.newest(MemoryBackend(), KEYRING, TAG) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b"[" * 3000,
        json.dumps({"started_ns": 1, "manifest_root": "00"}).encode(),
        json.dumps({"started_ns": "x", "manifest_root": "00" * 32}).encode(),
        json.dumps({"started_ns": 1, "manifest_root": 5}).encode(),
        json.dumps({"started_ns": float("inf"), "manifest_root": "00" * 32}).encode(),
    ],
)
def test_a_checkpoint_that_no_writer_writes_counts_as_none(body):
    """Read by itself it is corrupt; a run that looks for one goes on without."""
    store = MemoryBackend()
    data = seal_single(KEYRING, KIND_CHECKPOINT, body)
    name = f"checkpoints/{TAG}-{1:020d}"
    store.put(name, [data])
    assert checkpoint.newest(store, KEYRING, TAG) is None
    with pytest.raises(ObjectCorruptError, match="checkpoint is damaged"):
        checkpoint.read(store, KEYRING, name, len(data))


def test_a_damaged_or_oversized_checkpoint_counts_as_none():
    """It only saves work."""
    store = TamperableMemoryBackend()
    _put(store, 1)
    store.flip_bit(_names(store)[0], -1)
    assert checkpoint.newest(store, KEYRING, TAG) is None
    store.put(f"checkpoints/{TAG}-{2:020d}", [bytes(5000)])
    assert checkpoint.newest(store, KEYRING, TAG) is None


def test_checkpoints_of_earlier_runs_are_removed():
    """Up to the run that was committed; later ones, other sources and strange names stay."""
    store = MemoryBackend()
    for started_ns in (8, 9, 10, 11):
        _put(store, started_ns)
    _put(store, 5, tag="ffffffff")
    store.put(f"checkpoints/{TAG}-strange", [b"x"])
    checkpoint.remove_until(store, TAG, 10)
    kept = [f"checkpoints/{TAG}-{11:020d}", f"checkpoints/{TAG}-strange", f"checkpoints/ffffffff-{5:020d}"]
    assert kept == _names(store)


def test_a_store_that_refuses_to_delete_is_left_alone():
    """The next run removes them."""
    with FaultyBackend(MemoryBackend(), [Fault(FaultKind.FAIL_BEFORE, method="delete")]) as store:
        _put(store, 1)
        checkpoint.remove_until(store, TAG, 1)
        assert 1 == len(_names(store))


def test_a_checkpoint_of_a_run_that_ended_is_not_found():
    """Between the listing and the look at it."""
    with pytest.raises(CofferError):
        checkpoint.read(MemoryBackend(), KEYRING, f"checkpoints/{TAG}-{1:020d}", 100)
