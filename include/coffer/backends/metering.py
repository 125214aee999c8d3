"""Count calls and bytes, by method and by kind of object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock

from coffer.backends.base import Backend, Buffer, ObjectInfo
from coffer.backends.wrapper import BackendWrapper, size_of

Snapshot = dict[str, dict[str, dict[str, int]]]


class MeteringBackend(BackendWrapper):
    """Counts what passes: ``snapshot()["put"]["packs"]["bytes"]``.

    A name's class is its first level (``packs``, ``index``, ``coffer.json``). Calls count when they begin, bytes and
    listed objects when they have passed, errors of any kind when they are raised.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self._lock = Lock()
        self._counts: dict[tuple[str, str], dict[str, int]] = {}

    def snapshot(self) -> Snapshot:
        """Return the counts so far, as plain dicts: method -> class -> {"calls", "errors", "bytes", "objects"}.

        ``bytes`` [bytes] is what puts stored and gets returned; ``objects`` is how many listings yielded. Methods and
        classes that were not called are absent.
        """
        result: Snapshot = {}
        with self._lock:
            for (method, kind), counts in sorted(self._counts.items()):
                result.setdefault(method, {})[kind] = dict(counts)
        return result

    def total(self, method: str, what: str = "calls") -> int:
        """Return one count of a method over all classes."""
        with self._lock:
            return sum(counts[what] for (called, _), counts in self._counts.items() if called == method)

    def put(self, name: str, parts: Sequence[Buffer]) -> None:
        """See `Backend.put`."""
        with _Call(self, "put", name) as call:
            self._inner.put(name, parts)
            call.passed(size_bytes=size_of(parts))

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `Backend.get`."""
        with _Call(self, "get", name) as call:
            data = self._inner.get(name, offset, length)
            call.passed(size_bytes=len(data))
            return data

    def stat(self, name: str) -> ObjectInfo:
        """See `Backend.stat`."""
        with _Call(self, "stat", name):
            return self._inner.stat(name)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See `Backend.list`."""
        with _Call(self, "list", prefix) as call:
            listing = self._inner.list(prefix)
        return self._counted(listing, call)

    def delete(self, name: str) -> None:
        """See `Backend.delete`."""
        with _Call(self, "delete", name):
            self._inner.delete(name)

    def _counted(self, listing: Iterator[ObjectInfo], call: _Call) -> Iterator[ObjectInfo]:
        try:
            for info in listing:
                call.passed(objects=1)
                yield info
        except Exception:
            call.failed()
            raise

    def add(
        self, method: str, kind: str, *, calls: int = 0, errors: int = 0, size_bytes: int = 0, objects: int = 0
    ) -> None:
        """Add to the counts of a method and class."""
        with self._lock:
            counts = self._counts.setdefault((method, kind), {"calls": 0, "errors": 0, "bytes": 0, "objects": 0})
            counts["calls"] += calls
            counts["errors"] += errors
            counts["bytes"] += size_bytes
            counts["objects"] += objects


class _Call:
    """One call under count."""

    def __init__(self, meter: MeteringBackend, method: str, name: str) -> None:
        self._meter = meter
        self._method = method
        self._kind = name.partition("/")[0]

    def __enter__(self) -> _Call:
        self._meter.add(self._method, self._kind, calls=1)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.failed()

    def failed(self) -> None:
        self._meter.add(self._method, self._kind, errors=1)

    def passed(self, size_bytes: int = 0, objects: int = 0) -> None:
        self._meter.add(self._method, self._kind, size_bytes=size_bytes, objects=objects)
