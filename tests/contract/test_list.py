"""Contract of `Backend.list`."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from coffer.backends.base import Backend, ObjectInfo
from coffer.errors import ObjectNameInvalidError

# Chosen so that folder by folder order, or a sort that takes '/' for the smallest, gives another result.
NAMES = [
    "a-b",
    "a-b.c",
    "a.b",
    "a.b-c/x",
    "a/b",
    "a/b-c/d",
    "a/b.c",
    "a/b0",
    "a/c/d/e",
    "a/c0",
    "a0",
    "a_b",
    "aa/a",
    "b",
    "coffer.json",
]


def _names(listing: Iterator[ObjectInfo]) -> list[str]:
    return [info.name for info in listing]


@pytest.fixture
def filled(store: Backend) -> Backend:
    """A store with `NAMES`, put in no order; each object holds its own name."""
    assert sorted(NAMES) == NAMES
    for name in random.Random(7).sample(NAMES, len(NAMES)):
        store.put(name, [name.encode()])
    return store


def test_list_of_an_empty_store_is_empty(store: Backend) -> None:
    """Nothing was put, nothing is listed, whatever the prefix."""
    for prefix in ("", "a", "packs/", "packs/ab/"):
        assert [] == list(store.list(prefix))


def test_list_yields_every_object_once_sorted_by_its_full_name(filled: Backend) -> None:
    """The order is that of the names' bytes, where '-' and '.' come before '/', and digits after it."""
    assert NAMES == _names(filled.list())


def test_list_tells_what_stat_tells(filled: Backend) -> None:
    """Size and time of a listing are those of a look-up."""
    listed = list(filled.list())

    assert [filled.stat(name) for name in NAMES] == listed
    assert [len(name) for name in NAMES] == [info.size_bytes for info in listed]


@pytest.mark.parametrize(
    "prefix",
    [
        "a",
        "a/",
        "a/b",
        "a/b-c",
        "a/b-c/",
        "a/b-c/d",
        "a/c",
        "a/c/d/",
        "a.",
        "a-b",
        "a0",
        "b",
        "coffer.json",
        "b/",
        "zz",
    ],
)
def test_a_prefix_may_end_anywhere_in_a_name(filled: Backend, prefix: str) -> None:
    """A prefix is a string and no folder: it also cuts through a level, or is a whole name."""
    expected = [name for name in NAMES if name.startswith(prefix)]

    assert expected == _names(filled.list(prefix))


@pytest.mark.parametrize("prefix", ["/", "..", ".tmp", "a//", "A", "a b", "a/../b", "a\x00", "a/b/c/d/e", "*"])
def test_list_refuses_a_prefix_that_no_name_can_start_with(store: Backend, prefix: str) -> None:
    """The call itself fails, before anything is iterated: a false prefix must not look like an empty store."""
    with pytest.raises(ObjectNameInvalidError):
        store.list(prefix)


def test_a_listing_may_be_given_up(filled: Backend) -> None:
    """Who takes the first name only leaves nothing behind that hinders the next listing."""
    assert NAMES[0] == next(iter(filled.list())).name

    assert NAMES == _names(filled.list())


def test_deleting_while_listing_is_allowed(filled: Backend) -> None:
    """A listing whose objects are deleted as they come (what prune does) comes to its end and misses none."""
    seen = []
    for info in filled.list():
        seen.append(info.name)
        filled.delete(info.name)

    assert NAMES == seen
    assert [] == list(filled.list())


def test_listings_of_many_objects_are_complete(store: Backend) -> None:
    """300 objects over 20 folders, more than fit a naive page, are all listed in order."""
    names = sorted(f"packs/{number % 20:02x}/{number:04d}" for number in range(300))
    for name in names:
        store.put(name, [b"x"])

    assert names == _names(store.list("packs/"))
