"""A store in this process's memory: for tests, and for rehearsals that must leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock

from coffer.backends.base import Buffer, ObjectInfo, validate_name, validate_prefix
from coffer.clock import SYSTEM_CLOCK, Clock
from coffer.errors import ObjectExistsError, ObjectNameInvalidError, ObjectNotFoundError, ShortReadError


class MemoryBackend:
    """Objects in a dict; the same contract as every other store, durable as long as the process.

    Args:
        clock: Gives `ObjectInfo.modified_ns`, the store's own clock.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = Lock()
        self._objects: dict[str, tuple[bytes, int]] = {}
        # As on a disk, a name that has been a folder is no name for an object, and the reverse.
        self._folders: set[str] = set()

    @property
    def url(self) -> str:
        """Say where the store is."""
        return "memory:"

    def put(self, name: str, parts: Sequence[Buffer]) -> None:
        """Store an object under a name that is not taken; see `Backend.put`."""
        validate_name(name)
        data = b"".join(parts)
        levels = name.split("/")
        folders = ["/".join(levels[:depth]) for depth in range(1, len(levels))]
        with self._lock:
            if name in self._objects:
                raise ObjectExistsError(f"object {name!r}: exists already", name=name)
            if name in self._folders or any(folder in self._objects for folder in folders):
                raise ObjectNameInvalidError(
                    f"object {name!r}: a level of one name cannot be another's whole", name=name
                )
            self._objects[name] = (data, self._clock.now_ns())
            self._folders.update(folders)

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return a range of an object; see `Backend.get`."""
        data = self._find(name)[0]
        if offset < 0 or (length is not None and length < 0):
            raise ValueError(f"range of {name!r} must not be negative: offset {offset}, length {length}")
        stop = max(offset, len(data)) if length is None else offset + length
        if stop > len(data):
            raise ShortReadError(
                f"object {name!r}: has {len(data)} bytes, {stop} were expected", name=name, size_bytes=len(data)
            )
        return data[offset:stop]

    def stat(self, name: str) -> ObjectInfo:
        """Return size and time of one object; see `Backend.stat`."""
        data, modified_ns = self._find(name)
        return ObjectInfo(name, len(data), modified_ns)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects below a prefix, sorted by name; see `Backend.list`."""
        validate_prefix(prefix)
        with self._lock:
            found = [(name, stored) for name, stored in self._objects.items() if name.startswith(prefix)]
        found.sort(key=lambda item: item[0])
        return (ObjectInfo(name, len(data), modified_ns) for name, (data, modified_ns) in found)

    def delete(self, name: str) -> None:
        """Remove one object if it is there; see `Backend.delete`."""
        validate_name(name)
        with self._lock:
            self._objects.pop(name, None)

    def close(self) -> None:
        """Do nothing: the objects live as long as this backend."""

    def _find(self, name: str) -> tuple[bytes, int]:
        validate_name(name)
        with self._lock:
            stored = self._objects.get(name)
        if stored is None:
            raise ObjectNotFoundError(f"object {name!r}: not found", name=name)
        return stored
