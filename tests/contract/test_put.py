"""Contract of `Backend.put`: once, whole, durable, and one winner."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, overload

import pytest

from coffer.backends.base import Backend, Buffer
from coffer.errors import ObjectExistsError, ObjectNameInvalidError, ObjectNotFoundError
from tests.contract.stores import Opener

WRITERS = 16


def test_put_stores_the_concatenation_of_its_parts(store: Backend) -> None:
    """Bytes, bytearrays and memoryviews are stored one after the other, empty ones leave no trace."""
    store.put("packs/ab/1", [b"one", bytearray(b"two"), b"", memoryview(b"-three-")[1:6], memoryview(b"")])

    assert b"onetwothree" == store.get("packs/ab/1")


def test_put_stores_every_byte_of_a_view_of_wider_items(store: Backend) -> None:
    """A view of four-byte items counts by its bytes and not by its items."""
    numbers = memoryview(bytes(range(16))).cast("I")

    store.put("packs/ab/1", [b"<", numbers, b">"])

    assert b"<" + bytes(range(16)) + b">" == store.get("packs/ab/1")
    assert 18 == store.stat("packs/ab/1").size_bytes


@pytest.mark.parametrize("parts", [[], [b""], [b"", b""]], ids=["no part", "an empty part", "two empty parts"])
def test_put_stores_an_empty_object(store: Backend, parts: Sequence[Buffer]) -> None:
    """An object of no bytes exists, is listed, and is taken."""
    store.put("snapshots/1", parts)

    assert b"" == store.get("snapshots/1")
    assert 0 == store.stat("snapshots/1").size_bytes
    assert ["snapshots/1"] == [info.name for info in store.list()]
    with pytest.raises(ObjectExistsError):
        store.put("snapshots/1", [b"more"])


def test_put_stores_many_small_parts(store: Backend) -> None:
    """More parts than the system takes in one call (1024) are stored in order, none lost or doubled."""
    parts = [number.to_bytes(3, "big") for number in range(5000)]

    store.put("packs/ab/1", parts)

    assert b"".join(parts) == store.get("packs/ab/1")


def test_put_stores_large_parts_among_small_ones(store: Backend) -> None:
    """Parts from one byte to some megabytes, 20 MB together, arrive unchanged."""
    source = random.Random(20261101)
    parts = [source.randbytes(size) for size in (1, 5 << 20, 7, 4096, 9 << 20, 3, 6 << 20, 1)]

    store.put("packs/ab/1", parts)

    assert b"".join(parts) == store.get("packs/ab/1")


def test_put_reads_parts_only_during_the_call(store: Backend) -> None:
    """A buffer that is used again afterwards does not change what was stored."""
    buffer = bytearray(b"first")
    store.put("packs/ab/1", [buffer, memoryview(buffer)])

    buffer[:] = b"other"

    assert b"firstfirst" == store.get("packs/ab/1")


@pytest.mark.parametrize("second", [b"other", b"same"], ids=["other bytes", "the same bytes"])
def test_put_refuses_a_name_that_is_taken(store: Backend, second: bytes) -> None:
    """The second put fails, whatever it brings, and the first object stays as it was."""
    store.put("snapshots/1", [b"same"])
    before = store.stat("snapshots/1")

    with pytest.raises(ObjectExistsError):
        store.put("snapshots/1", [second])

    assert b"same" == store.get("snapshots/1")
    assert before == store.stat("snapshots/1")


def test_put_may_use_a_name_again_that_was_deleted(store: Backend) -> None:
    """After a delete the name is free, and a read brings the new object."""
    store.put("leases/1", [b"old"])
    assert b"old" == store.get("leases/1", 0, 3)
    store.delete("leases/1")

    store.put("leases/1", [b"new"])

    assert b"new" == store.get("leases/1", 0, 3)


def test_put_is_seen_through_another_handle(open_store: Opener) -> None:
    """What one backend put, another one on the same store reads, lists, and may not overwrite."""
    open_store().put("snapshots/1", [b"mine"])
    other = open_store()

    assert b"mine" == other.get("snapshots/1")
    assert ["snapshots/1"] == [info.name for info in other.list()]
    with pytest.raises(ObjectExistsError):
        other.put("snapshots/1", [b"theirs"])


@pytest.mark.parametrize("handles", [1, WRITERS], ids=["one handle", "a handle each"])
def test_exactly_one_of_many_concurrent_puts_wins(open_store: Opener, handles: int) -> None:
    """Of 16 writers that start together one succeeds, 15 are told that it exists, and the winner's bytes are there."""
    stores = [open_store() for _ in range(handles)]
    for round_number in range(5):
        name = f"snapshots/{round_number}"
        start = Barrier(WRITERS)

        def write(writer: int, name: str = name, start: Barrier = start) -> int | None:
            start.wait(timeout=60)
            try:
                stores[writer % handles].put(name, [b"writer ", str(writer).encode()])
            except ObjectExistsError:
                return None
            return writer

        with ThreadPoolExecutor(WRITERS) as pool:
            winners = [writer for writer in pool.map(write, range(WRITERS)) if writer is not None]

        assert 1 == len(winners)
        assert f"writer {winners[0]}".encode() == stores[0].get(name)


class _BreakingParts(Sequence[Buffer]):
    """Parts of a pipeline that breaks: the last one raises instead of coming."""

    def __len__(self) -> int:
        return 3

    @overload
    def __getitem__(self, index: int) -> Buffer: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Buffer]: ...

    def __getitem__(self, index: Any) -> Any:
        if index == 2:
            raise ZeroDivisionError("planned")
        return b"x" * (5 << 20)

    def __iter__(self) -> Iterator[Buffer]:
        return (self[index] for index in range(3))


def test_a_put_that_breaks_leaves_nothing_to_be_seen(open_store: Opener) -> None:
    """Where giving the parts fails midway nothing is listed or found, and the name is still free."""
    store = open_store()

    with pytest.raises(ZeroDivisionError, match="planned"):
        store.put("packs/ab/1", _BreakingParts())

    for handle in (store, open_store()):
        assert [] == list(handle.list())
        with pytest.raises(ObjectNotFoundError):
            handle.get("packs/ab/1")
    store.put("packs/ab/1", [b"whole"])
    assert b"whole" == store.get("packs/ab/1")


@pytest.mark.parametrize("name", ["a", "9", "a/b/c/d", "a.b_c-d", "a..b", "z" * 128, "/".join(["y" * 128] * 4)])
def test_put_takes_every_name_of_the_alphabet(store: Backend, name: str) -> None:
    """One to four levels of up to 128 characters each are stored, found and listed under that very name."""
    store.put(name, [b"x"])

    assert b"x" == store.get(name)
    assert [name] == [info.name for info in store.list()]


INVALID_NAMES = [
    "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/.b", ".tmp/a", "-a", "_a", "A", "aB", "a b",
    "a\\b", "a\x00b", "a\n", "é", "a:b", "a/b/c/d/e", "z" * 129,
]  # fmt: skip


@pytest.mark.parametrize("name", INVALID_NAMES, ids=repr)
def test_no_method_takes_a_name_outside_the_alphabet(store: Backend, name: str) -> None:
    """Put, get, stat and delete refuse it alike, and nothing is stored."""
    with pytest.raises(ObjectNameInvalidError):
        store.put(name, [b"x"])
    with pytest.raises(ObjectNameInvalidError):
        store.get(name)
    with pytest.raises(ObjectNameInvalidError):
        store.stat(name)
    with pytest.raises(ObjectNameInvalidError):
        store.delete(name)
    assert [] == list(store.list())


def test_stat_tells_size_and_the_time_of_the_put(store: Backend) -> None:
    """The size is exact, the time is the store's own: here not an hour off the machine's."""
    store.put("packs/ab/1", [b"12345"])

    info = store.stat("packs/ab/1")

    assert ("packs/ab/1", 5) == (info.name, info.size_bytes)
    assert abs(time.time_ns() - info.modified_ns) < 3600 * 10**9
