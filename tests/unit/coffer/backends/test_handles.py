"""The cache of open files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from coffer.backends.handles import HandleCache


@pytest.fixture
def opened():
    return []


@pytest.fixture
def opener(tmp_path, opened):
    def open_file(name):
        (tmp_path / name).touch()
        opened.append(name)
        return os.open(tmp_path / name, os.O_RDONLY)

    return open_file


def _is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_file_is_opened_once_while_it_is_kept(opener, opened):
    """Three reads in a row cost one open."""
    cache = HandleCache(2)

    for _ in range(3):
        cache.release(cache.acquire("a", opener))

    assert ["a"] == opened
    cache.clear()


def test_the_least_recently_used_goes_first(opener, opened):
    """With room for two, reading a, b, a, c drops b."""
    cache = HandleCache(2)

    for name in "abacab":
        cache.release(cache.acquire(name, opener))

    assert ["a", "b", "c", "b"] == opened
    cache.clear()


def test_a_file_in_use_is_closed_by_its_last_reader(opener):
    """Dropped by `forget` while two read it: open until the second is done."""
    cache = HandleCache(2)
    first = cache.acquire("a", opener)
    second = cache.acquire("a", opener)
    assert first is second

    cache.forget("a")
    cache.release(first)
    assert _is_open(first.fd)
    cache.release(second)

    assert not _is_open(first.fd)
    assert 0 == first.users


def test_room_for_none_still_serves(opener, opened):
    """With a capacity of nought every read opens and closes its own."""
    cache = HandleCache(0)

    handle = cache.acquire("a", opener)
    assert _is_open(handle.fd)
    cache.release(handle)

    assert not _is_open(handle.fd)


def test_two_that_open_at_once_both_get_a_file(opener):
    """The second to come takes the place in the cache; the first goes on reading its own."""
    cache = HandleCache(2)
    inner = []

    def opener_that_is_overtaken(name):
        inner.append(cache.acquire(name, opener))
        return opener(name)

    outer = cache.acquire("a", opener_that_is_overtaken)

    assert outer.fd != inner[0].fd
    assert _is_open(inner[0].fd)
    cache.release(inner[0])
    assert not _is_open(inner[0].fd)
    cache.release(outer)
    cache.clear()
    assert not _is_open(outer.fd)


def test_many_threads_leave_no_file_open(opener, opened):
    """8 threads over 10 names with room for 3: after `clear` none is left."""
    cache = HandleCache(3)
    fds = set()

    def read(seed):
        for number in range(300):
            handle = cache.acquire("abcdefghij"[(seed * 7 + number * 3) % 10], opener)
            fds.add(os.fstat(handle.fd).st_ino)
            cache.release(handle)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))
    before = len(os.listdir("/proc/self/fd"))
    cache.clear()

    assert before - 3 == len(os.listdir("/proc/self/fd"))
    assert 10 == len(fds)
