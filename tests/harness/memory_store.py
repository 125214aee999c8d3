"""A memory store that can be harmed: what bit rot, a false copy or an enemy does to stored objects."""

from __future__ import annotations

from coffer.backends.memory import MemoryBackend


class TamperableMemoryBackend(MemoryBackend):
    """A `MemoryBackend` whose objects tests may damage behind the engine's back."""

    def flip_bit(self, name: str, offset: int, bit: int = 0) -> None:
        """Flip one bit of a stored object; a negative offset counts from its end. Flipping twice mends it."""
        data = bytearray(self.get(name))
        data[offset] ^= 1 << bit
        self.replace(name, bytes(data))

    def truncate(self, name: str, size_bytes: int) -> None:
        """Cut an object to its first bytes; it must have been longer, or nothing would be harmed."""
        data = self.get(name)
        if size_bytes >= len(data):
            raise AssertionError(f"{name} has {len(data)} bytes already, cutting to {size_bytes} harms nothing")
        self.replace(name, data[:size_bytes])

    def replace(self, name: str, data: bytes) -> None:
        """Put other bytes in a stored object's place, under its old time."""
        with self._lock:
            modified_ns = self._objects[name][1]
            self._objects[name] = (data, modified_ns)

    def age(self, name: str, by_ns: int) -> None:
        """Make the store believe that an object was put so much earlier [ns]."""
        with self._lock:
            data, modified_ns = self._objects[name]
            self._objects[name] = (data, modified_ns - by_ns)

    def clone(self) -> TamperableMemoryBackend:
        """Return a copy with the same objects and times, to harm one and keep the other."""
        other = TamperableMemoryBackend(self._clock)
        with self._lock:
            other._objects = dict(self._objects)
            other._folders = set(self._folders)
        return other

    def contents(self) -> dict[str, bytes]:
        """Return all objects by name, for comparing two states of a store."""
        with self._lock:
            return {name: data for name, (data, _) in sorted(self._objects.items())}
