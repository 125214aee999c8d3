"""The meter: calls, bytes, errors and listed objects, by method and first level."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.backends.metering import MeteringBackend
from coffer.errors import BackendUnavailableError, ObjectNotFoundError
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend


def _counts(calls=0, errors=0, size_bytes=0, objects=0):
    return {"calls": calls, "errors": errors, "bytes": size_bytes, "objects": objects}


def test_everything_that_passes_is_counted_by_method_and_class():
    """Bytes of views count as bytes, prefixes count by their first level, and the result is plain JSON."""
    store = MeteringBackend(MemoryBackend())
    store.put("packs/ab/1", [b"12345", memoryview(bytes(8)).cast("I")])
    store.put("packs/cd/2", [b"1"])
    store.put("coffer.json", [b"{}"])
    store.get("packs/ab/1", 2, 3)
    store.get("coffer.json")
    store.stat("packs/ab/1")
    assert 2 == len(list(store.list("packs/")))
    assert 1 == len(list(store.list("packs/ab/")))
    assert 3 == len(list(store.list()))
    store.delete("packs/ab/1")

    snapshot = store.snapshot()

    assert {
        "put": {"packs": _counts(2, 0, 14), "coffer.json": _counts(1, 0, 2)},
        "get": {"packs": _counts(1, 0, 3), "coffer.json": _counts(1, 0, 2)},
        "stat": {"packs": _counts(1)},
        "list": {"packs": _counts(2, 0, 0, 3), "": _counts(1, 0, 0, 3)},
        "delete": {"packs": _counts(1)},
    } == snapshot
    assert snapshot == json.loads(json.dumps(snapshot))
    assert (3, 16, 0) == (store.total("put"), store.total("put", "bytes"), store.total("nothing"))


def test_errors_are_counted_and_their_bytes_are_not():
    """A failed call counts as call and as error, and brings no bytes; a listing may fail midway."""
    plan = [
        Fault(FaultKind.FAIL_BEFORE, method="put"),
        Fault(FaultKind.FAIL_AFTER, method="list"),
        Fault(FaultKind.FAIL_BEFORE, method="list", nth=1),
    ]
    faulty = FaultyBackend(MemoryBackend(), plan)
    store = MeteringBackend(faulty)
    with pytest.raises(BackendUnavailableError):
        store.put("a/1", [b"12345"])
    with pytest.raises(ObjectNotFoundError):
        store.get("a/1")
    store.put("a/1", [b"1"])
    store.put("a/2", [b"2"])
    with pytest.raises(BackendUnavailableError):
        list(store.list("a/"))
    with pytest.raises(BackendUnavailableError):
        store.list("a/")

    faulty.assert_all_used()
    assert {
        "put": {"a": _counts(3, 1, 2)},
        "get": {"a": _counts(1, 1)},
        "list": {"a": _counts(2, 2, 0, 1)},
    } == store.snapshot()


def test_a_listing_given_up_counts_what_it_yielded():
    """Taking one of three counts one, and is no error."""
    store = MeteringBackend(MemoryBackend())
    for number in range(3):
        store.put(f"a/{number}", [])

    listing = store.list("a/")
    next(listing)
    listing.close()

    assert {"a": _counts(1, 0, 0, 1)} == store.snapshot()["list"]


def test_a_snapshot_stays_as_it_was():
    """Later calls do not change a snapshot already taken."""
    store = MeteringBackend(MemoryBackend())
    store.put("a/1", [b"1"])
    before = store.snapshot()

    store.put("a/2", [b"2"])

    assert 1 == before["put"]["a"]["calls"]


def test_counts_of_many_threads_add_up():
    """8 threads of 200 calls each lose no count."""
    store = MeteringBackend(MemoryBackend())
    store.put("a/1", [b"12345"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: [store.get("a/1", 0, 3) for _ in range(200)], range(8)))

    assert {"a": _counts(1600, 0, 4800)} == store.snapshot()["get"]
