"""Small objects are read whole, and only up to their cap."""

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.backends.metering import MeteringBackend
from coffer.errors import ObjectNotFoundError, ShortReadError, SizeLimitError
from coffer.repository.objects import read_whole


def _store():
    store = MemoryBackend()
    store.put("leases/a", [bytes(100)])
    return store


def test_an_object_at_its_cap_is_read_whole():
    """Asked for its size, or told it by a listing."""
    assert bytes(100) == read_whole(_store(), "leases/a", 100)
    assert bytes(100) == read_whole(_store(), "leases/a", 100, 100)


def test_an_object_over_its_cap_is_not_read():
    """The store is asked for its size and for none of its bytes (I7)."""
    store = MeteringBackend(_store())
    with pytest.raises(SizeLimitError, match="leases/a: 100 bytes, over the cap of 99"):
        read_whole(store, "leases/a", 99)
    assert (1, 0) == (store.total("stat"), store.total("get"))


def test_a_size_that_a_listing_told_is_not_exceeded():
    """An object that has grown since is read up to what was told; one that has shrunk is a short read."""
    assert bytes(60) == read_whole(_store(), "leases/a", 100, 60)
    with pytest.raises(ShortReadError):
        read_whole(_store(), "leases/a", 200, 101)


def test_an_object_that_is_not_there_is_not_found():
    """As the store says it."""
    with pytest.raises(ObjectNotFoundError):
        read_whole(MemoryBackend(), "leases/a", 100)
