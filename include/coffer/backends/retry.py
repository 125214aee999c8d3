"""Try again what a store could not answer just now, and find out whether a put whose reply was lost took effect."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from coffer.backends.base import Backend, Buffer, ObjectInfo
from coffer.backends.wrapper import BackendWrapper, size_of
from coffer.clock import SYSTEM_CLOCK, Clock
from coffer.errors import BackendUnavailableError, ObjectExistsError, ObjectNotFoundError

T = TypeVar("T")

# Stored bytes are compared in ranges of this size, so that a large object is never in memory twice.
_COMPARE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try.

    The pause after try n is drawn evenly from [0, min(cap_s, base_s * 2**(n - 1))] ("full jitter"): clients that failed
    together come back apart. Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

    Attributes:
        attempts: Calls in all, the first among them; at least 1.
        base_s: The first pause is at most this long [s].
        cap_s: No pause is longer [s].
        deadline_s: No new try is begun that would start later than this after the first [s].
    """

    attempts: int = 6
    base_s: float = 0.25
    cap_s: float = 20.0
    deadline_s: float = 120.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.attempts < 1 or self.base_s < 0 or self.cap_s < 0 or self.deadline_s < 0:
            raise ValueError(f"retry policy makes no sense: {self}")

    def longest_pause_s(self, tried: int) -> float:
        """Return the longest pause after so many tries [s]."""
        # 2^60 times any base is over any cap, and no power overflows.
        return min(self.cap_s, self.base_s * 2.0 ** min(tried - 1, 60))


DEFAULT_RETRY_POLICY = RetryPolicy()


def _uniform() -> float:
    # 53 random bits as a fraction in [0, 1); the random module costs 5 ms to import.
    return (int.from_bytes(os.urandom(7)) >> 3) / (1 << 53)


class RetryBackend(BackendWrapper):
    """Tries again on `BackendUnavailableError`, and on nothing else.

    A full disk is transient too, but not within seconds: it goes to the caller at once, whose next run goes on from
    there.

    Args:
        inner: The store wrapped.
        policy: How often and how long.
        clock: For the deadline.
        sleep: Waits for so long [s]; give an event's `wait` to make it end early.
        uniform: Returns a random number in [0, 1).
    """

    def __init__(
        self,
        inner: Backend,
        policy: RetryPolicy = DEFAULT_RETRY_POLICY,
        *,
        clock: Clock = SYSTEM_CLOCK,
        sleep: Callable[[float], object] = time.sleep,
        uniform: Callable[[], float] = _uniform,
    ) -> None:
        super().__init__(inner)
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform

    def put(self, name: str, parts: Sequence[Buffer]) -> None:
        """Store an object; see `Backend.put`.

        Where a try ended without an answer and the next one finds the name taken, the first may have won. It has if the
        object there is, byte for byte, the one given: then the put succeeded. Two writers that put equal bytes under
        one name at that very moment may so both be told of success; neither's object is lost, and nobody can tell them
        apart. A put that must have one winner only (a commit, a lease) holds something of its writer's own.

        Raises:
            ObjectExistsError: Another object was there first (or another's, on a first try, whatever its bytes).
            BackendUnavailableError: The last try had no answer either; the object may be there, whole, or not.
        """
        unanswered = False

        def attempt() -> None:
            nonlocal unanswered
            try:
                self._inner.put(name, parts)
            except BackendUnavailableError:
                unanswered = True
                raise
            except ObjectExistsError:
                if not (unanswered and self._is_stored(name, parts)):
                    raise

        self._try(attempt)

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `Backend.get`."""
        return self._try(lambda: self._inner.get(name, offset, length))

    def stat(self, name: str) -> ObjectInfo:
        """See `Backend.stat`."""
        return self._try(lambda: self._inner.stat(name))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield objects sorted by name; see `Backend.list`.

        A listing that breaks off is begun again and goes on behind the last name yielded. Tries are counted anew
        whenever it has come further.
        """
        # Here and not in the generator, so that a wrong prefix is reported by the call, as the store itself does.
        first = self._try(lambda: self._inner.list(prefix))
        return self._continued(first, prefix)

    def delete(self, name: str) -> None:
        """See `Backend.delete`."""
        self._try(lambda: self._inner.delete(name))

    def _continued(self, listing: Iterator[ObjectInfo], prefix: str) -> Iterator[ObjectInfo]:
        last_name = ""
        broken = False

        def advance() -> ObjectInfo | None:
            nonlocal listing, broken
            if broken:
                listing = (info for info in self._inner.list(prefix) if info.name > last_name)
                broken = False
            try:
                return next(listing, None)
            except BackendUnavailableError:
                broken = True
                raise

        while (info := self._try(advance)) is not None:
            last_name = info.name
            yield info

    def _is_stored(self, name: str, parts: Sequence[Buffer]) -> bool:
        """Return whether the object of that name is the concatenation of `parts`; size first, it is the cheaper."""
        try:
            size_bytes = self.stat(name).size_bytes
            if size_bytes != size_of(parts):
                return False
            offset = 0
            for part in parts:
                view = memoryview(part)
                if view.nbytes == 0:
                    continue
                view = view.cast("B")
                for start in range(0, view.nbytes, _COMPARE_BYTES):
                    ours = view[start : start + _COMPARE_BYTES]
                    if self.get(name, offset, ours.nbytes) != ours:
                        return False
                    offset += ours.nbytes
        except ObjectNotFoundError:
            # Deleted again meanwhile: whoever did, it is not stored.
            return False
        return True

    def _try(self, call: Callable[[], T]) -> T:
        begun_s = self._clock.monotonic_s()
        for tried in range(1, self._policy.attempts + 1):
            try:
                return call()
            except BackendUnavailableError as error:
                error.details["attempts"] = tried
                if tried == self._policy.attempts:
                    raise
                pause_s = self._uniform() * self._policy.longest_pause_s(tried)
                if self._clock.monotonic_s() - begun_s + pause_s > self._policy.deadline_s:
                    raise
            self._sleep(pause_s)
        raise AssertionError("unreachable: the last try returns or raises")  # pragma: no cover - for the type checker
