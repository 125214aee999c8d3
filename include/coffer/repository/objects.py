"""Small objects, read whole under a cap: until it is opened, whatever a store holds may be hostile (invariant I7)."""

from __future__ import annotations

from coffer.backends.base import Backend
from coffer.errors import SizeLimitError


def read_whole(backend: Backend, name: str, max_bytes: int, size_bytes: int | None = None) -> bytes:
    """Return all bytes of an object of at most `max_bytes`.

    Args:
        backend: Where it lies.
        name: The object.
        max_bytes: Its cap [bytes].
        size_bytes: Its size as a listing told it [bytes]; asked for where omitted.

    Raises:
        SizeLimitError: It is larger; nothing was read.
        ObjectNotFoundError: There is none.
        ShortReadError: It is shorter than the store said.
    """
    size = backend.stat(name).size_bytes if size_bytes is None else size_bytes
    if size > max_bytes:
        raise SizeLimitError(f"{name}: {size} bytes, over the cap of {max_bytes}", object=name)
    return backend.get(name, 0, size)
