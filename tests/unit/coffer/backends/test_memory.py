"""What the memory store does beyond the contract."""

from __future__ import annotations

import pytest

from coffer.backends.base import Backend
from coffer.backends.memory import MemoryBackend
from coffer.errors import ObjectNameInvalidError
from tests.harness.manual_clock import EPOCH_NS, ManualClock


def test_the_clock_that_is_given_sets_the_time_of_puts():
    """`modified_ns` is the store's own clock at the put, and stays."""
    clock = ManualClock()
    store = MemoryBackend(clock)
    store.put("a/1", [])
    clock.advance(1.5)
    store.put("a/2", [])

    assert [EPOCH_NS, EPOCH_NS + 1_500_000_000] == [info.modified_ns for info in store.list()]
    assert EPOCH_NS == store.stat("a/1").modified_ns


def test_a_name_cannot_be_object_and_folder_as_on_a_disk():
    """So that a mistake of the engine shows in tests that run in memory; a level stays a level after a delete."""
    store = MemoryBackend()
    store.put("a/b", [b"x"])

    with pytest.raises(ObjectNameInvalidError):
        store.put("a/b/c", [])
    with pytest.raises(ObjectNameInvalidError):
        store.put("a", [])
    store.delete("a/b")
    with pytest.raises(ObjectNameInvalidError):
        store.put("a", [])


def test_it_is_a_backend_and_stays_usable_after_close():
    """The objects live as long as the backend: a second run in one test finds them."""
    store = MemoryBackend()
    store.put("a/1", [b"x"])
    store.close()

    assert isinstance(store, Backend)
    assert b"x" == store.get("a/1")
