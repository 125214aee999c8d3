"""The harness itself: a fault that does not happen would make a vacuous test."""

from __future__ import annotations

import os
import signal

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.errors import (
    BackendAccessError,
    BackendFullError,
    BackendUnavailableError,
    ObjectNotFoundError,
    ShortReadError,
)
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend, SimulatedKill
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.programs import run_program


def _run(store):
    """Seven calls that use every method."""
    store.put("packs/1", [b"one"])
    store.put("packs/2", [b"two"])
    store.get("packs/1")
    store.stat("packs/2")
    list(store.list("packs/"))
    store.delete("packs/1")
    store.put("snapshots/1", [b"x"])


def _names(store):
    return [info.name for info in store.list()]


def test_calls_are_counted_in_order():
    """A run without faults tells how many calls there are to let fail."""
    counting = FaultyBackend(MemoryBackend())

    _run(counting)

    assert 7 == counting.call_count
    assert [("put", "packs/1"), ("put", "packs/2"), ("get", "packs/1")] == counting.calls[:3]
    counting.assert_all_used()


@pytest.mark.parametrize("call", range(7))
@pytest.mark.parametrize(
    "kind", [FaultKind.FAIL_BEFORE, FaultKind.FAIL_AFTER, FaultKind.KILL_BEFORE, FaultKind.KILL_AFTER]
)
def test_the_call_of_that_number_is_hit_and_no_other(call, kind):
    """Calls before it have their effect; the call itself has it only if the fault comes after."""
    inner, reference = MemoryBackend(), MemoryBackend()
    steps = [
        lambda store: store.put("packs/1", [b"one"]),
        lambda store: store.put("packs/2", [b"two"]),
        lambda store: store.get("packs/1"),
        lambda store: store.stat("packs/2"),
        lambda store: list(store.list("packs/")),
        lambda store: store.delete("packs/1"),
        lambda store: store.put("snapshots/1", [b"x"]),
    ]
    is_kill = kind in (FaultKind.KILL_BEFORE, FaultKind.KILL_AFTER)

    with (
        FaultyBackend(inner, [Fault(kind, call=call)]) as store,
        pytest.raises(SimulatedKill if is_kill else BackendUnavailableError),
    ):
        _run(store)

    for step in steps[: call + (kind in (FaultKind.FAIL_AFTER, FaultKind.KILL_AFTER))]:
        step(reference)
    assert _names(reference) == _names(inner)


def test_a_fault_may_be_chosen_by_method_prefix_and_turn():
    """The second put below packs/, and the one after it."""
    inner = MemoryBackend()
    store = FaultyBackend(inner, [Fault(FaultKind.FAIL_BEFORE, method="put", prefix="packs/", nth=1, times=2)])

    store.put("packs/1", [])
    store.put("index/1", [])
    for _ in range(2):
        with pytest.raises(BackendUnavailableError):
            store.put("packs/2", [])
    store.put("packs/2", [])

    store.assert_all_used()
    assert ["index/1", "packs/1", "packs/2"] == _names(inner)


def test_an_unused_fault_fails_the_test():
    """Also one of which only some of its times happened; the count of calls is told."""
    store = FaultyBackend(MemoryBackend(), [Fault(FaultKind.FAIL_BEFORE, method="stat", times=2)])
    with pytest.raises(AssertionError, match="not used in 0 calls"):
        store.assert_all_used()
    with pytest.raises(BackendUnavailableError):
        store.stat("a")
    with pytest.raises(AssertionError, match="not used in 1 calls"):
        store.assert_all_used()
    with (
        pytest.raises(AssertionError, match="not used"),
        FaultyBackend(MemoryBackend(), [Fault(FaultKind.SLOW, call=3)]),
    ):
        pass


def test_a_failing_test_is_not_hidden_by_its_unused_faults():
    """Leaving the context by an error raises that error."""
    with pytest.raises(ZeroDivisionError), FaultyBackend(MemoryBackend(), [Fault(FaultKind.SLOW, call=3)]):
        raise ZeroDivisionError


def test_a_dead_process_does_nothing_more():
    """After a kill every call dies, so that a `finally` cannot tidy up what a real kill would leave."""
    inner = MemoryBackend()
    store = FaultyBackend(inner, [Fault(FaultKind.KILL_AFTER, method="put")])

    def run():
        try:
            store.put("leases/1", [b"x"])
        except Exception:  # noqa: BLE001 - what a careless program would write: it must not catch a kill
            pytest.fail("a kill was caught as an error")
        finally:
            store.delete("leases/1")

    with pytest.raises(SimulatedKill):
        run()

    assert store.is_dead
    assert ["leases/1"] == _names(inner)
    assert 1 == store.call_count
    for call in (lambda: store.get("a"), lambda: store.stat("a"), store.list):
        with pytest.raises(SimulatedKill, match="after the process was killed"):
            call()


def test_a_full_store_and_a_short_read_have_their_errors():
    """Neither has an effect, and both may carry an error of the test's own."""
    inner = MemoryBackend()
    inner.put("a/1", [b"data"])
    plan = [
        Fault(FaultKind.FULL),
        Fault(FaultKind.SHORT_READ),
        Fault(FaultKind.FAIL_BEFORE, method="stat", error=BackendAccessError("mine")),
    ]
    with FaultyBackend(inner, plan) as store:
        with pytest.raises(BackendFullError):
            store.put("a/2", [])
        with pytest.raises(ShortReadError):
            store.get("a/1")
        with pytest.raises(BackendAccessError, match="mine"):
            store.stat("a/1")
    assert ["a/1"] == _names(inner)


def test_a_stale_list_shows_the_state_before_the_last_changes():
    """Objects put last are missing, objects deleted last are shown, within the prefix."""
    inner = MemoryBackend()
    with FaultyBackend(inner, [Fault(FaultKind.STALE_LIST, nth=1, times=2, newest=3)]) as store:
        for name in ("a/1", "a/2"):
            store.put(name, [b"x"])
        store.delete("a/none")
        assert ["a/1", "a/2"] == _names(store)
        store.put("a/3", [])
        store.put("b/1", [])
        store.delete("a/1")

        assert ["a/1", "a/2"] == _names(store)
        assert [] == [info.name for info in store.list("b/")]
        assert ["a/2", "a/3", "b/1"] == _names(store)


def test_a_broken_listing_yields_its_first_half():
    """So that what was yielded and what was not are both there to be tested."""
    inner = MemoryBackend()
    for number in range(5):
        inner.put(f"a/{number}", [])
    listing = FaultyBackend(inner, [Fault(FaultKind.FAIL_AFTER, method="list")]).list("a/")

    assert ["a/0", "a/1"] == [next(listing).name, next(listing).name]
    with pytest.raises(BackendUnavailableError):
        next(listing)


def test_a_slow_call_works():
    """The delay goes to the sleep that was given, and the call has its result."""
    delays = []
    inner = MemoryBackend()
    inner.put("a/1", [b"x"])
    plan = [Fault(FaultKind.SLOW, method="get", delay_s=30), Fault(FaultKind.SLOW, method="list", delay_s=5)]
    with FaultyBackend(inner, plan, sleep=delays.append) as store:
        assert b"x" == store.get("a/1")
        assert ["a/1"] == _names(store)

    assert [30, 5] == delays


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kind": FaultKind.FULL, "method": "get"}, "for put only"),
        ({"kind": FaultKind.STALE_LIST, "method": "put"}, "for list only"),
        ({"kind": FaultKind.KILL_AFTER}, "at which call"),
    ],
)
def test_a_fault_that_no_call_can_meet_is_refused(arguments, says):
    """It would be unused for ever."""
    with pytest.raises(ValueError, match=says):
        Fault(**arguments)


def test_a_fault_of_the_wrong_kind_at_a_numbered_call_is_refused():
    """A full store at a read says nothing."""
    store = FaultyBackend(MemoryBackend(), [Fault(FaultKind.FULL, call=0)])

    with pytest.raises(AssertionError, match="FULL at call 0, which is a get"):
        store.get("a/1")


@pytest.mark.parametrize("kind", ["SIGKILL_BEFORE", "SIGKILL_AFTER"])
def test_a_real_kill_ends_the_process(tmp_path, kind):
    """The variant for subprocesses: nothing runs after it, and the effect is there or not as planned."""
    program = f"""
import sys
from coffer.backends import open_backend
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
store = FaultyBackend(open_backend(sys.argv[1], create=True), [Fault(FaultKind.{kind}, method="put", nth=1)])
try:
    store.put("a/1", [b"x"])
    store.put("a/2", [b"x"])
finally:
    print("alive")
"""
    done = run_program(program, str(tmp_path))

    assert (-signal.SIGKILL, "") == (done.returncode, done.stdout)
    assert (["1"] if kind == "SIGKILL_BEFORE" else ["1", "2"]) == sorted(os.listdir(tmp_path / "a"))


class TestTamperableMemoryBackend:
    def test_harm_is_done_and_can_be_undone(self):
        """A flipped bit changes one byte, flipping it again mends it; the time of the put stays."""
        store = TamperableMemoryBackend()
        store.put("a/1", [b"data"])
        before = store.stat("a/1")

        store.flip_bit("a/1", -1, bit=1)
        assert b"datc" == store.get("a/1")
        store.flip_bit("a/1", 3, bit=1)

        assert b"data" == store.get("a/1")
        assert before == store.stat("a/1")

    def test_truncation_must_take_something_away(self):
        """A cut at or behind the end would harm nothing and prove nothing."""
        store = TamperableMemoryBackend()
        store.put("a/1", [b"data"])

        store.truncate("a/1", 1)

        assert b"d" == store.get("a/1")
        with pytest.raises(AssertionError, match="harms nothing"):
            store.truncate("a/1", 1)

    def test_a_clone_lives_its_own_life(self):
        """Harm to one is not seen in the other; age and contents are told."""
        store = TamperableMemoryBackend()
        store.put("a/1", [b"data"])
        clone = store.clone()
        modified_ns = store.stat("a/1").modified_ns

        clone.replace("a/1", b"other")
        clone.age("a/1", 5)
        clone.put("a/2", [b""])
        store.delete("a/1")

        assert {"a/1": b"other", "a/2": b""} == clone.contents()
        assert modified_ns - 5 == clone.stat("a/1").modified_ns
        with pytest.raises(ObjectNotFoundError):
            store.get("a/1")
