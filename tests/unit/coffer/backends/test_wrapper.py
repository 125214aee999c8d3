"""The base of wrappers."""

from __future__ import annotations

from coffer.backends.base import Backend
from coffer.backends.memory import MemoryBackend
from coffer.backends.wrapper import BackendWrapper, size_of


def test_a_bare_wrapper_changes_nothing():
    """Every method of the contract reaches the inner store and brings back its answer."""
    inner = MemoryBackend()
    wrapper = BackendWrapper(inner)

    wrapper.put("a/1", [b"data"])

    assert isinstance(wrapper, Backend)
    assert inner is wrapper.inner
    assert inner.url == wrapper.url
    assert b"at" == wrapper.get("a/1", 1, 2) == inner.get("a/1", 1, 2)
    assert inner.stat("a/1") == wrapper.stat("a/1")
    assert list(inner.list("a/")) == list(wrapper.list("a/")) != []
    wrapper.delete("a/1")
    assert [] == list(inner.list())


def test_closing_a_wrapper_closes_its_store():
    """Who holds the outermost wrapper need not know what is below."""
    closed = []

    class Closing(MemoryBackend):
        def close(self):
            closed.append(True)

    BackendWrapper(BackendWrapper(Closing())).close()

    assert [True] == closed


def test_the_size_of_parts_counts_bytes():
    """Items of several bytes count as such, no parts count nothing."""
    assert 0 == size_of([])
    assert 1 + 16 + 2 == size_of([b"x", memoryview(bytes(16)).cast("I"), bytearray(2)])
