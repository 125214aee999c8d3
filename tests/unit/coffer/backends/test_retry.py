"""The retry wrapper: how often, how long, and what a lost reply means."""

from __future__ import annotations

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.backends.retry import RetryBackend, RetryPolicy, _uniform
from coffer.errors import (
    BackendAccessError,
    BackendFullError,
    BackendUnavailableError,
    ObjectExistsError,
    ObjectNotFoundError,
    ShortReadError,
)
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
from tests.harness.manual_clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def memory():
    return MemoryBackend()


@pytest.fixture
def build(memory, clock):
    """Build a retry wrapper around a memory store with planned faults."""

    def build(*plan, policy=None, uniform=lambda: 0.5):
        faulty = FaultyBackend(memory, plan)
        chosen = RetryPolicy() if policy is None else policy
        return RetryBackend(faulty, chosen, clock=clock, sleep=clock.sleep, uniform=uniform), faulty

    return build


def _down(method, times=1, **more):
    return Fault(FaultKind.FAIL_BEFORE, method=method, times=times, **more)


class TestTrying:
    @pytest.mark.parametrize("method", ["put", "get", "stat", "list", "delete"])
    def test_every_method_is_tried_again_until_it_answers(self, build, memory, method):
        """Two failures in a row are passed over; the result is that of the third try."""
        memory.put("a/1", [b"data"])
        store, faulty = build(_down(method, times=2))
        calls = {
            "put": lambda: store.put("a/2", [b"more"]),
            "get": lambda: store.get("a/1", 1, 2),
            "stat": lambda: store.stat("a/1").size_bytes,
            "list": lambda: [info.name for info in store.list("a/")],
            "delete": lambda: store.delete("a/1"),
        }

        result = calls[method]()

        faulty.assert_all_used()
        assert [method] * 3 == [called for called, _ in faulty.calls]
        expected = {"put": None, "get": b"at", "stat": 4, "list": ["a/1"], "delete": None}
        assert expected[method] == result
        assert {"put": ["a/1", "a/2"], "delete": []}.get(method, ["a/1"]) == [info.name for info in memory.list()]

    @pytest.mark.parametrize(
        "error",
        [BackendFullError("full"), BackendAccessError("refused"), ObjectNotFoundError("no"), ShortReadError("short")],
        ids=lambda error: type(error).__name__,
    )
    def test_no_other_error_is_tried_again(self, build, clock, error):
        """A full store and every permanent error reach the caller at once, as they are."""
        store, faulty = build(_down("get", error=error))

        with pytest.raises(type(error)) as caught:
            store.get("a/1")

        assert error is caught.value
        assert 1 == faulty.call_count
        assert [] == clock.slept_s

    def test_after_the_last_try_its_error_is_raised(self, build, clock):
        """Six calls, five pauses, then the store's own error with the number of tries in its details."""
        store, faulty = build(_down("stat", times=6))

        with pytest.raises(BackendUnavailableError, match="no answer") as caught:
            store.stat("a/1")

        faulty.assert_all_used()
        assert 6 == faulty.call_count
        assert 6 == caught.value.details["attempts"]
        assert 5 == len(clock.slept_s)

    def test_pauses_double_up_to_their_cap_and_are_drawn_from_all_of_it(self, build, clock):
        """The pause is the drawn share of base * 2^n, of at most the cap."""
        draws = iter([1.0, 0.5, 0.0, 1.0, 0.25])
        policy = RetryPolicy(attempts=6, base_s=1, cap_s=6, deadline_s=100)
        store, _ = build(_down("stat", times=6), policy=policy, uniform=lambda: next(draws))

        with pytest.raises(BackendUnavailableError):
            store.stat("a/1")

        assert [1 * 1.0, 2 * 0.5, 4 * 0.0, 6 * 1.0, 6 * 0.25] == clock.slept_s

    def test_a_thousand_tries_do_not_overflow(self):
        """However many tries, the pause stays at its cap."""
        assert 20.0 == RetryPolicy(attempts=10_000).longest_pause_s(9_999)

    def test_no_try_begins_after_the_deadline(self, build, clock):
        """Time that the tries themselves took counts too."""
        policy = RetryPolicy(attempts=100, base_s=8, cap_s=8, deadline_s=10)
        slow = Fault(FaultKind.FAIL_BEFORE, method="stat", times=3)
        store, faulty = build(slow, policy=policy)

        with pytest.raises(BackendUnavailableError) as caught:
            store.stat("a/1")

        assert [4.0, 4.0] == clock.slept_s
        assert 3 == faulty.call_count == caught.value.details["attempts"]

    def test_one_attempt_means_no_retry(self, build, clock):
        """With `attempts=1` the wrapper changes nothing."""
        store, _ = build(_down("get"), policy=RetryPolicy(attempts=1))

        with pytest.raises(BackendUnavailableError):
            store.get("a/1")

        assert [] == clock.slept_s

    @pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base_s": -1}, {"cap_s": -1}, {"deadline_s": -1}])
    def test_a_policy_that_makes_no_sense_is_refused(self, wrong):
        """It is a mistake of the program."""
        with pytest.raises(ValueError, match="makes no sense"):
            RetryPolicy(**wrong)

    def test_the_default_draw_lies_in_the_unit_interval(self):
        """1000 draws are all in [0, 1), and on both sides of the middle."""
        draws = [_uniform() for _ in range(1000)]

        assert 0 <= min(draws) < 0.5 <= max(draws) < 1


class TestLostReplies:
    def test_a_put_whose_reply_was_lost_succeeds(self, build, memory):
        """The first try stored the object; the second finds its own bytes there."""
        store, faulty = build(Fault(FaultKind.FAIL_AFTER, method="put"))

        store.put("packs/ab/1", [b"one", b"", memoryview(b"two")])

        faulty.assert_all_used()
        assert b"onetwo" == memory.get("packs/ab/1")
        assert ["put", "put", "stat", "get", "get"] == [method for method, _ in faulty.calls]

    def test_an_empty_object_is_compared_by_its_size_alone(self, build):
        """No bytes are read where there are none."""
        store, faulty = build(Fault(FaultKind.FAIL_AFTER, method="put"))

        store.put("packs/ab/1", [b""])

        assert ["put", "put", "stat"] == [method for method, _ in faulty.calls]

    @pytest.mark.parametrize("theirs", [b"other!", b"others"], ids=["same size", "other size"])
    def test_another_writers_object_is_not_taken_for_ours(self, build, memory, theirs):
        """The first try was lost before it took effect, and another writer was quicker: the put fails."""
        memory.put("snapshots/1", [theirs])
        store, faulty = build(_down("put"))

        with pytest.raises(ObjectExistsError):
            store.put("snapshots/1", [b"mine", b"!!" if theirs == b"other!" else b"!"])

        faulty.assert_all_used()
        assert theirs == memory.get("snapshots/1")

    def test_equal_bytes_do_not_help_a_first_try(self, build, memory):
        """Where no reply was lost, a taken name is a lost race: a commit must have one winner."""
        memory.put("snapshots/1", [b"same"])
        store, faulty = build()

        with pytest.raises(ObjectExistsError):
            store.put("snapshots/1", [b"same"])

        assert ["put"] == [method for method, _ in faulty.calls]

    def test_a_loss_in_one_put_does_not_excuse_the_next(self, build):
        """What was lost is remembered for that very put, and not for the name."""
        store, _ = build(Fault(FaultKind.FAIL_AFTER, method="put"))
        store.put("snapshots/1", [b"same"])

        with pytest.raises(ObjectExistsError):
            store.put("snapshots/1", [b"same"])

    def test_the_comparison_is_tried_again_as_well(self, build):
        """A store that is still shaky when the bytes are compared does not turn a success into a failure."""
        store, faulty = build(Fault(FaultKind.FAIL_AFTER, method="put"), _down("stat"), _down("get", times=2))

        store.put("packs/ab/1", [b"data"])

        faulty.assert_all_used()

    def test_an_object_deleted_during_the_comparison_is_not_ours(self, build):
        """Then nothing is stored, and the put must not say that it is."""
        store, _ = build(
            Fault(FaultKind.FAIL_AFTER, method="put"),
            Fault(FaultKind.FAIL_BEFORE, method="get", error=ObjectNotFoundError("deleted")),
        )

        with pytest.raises(ObjectExistsError):
            store.put("packs/ab/1", [b"data"])

    def test_large_objects_are_compared_in_ranges(self, build):
        """20 MiB in one part are compared 8 MiB at a time, and found equal."""
        store, faulty = build(Fault(FaultKind.FAIL_AFTER, method="put"))

        store.put("packs/ab/1", [bytes(20 << 20), b"end"])

        assert 4 == [method for method, _ in faulty.calls].count("get")

    def test_a_delete_whose_reply_was_lost_succeeds(self, build, memory):
        """Deleting again is no error."""
        memory.put("a/1", [b"x"])
        store, faulty = build(Fault(FaultKind.FAIL_AFTER, method="delete"))

        store.delete("a/1")

        faulty.assert_all_used()
        assert [] == list(memory.list())


class TestListings:
    NAMES = ["a/0", "a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "a/7"]  # noqa: RUF012 - read only

    def test_a_listing_that_breaks_off_goes_on_where_it_was(self, build, memory):
        """Every name comes once and in order, though the store broke off twice in the middle."""
        for name in self.NAMES:
            memory.put(name, [b"x"])
        store, faulty = build(Fault(FaultKind.FAIL_AFTER, method="list", times=2))

        assert self.NAMES == [info.name for info in store.list("a/")]
        faulty.assert_all_used()
        assert 3 == faulty.call_count

    def test_a_listing_that_gets_nowhere_fails(self, build, memory):
        """Six breaks at the same place are the store's failure; what was listed before has been yielded."""
        for name in self.NAMES:
            memory.put(name, [b"x"])
        store, faulty = build(Fault(FaultKind.FAIL_AFTER, method="list", times=6))
        listing = store.list("a/")

        assert self.NAMES[:4] == [next(listing).name for _ in range(4)]
        with pytest.raises(BackendUnavailableError):
            next(listing)

        faulty.assert_all_used()

    def test_progress_gives_new_patience(self, clock):
        """A store that breaks off after each single name is listed to its end with two tries a name."""

        class Brittle(MemoryBackend):
            listings = 0

            def list(self, prefix=""):
                self.listings += 1
                names = list(super().list(prefix))
                yield from names[: self.listings]
                if self.listings <= len(names):
                    raise BackendUnavailableError("planned")

        inner = Brittle()
        for name in self.NAMES:
            inner.put(name, [b"x"])
        store = RetryBackend(inner, RetryPolicy(attempts=2), clock=clock, sleep=clock.sleep)

        assert self.NAMES == [info.name for info in store.list("a/")]
        assert len(self.NAMES) == len(clock.slept_s)
