"""I1: no object is ever overwritten; one that was, by whatever hand, is noticed."""

import random
from collections import Counter

import pytest

from coffer.errors import ObjectExistsError
from coffer.verification import check, verify
from tests.harness.corrupt import errors_of
from tests.harness.faulty_backend import FaultyBackend


def test_a_backup_changes_and_removes_no_object(history, store):
    """A further backup adds objects; each that was there before has its bytes and its time."""
    before, times = store.contents(), {info.name: info.modified_ns for info in store.list()}
    history.back_up(history.open(store))
    after = store.contents()
    assert before == {name: after[name] for name in before}
    assert times == {info.name: info.modified_ns for info in store.list() if info.name in times}
    assert len(after) > len(before)


def test_a_backup_puts_no_name_twice_and_deletes_only_its_lease(history, store):
    """What Object Lock would refuse is never tried: the calls themselves are looked at."""
    counting = FaultyBackend(store)
    history.back_up(history.open(counting))
    puts = Counter(name for method, name in counting.calls if method == "put")
    assert {1} == set(puts.values())
    assert not set(puts) & set(history.names(""))
    assert {"leases"} == {name.partition("/")[0] for method, name in counting.calls if method == "delete"}


@pytest.mark.parametrize("kind", ["coffer.json", "keys/", "index/", "snapshots/", "packs/"])
def test_a_put_over_an_object_is_refused_and_leaves_it(history, store, kind):
    """The store refuses, even the same bytes."""
    for name in history.names(kind):
        data = store.get(name)
        with pytest.raises(ObjectExistsError):
            store.put(name, [data])
        with pytest.raises(ObjectExistsError):
            store.put(name, [b"other"])
        assert data == store.get(name)


@pytest.mark.parametrize("kind", ["coffer.json", "keys/", "index/", "snapshots/", "packs/"])
def test_an_object_that_was_overwritten_is_one_error_of_it(history, store, kind):
    """Other bytes of the same length, behind the engine's back."""
    repo = history.open(store, heads=history.heads)
    name = history.names(kind)[0]
    store.replace(name, random.Random(1).randbytes(store.stat(name).size_bytes))
    assert [name] == [found.object for found in errors_of(verify(repo))]


def test_an_older_object_in_a_newer_ones_place_is_noticed(history, store):
    """The first snapshot's bytes at the last one's name: a rollback by overwriting."""
    first, *_, last = history.names("snapshots/")
    store.replace(last, store.get(first))
    assert [last] == [found.object for found in errors_of(check(history.open(store, heads=history.heads)))]
