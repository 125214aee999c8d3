"""Hold reads and writes to a rate: the policy's `io_limit` and `network_limit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import overload

from coffer.backends.base import Backend, Buffer
from coffer.backends.wrapper import BackendWrapper
from coffer.clock import SYSTEM_CLOCK, Clock

# Writes are paced in slices of this size: 2 ms at 500 MB/s, 1 s at 1 MB/s.
SLICE_BYTES = 1 << 20


class TokenBucket:
    """Lets so many bytes pass in a second, and at most a burst more after a rest.

    Each taker is given the next stretch of time in turn and sleeps to its end, outside the lock: the sum of all takers
    never exceeds the rate, a taker of more than the burst is served, and nobody starves.

    Args:
        rate_bytes_per_s: The rate [bytes/s].
        burst_bytes: What may pass at once after a rest; a quarter second's worth where None.
        clock: Tells how much time passed.
        sleep: Waits for so long [s]; give an event's `wait` to make it end early.

    Source: the token bucket as a meter, RFC 2697 §3, without its colours and with debt instead of refusal.
    """

    def __init__(
        self,
        rate_bytes_per_s: float,
        burst_bytes: int | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate_bytes_per_s = float(rate_bytes_per_s)
        self._burst_bytes = self._rate_bytes_per_s / 4 if burst_bytes is None else float(burst_bytes)
        if self._rate_bytes_per_s <= 0 or self._burst_bytes < 0:
            raise ValueError(f"token bucket needs a rate above nought: {rate_bytes_per_s} B/s, {burst_bytes} B")
        self._clock = clock
        self._sleep = sleep
        self._lock = Lock()
        self._tokens_bytes = self._burst_bytes
        self._filled_s = clock.monotonic_s()

    def take(self, size_bytes: int) -> None:
        """Return when `size_bytes` may pass; at once while the burst lasts."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            earned_bytes = (now_s - self._filled_s) * self._rate_bytes_per_s
            self._tokens_bytes = min(self._burst_bytes, self._tokens_bytes + earned_bytes) - size_bytes
            self._filled_s = now_s
            wait_s = -self._tokens_bytes / self._rate_bytes_per_s
        if wait_s > 0:
            self._sleep(wait_s)


class ThrottledBackend(BackendWrapper):
    """Takes from a bucket for each byte written or read.

    Buckets may be shared: by several stores on one disk or network link, and by reads and writes. Listings, deletes and
    look-ups are free.

    Args:
        inner: The store wrapped.
        write: Bucket of puts; None for no limit.
        read: Bucket of gets; None for no limit.
    """

    def __init__(self, inner: Backend, *, write: TokenBucket | None = None, read: TokenBucket | None = None) -> None:
        super().__init__(inner)
        self._write = write
        self._read = read

    def put(self, name: str, parts: Sequence[Buffer]) -> None:
        """See `Backend.put`; a store that writes parts as it goes through them is paced slice by slice."""
        self._inner.put(name, parts if self._write is None else _PacedParts(parts, self._write))

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `Backend.get`; waits beforehand if the length is told, and afterwards if it is not."""
        if self._read is None:
            return self._inner.get(name, offset, length)
        if length is not None:
            self._read.take(length)
            return self._inner.get(name, offset, length)
        data = self._inner.get(name, offset)
        self._read.take(len(data))
        return data


class _PacedParts(Sequence[Buffer]):
    """The same bytes, cut into slices, each of which is waited for when it is gone through."""

    def __init__(self, parts: Sequence[Buffer], bucket: TokenBucket) -> None:
        self._slices = [piece for part in parts for piece in _slices(part)]
        self._bucket = bucket
        self.nbytes = sum(piece.nbytes for piece in self._slices)

    def __len__(self) -> int:
        return len(self._slices)

    @overload
    def __getitem__(self, index: int) -> Buffer: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Buffer]: ...

    def __getitem__(self, index: int | slice) -> Buffer | Sequence[Buffer]:
        chosen = self._slices[index]
        if isinstance(chosen, list):
            return _PacedParts(chosen, self._bucket)
        self._bucket.take(chosen.nbytes)
        return chosen

    def __iter__(self) -> Iterator[Buffer]:
        for piece in self._slices:
            self._bucket.take(piece.nbytes)
            yield piece


def _slices(part: Buffer) -> Iterator[memoryview]:
    view = memoryview(part)
    if view.nbytes:
        view = view.cast("B")
    for start in range(0, view.nbytes, SLICE_BYTES):
        yield view[start : start + SLICE_BYTES]
