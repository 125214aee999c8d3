"""Contract of `Backend.get`, `stat` and `delete`."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from coffer.backends.base import Backend
from coffer.errors import ObjectNotFoundError, ShortReadError
from tests.contract.stores import Opener

DATA = bytes(range(100))


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, DATA),
        (40, None, DATA[40:]),
        (100, None, b""),
        (0, 100, DATA),
        (0, 1, DATA[:1]),
        (99, 1, DATA[99:]),
        (10, 20, DATA[10:30]),
        (0, 0, b""),
        (50, 0, b""),
        (100, 0, b""),
    ],
)
def test_get_returns_exactly_the_range(store: Backend, offset: int, length: int | None, expected: bytes) -> None:
    """Whole, tails, middles and ranges of no bytes, up to the very end, come as asked and as `bytes`."""
    store.put("packs/ab/1", [DATA])

    found = store.get("packs/ab/1", offset, length)

    assert expected == found
    assert bytes is type(found)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 101), (99, 2), (100, 1), (101, 0), (101, None), (1000, 10), (0, 1 << 60), (1 << 60, None)],
)
def test_get_beyond_the_end_is_a_short_read(store: Backend, offset: int, length: int | None) -> None:
    """A range that the object does not have is an error and never less data, however absurd its length."""
    store.put("packs/ab/1", [DATA])

    with pytest.raises(ShortReadError, match="packs/ab/1"):
        store.get("packs/ab/1", offset, length)


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (-1, 5), (0, -1), (5, -5)])
def test_get_refuses_a_negative_range(store: Backend, offset: int, length: int | None) -> None:
    """A negative offset or length is the caller's mistake, and does not count from the end."""
    store.put("packs/ab/1", [DATA])

    with pytest.raises(ValueError, match="negative"):
        store.get("packs/ab/1", offset, length)


@pytest.mark.parametrize("name", ["coffer.json", "packs/ab/2", "packs/ab", "nowhere/at/all"])
def test_what_is_not_there_is_not_found(store: Backend, name: str) -> None:
    """A missing object, a level of another's name and a missing folder are all simply not found, by get and stat."""
    store.put("packs/ab/1", [DATA])

    for read in (lambda: store.get(name), lambda: store.get(name, 0, 0), lambda: store.stat(name)):
        with pytest.raises(ObjectNotFoundError, match=name):
            read()


def test_delete_removes_one_object_only(store: Backend) -> None:
    """The object is gone for get, stat and list; its neighbours stay."""
    for name in ("packs/ab/1", "packs/ab/10", "packs/ab/2"):
        store.put(name, [DATA])
    store.get("packs/ab/1", 5, 5)

    store.delete("packs/ab/1")

    for read in (
        lambda: store.get("packs/ab/1"),
        lambda: store.get("packs/ab/1", 5, 5),
        lambda: store.stat("packs/ab/1"),
    ):
        with pytest.raises(ObjectNotFoundError):
            read()
    assert ["packs/ab/10", "packs/ab/2"] == [info.name for info in store.list()]


@pytest.mark.parametrize("name", ["packs/ab/1", "packs/ab/none", "packs/ab", "none", "none/at/all"])
def test_delete_is_idempotent(store: Backend, name: str) -> None:
    """Deleting twice, deleting what never was, or a level of other names, is no error and takes nothing else."""
    store.put("packs/ab/1", [DATA])
    store.put("packs/ab/2", [DATA])

    store.delete(name)
    store.delete(name)

    left = {"packs/ab/1", "packs/ab/2"} - {name}
    assert sorted(left) == [info.name for info in store.list()]


def test_delete_is_seen_through_another_handle(open_store: Opener) -> None:
    """A handle that has read ranges of an object does not go on serving it when another one deleted it."""
    reader, pruner = open_store(), open_store()
    reader.put("packs/ab/1", [DATA])
    assert DATA[3:7] == reader.get("packs/ab/1", 3, 4)

    pruner.delete("packs/ab/1")

    with pytest.raises(ObjectNotFoundError):
        reader.get("packs/ab/1", 3, 4)


def test_many_threads_may_read_many_objects(store: Backend) -> None:
    """Eight threads read random ranges of 40 objects (more than are kept open) and get the right bytes."""
    objects = {f"packs/ab/{number}": random.Random(number).randbytes(5000) for number in range(40)}
    for name, data in objects.items():
        store.put(name, [data])

    def read(seed: int) -> int:
        source = random.Random(seed)
        for _ in range(200):
            name = f"packs/ab/{source.randrange(40)}"
            start = source.randrange(5001)
            stop = source.randrange(start, 5001)
            assert objects[name][start:stop] == store.get(name, start, stop - start)
        return seed

    with ThreadPoolExecutor(8) as pool:
        assert list(range(8)) == list(pool.map(read, range(8)))


def test_threads_may_put_read_and_delete_at_once(store: Backend) -> None:
    """Eight threads, each with names of its own in shared folders, do not disturb each other."""

    def work(worker: int) -> list[str]:
        for number in range(12):
            name = f"packs/{number % 3}/w{worker}-{number}"
            store.put(name, [name.encode(), DATA])
            assert name.encode() == store.get(name, 0, len(name))
            if number % 2:
                store.delete(name)
        return [f"packs/{number % 3}/w{worker}-{number}" for number in range(0, 12, 2)]

    with ThreadPoolExecutor(8) as pool:
        kept = [name for names in pool.map(work, range(8)) for name in names]

    assert sorted(kept) == [info.name for info in store.list()]


def test_url_names_the_place_and_no_more(store: Backend) -> None:
    """The address is for messages: one line, with a scheme, without anything before an @."""
    assert ":" in store.url
    assert "@" not in store.url
    assert "\n" not in store.url


def test_close_may_be_called_twice(open_store: Opener) -> None:
    """Closing is idempotent, also after reads that keep something open."""
    store = open_store()
    store.put("packs/ab/1", [DATA])
    store.get("packs/ab/1", 1, 2)

    store.close()
    store.close()

    assert DATA == open_store().get("packs/ab/1")
