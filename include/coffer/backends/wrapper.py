"""The base of wrappers: a store that hands every call on to another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coffer.backends.base import Backend, Buffer, ObjectInfo


class BackendWrapper:
    """Hands every call on; a wrapper replaces the methods it is about, and only those.

    Args:
        inner: The store wrapped; closed with the wrapper.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    @property
    def inner(self) -> Backend:
        """The store wrapped."""
        return self._inner

    @property
    def url(self) -> str:
        """Say where the store is."""
        return self._inner.url

    def put(self, name: str, parts: Sequence[Buffer]) -> None:
        """See `Backend.put`."""
        self._inner.put(name, parts)

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `Backend.get`."""
        return self._inner.get(name, offset, length)

    def stat(self, name: str) -> ObjectInfo:
        """See `Backend.stat`."""
        return self._inner.stat(name)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Backend.list`."""
        return self._inner.list(prefix)

    def delete(self, name: str) -> None:
        """See `Backend.delete`."""
        self._inner.delete(name)

    def close(self) -> None:
        """See `Backend.close`."""
        self._inner.close()


def size_of(parts: Sequence[Buffer]) -> int:
    """Return the length of the concatenation of `parts` [bytes].

    Paced parts tell it themselves (`nbytes`): to go through them is to wait for them.
    """
    told = getattr(parts, "nbytes", None)
    return sum(memoryview(part).nbytes for part in parts) if told is None else int(told)
