"""Several writers on one store, one call at a time, in an order that a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from coffer.backends.base import Backend, Buffer, ObjectInfo
from coffer.backends.wrapper import BackendWrapper

T = TypeVar("T")

_PATIENCE_S = 60.0  # a writer that never comes to its turn is a test that hangs: fail instead


class Turns:
    """Whose call is next.

    Args:
        order: Number of a writer for each call; after the last, and for the calls of writers that have ended, whoever
            comes first goes on.
    """

    def __init__(self, order: Sequence[int]) -> None:
        self._order = list(order)
        self._at = 0
        self._ended: set[int] = set()
        self._condition = threading.Condition()
        self._busy = False
        self.taken: list[int] = []

    def take(self, writer: int, act: Callable[[], T]) -> T:
        """Do one call when it is this writer's turn."""
        with self._condition:
            if not self._condition.wait_for(lambda: not self._busy and self._may(writer), _PATIENCE_S):
                raise AssertionError(f"writer {writer} never had its turn; so far {self.taken}")
            self._busy = True
            self.taken.append(writer)
            if self._at < len(self._order):
                self._at += 1
        try:
            return act()
        finally:
            with self._condition:
                self._busy = False
                self._condition.notify_all()

    def end(self, writer: int) -> None:
        """Say that a writer makes no more calls."""
        with self._condition:
            self._ended.add(writer)
            self._condition.notify_all()

    def _may(self, writer: int) -> bool:
        while self._at < len(self._order) and self._order[self._at] in self._ended:
            self._at += 1
        return self._at >= len(self._order) or self._order[self._at] == writer


class TurnBackend(BackendWrapper):
    """One writer's view of the store: each call waits for its turn."""

    def __init__(self, inner: Backend, turns: Turns, writer: int) -> None:
        super().__init__(inner)
        self._turns = turns
        self._writer = writer

    def put(self, name: str, parts: Sequence[Buffer]) -> None:
        self._turns.take(self._writer, lambda: self._inner.put(name, parts))

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._turns.take(self._writer, lambda: self._inner.get(name, offset, length))

    def stat(self, name: str) -> ObjectInfo:
        return self._turns.take(self._writer, lambda: self._inner.stat(name))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        # One call, one moment: what is listed is what was there then.
        return iter(self._turns.take(self._writer, lambda: list(self._inner.list(prefix))))

    def delete(self, name: str) -> None:
        self._turns.take(self._writer, lambda: self._inner.delete(name))


def run_in_turns(backend: Backend, order: Sequence[int], writers: Sequence[Callable[[Backend], Any]]) -> list[Any]:
    """Run writers on threads, their calls in the given order; return what each returned or raised."""
    turns = Turns(order)
    outcomes: list[Any] = [None] * len(writers)

    def run(number: int) -> None:
        try:
            outcomes[number] = writers[number](TurnBackend(backend, turns, number))
        except BaseException as error:  # noqa: BLE001 - it is what the test looks at
            outcomes[number] = error
        finally:
            turns.end(number)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(writers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE_S)
        assert not thread.is_alive(), "a writer hangs"
    return outcomes
