"""A store that fails as planned: before, after, in the middle, for ever.

Count the calls of a run first, then run it once for each call with a fault at it::

    counting = FaultyBackend(MemoryBackend())
    run(counting)
    for call in range(counting.call_count):
        with FaultyBackend(MemoryBackend(), [Fault(FaultKind.KILL_AFTER, call=call)]) as store:
            ...                      # a fault that was not met fails the test
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from threading import Lock
from typing import TypeVar

from coffer.backends.base import Backend, Buffer, ObjectInfo
from coffer.backends.wrapper import BackendWrapper
from coffer.errors import BackendFullError, BackendUnavailableError, ShortReadError

T = TypeVar("T")


class SimulatedKill(BaseException):
    """The process is dead from here on. No `Exception`, so that nothing takes it for an error and tidies up."""


class FaultKind(Enum):
    """What happens at a planned call."""

    FAIL_BEFORE = "the call fails and has no effect"
    FAIL_AFTER = "the call takes effect, its reply is lost"
    FULL = "a put finds no space left, nothing is stored"
    SHORT_READ = "a get finds the object cut off"
    STALE_LIST = "a list shows the state before the last changes"
    SLOW = "the call takes long, then works"
    KILL_BEFORE = "the process dies before the call has an effect (SimulatedKill)"
    KILL_AFTER = "the process dies after the call had its effect (SimulatedKill)"
    SIGKILL_BEFORE = "as KILL_BEFORE, by a real kill -9: for subprocesses"
    SIGKILL_AFTER = "as KILL_AFTER, by a real kill -9: for subprocesses"


_ONLY_FOR = {FaultKind.FULL: "put", FaultKind.SHORT_READ: "get", FaultKind.STALE_LIST: "list"}
_BEFORE = frozenset({FaultKind.FAIL_BEFORE, FaultKind.FULL, FaultKind.SHORT_READ})


@dataclass
class Fault:
    """One planned fault.

    Met by the call of number `call`; or by the `nth` call (from nought) of `method` whose name or prefix starts with
    `prefix`, and the `times - 1` such calls after it.

    Attributes:
        kind: What happens.
        call: Number of the call among all calls, from nought.
        method: Name of the method; None for any.
        prefix: How the object's name, or a listing's prefix, starts.
        nth: Which of the matching calls is the first to be hit.
        times: How many matching calls in a row are hit.
        error: What is raised, where something is; the kind's own error if None.
        delay_s: How long a slow call takes [s].
        newest: How many of the last changes (puts, deletes) a stale list does not show yet.
        seen: Matching calls so far.
        hits: Calls hit so far.
    """

    kind: FaultKind
    call: int | None = None
    method: str | None = None
    prefix: str = ""
    nth: int = 0
    times: int = 1
    error: Exception | None = None
    delay_s: float = 0.0
    newest: int = 1
    seen: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Refuse a fault that no call can meet."""
        only = _ONLY_FOR.get(self.kind)
        if self.method not in (None, only) and only is not None:
            raise ValueError(f"{self.kind.name} is for {only} only, not for {self.method}")
        if self.call is None and self.method is None and only is None:
            raise ValueError(f"{self.kind.name}: say at which call, or of which method")
        if self.call is None:
            self.method = self.method or only

    def meets(self, number: int, method: str, name: str) -> bool:
        """Return whether this call is hit; counts it."""
        if self.call is not None:
            hit = number == self.call
        elif method == self.method and name.startswith(self.prefix):
            hit = self.nth <= self.seen < self.nth + self.times
            self.seen += 1
        else:
            hit = False
        self.hits += hit
        return hit

    @property
    def is_used(self) -> bool:
        """Whether every planned hit has happened."""
        return self.hits == (1 if self.call is not None else self.times)


class FaultyBackend(BackendWrapper):
    """Hands calls on to a store, but for the faults of a plan.

    After a simulated kill every further call dies too: a dead process's `finally` does nothing to the store. Safe to
    use from several threads; calls are numbered in the order in which they come.

    Args:
        inner: The store that does the work.
        plan: The faults; several may hit one call, the first in the list decides.
        sleep: Waits for a slow call; given to let it be observed and not waited for.

    Attributes:
        calls: Every call so far, as method and name (or prefix).
    """

    def __init__(
        self, inner: Backend, plan: Sequence[Fault] = (), *, sleep: Callable[[float], object] | None = None
    ) -> None:
        super().__init__(inner)
        self.plan = list(plan)
        self.calls: list[tuple[str, str]] = []
        self.is_dead = False
        self._sleep = sleep
        self._lock = Lock()
        self._changes: list[tuple[str, ObjectInfo | None]] = []

    @property
    def call_count(self) -> int:
        """How many calls there were so far."""
        return len(self.calls)

    def __enter__(self) -> FaultyBackend:
        """Return itself; leaving the context without an error asserts that every fault was used."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Assert that every fault was used, unless the test has failed already."""
        if kind is None:
            self.assert_all_used()

    def assert_all_used(self) -> None:
        """Fail if a planned fault was not met: the test would not test what it says.

        Raises:
            AssertionError: Names the faults and how many calls there were.
        """
        unused = [fault for fault in self.plan if not fault.is_used]
        if unused:
            raise AssertionError(f"planned faults were not used in {self.call_count} calls: {unused}")

    def put(self, name: str, parts: Sequence[Buffer]) -> None:
        """Store an object, or fail as planned."""

        def act() -> None:
            self._inner.put(name, parts)
            with self._lock:
                self._changes.append((name, None))

        self._perform("put", name, act)

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return a range, or fail as planned."""
        return self._perform("get", name, lambda: self._inner.get(name, offset, length))

    def stat(self, name: str) -> ObjectInfo:
        """Look an object up, or fail as planned."""
        return self._perform("stat", name, lambda: self._inner.stat(name))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List objects, or fail as planned; a lost reply breaks the listing off at its middle."""
        fault = self._next_fault("list", prefix)
        if fault is not None:
            self._strike_before(fault, prefix)
        listing = self._inner.list(prefix)
        if fault is None or fault.kind is FaultKind.SLOW:
            return listing
        if fault.kind is FaultKind.STALE_LIST:
            return iter(self._stale(listing, fault.newest, prefix))
        return self._broken_off(list(listing), fault, prefix)

    def delete(self, name: str) -> None:
        """Remove an object, or fail as planned."""

        def act() -> None:
            before = next((info for info in self._inner.list(name) if info.name == name), None)
            self._inner.delete(name)
            if before is not None:
                with self._lock:
                    self._changes.append((name, before))

        self._perform("delete", name, act)

    def _perform(self, method: str, name: str, act: Callable[[], T]) -> T:
        fault = self._next_fault(method, name)
        if fault is None:
            return act()
        self._strike_before(fault, name)
        try:
            return act()
        finally:  # an answer that is an error (no such object) can be lost as well
            if fault.kind is not FaultKind.SLOW:
                self._strike_after(fault, name)

    def _next_fault(self, method: str, name: str) -> Fault | None:
        with self._lock:
            if self.is_dead:
                raise SimulatedKill(f"{method} {name!r} after the process was killed")
            number = len(self.calls)
            self.calls.append((method, name))
            # Every fault counts the call, also behind the one that hits.
            hits = [fault for fault in self.plan if fault.meets(number, method, name)]
        fault = hits[0] if hits else None
        if fault is not None and _ONLY_FOR.get(fault.kind, method) != method:
            raise AssertionError(f"planned {fault.kind.name} at call {number}, which is a {method}")
        return fault

    def _strike_before(self, fault: Fault, name: str) -> None:
        if fault.kind in _BEFORE:
            raise fault.error or _error_of(fault.kind, name)
        if fault.kind is FaultKind.SLOW and self._sleep is not None:
            self._sleep(fault.delay_s)
        if fault.kind is FaultKind.KILL_BEFORE:
            self._die(name)
        if fault.kind is FaultKind.SIGKILL_BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)

    def _strike_after(self, fault: Fault, name: str) -> None:
        if fault.kind is FaultKind.FAIL_AFTER:
            raise fault.error or _error_of(fault.kind, name)
        if fault.kind is FaultKind.SIGKILL_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)
        self._die(name)

    def _die(self, name: str) -> None:
        with self._lock:
            self.is_dead = True
        raise SimulatedKill(f"planned at {name!r}")

    def _broken_off(self, infos: Sequence[ObjectInfo], fault: Fault, prefix: str) -> Iterator[ObjectInfo]:
        yield from infos[: len(infos) // 2]
        self._strike_after(fault, prefix)

    def _stale(self, listing: Iterator[ObjectInfo], newest: int, prefix: str) -> list[ObjectInfo]:
        shown = {info.name: info for info in listing}
        with self._lock:
            unseen = self._changes[max(0, len(self._changes) - newest) :]
        for name, before in reversed(unseen):
            if before is None:
                shown.pop(name, None)
            elif name.startswith(prefix):
                shown[name] = before
        return [shown[name] for name in sorted(shown)]


def _error_of(kind: FaultKind, name: str) -> Exception:
    if kind is FaultKind.FULL:
        return BackendFullError(f"object {name!r}: cannot be stored: planned fault", name=name)
    if kind is FaultKind.SHORT_READ:
        return ShortReadError(f"object {name!r}: cut off: planned fault", name=name)
    return BackendUnavailableError(f"object {name!r}: no answer: planned fault", name=name)
