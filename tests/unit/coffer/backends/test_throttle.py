"""The throttle: what passes in a second, and how evenly."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from coffer.backends.local import LocalBackend
from coffer.backends.memory import MemoryBackend
from coffer.backends.metering import MeteringBackend
from coffer.backends.throttle import SLICE_BYTES, ThrottledBackend, TokenBucket
from tests.harness.manual_clock import ManualClock

MB = 1_000_000


@pytest.fixture
def clock():
    return ManualClock()


class TestTokenBucket:
    def test_the_burst_passes_at_once_and_the_rest_at_the_rate(self, clock):
        """Of 5 MB at 1 MB/s with a burst of 2 MB, two come at once and three take a second each."""
        bucket = TokenBucket(MB, 2 * MB, clock=clock, sleep=clock.sleep)

        for _ in range(5):
            bucket.take(MB)

        assert [1.0, 1.0, 1.0] == clock.slept_s

    def test_a_rest_earns_no_more_than_the_burst(self, clock):
        """After an hour of silence the burst passes at once, and not an hour's worth."""
        bucket = TokenBucket(MB, 2 * MB, clock=clock, sleep=clock.sleep)
        bucket.take(2 * MB)
        clock.advance(3600)

        bucket.take(2 * MB)
        assert [] == clock.slept_s
        bucket.take(MB)
        assert [1.0] == clock.slept_s

    def test_more_than_the_burst_is_served(self, clock):
        """64 MB through a bucket of 1 MB take as long as the rate says, in one sleep."""
        bucket = TokenBucket(MB, MB, clock=clock, sleep=clock.sleep)

        bucket.take(64 * MB)

        assert [63.0] == clock.slept_s

    def test_without_a_burst_everything_takes_its_time(self, clock):
        """A burst of nought is allowed."""
        bucket = TokenBucket(MB, 0, clock=clock, sleep=clock.sleep)

        bucket.take(MB // 2)

        assert [0.5] == clock.slept_s

    def test_the_default_burst_is_a_quarter_second(self, clock):
        """At 4 MB/s one MB passes at once."""
        bucket = TokenBucket(4 * MB, clock=clock, sleep=clock.sleep)

        bucket.take(MB)
        assert [] == clock.slept_s
        bucket.take(4 * MB)
        assert [1.0] == clock.slept_s

    @pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, -1)])
    def test_a_bucket_that_passes_nothing_is_refused(self, rate, burst):
        """A rate of nought would sleep for ever."""
        with pytest.raises(ValueError, match="rate above nought"):
            TokenBucket(rate, burst)

    def test_takers_at_the_same_moment_queue_up(self, clock):
        """Threads that come together are each given the next stretch: the sum holds to the rate."""
        waits = []
        bucket = TokenBucket(MB, 0, clock=clock, sleep=waits.append)
        threads = [threading.Thread(target=bucket.take, args=(MB,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0] == sorted(waits)


class TestThrottledBackend:
    def test_a_put_is_paced_slice_by_slice_while_it_is_written(self, clock, tmp_path):
        """64 MiB at 1 MiB/s onto a disk: 64 sleeps of a second, and the file grows meanwhile, not at the end."""
        inner = LocalBackend(tmp_path, create=True)
        sizes = []

        def sleep(seconds):
            clock.sleep(seconds)
            sizes.extend(path.stat().st_size for path in (tmp_path / ".tmp").iterdir())

        bucket = TokenBucket(1 << 20, 0, clock=clock, sleep=sleep)
        store = ThrottledBackend(inner, write=bucket)

        store.put("packs/ab/1", [bytes(40 << 20), bytes(24 << 20)])

        assert [1.0] * 64 == clock.slept_s
        assert sorted(sizes) == sizes
        assert max(later - earlier for earlier, later in pairwise(sizes)) <= 1 << 20
        assert 64 << 20 == store.stat("packs/ab/1").size_bytes
        store.close()

    @pytest.mark.parametrize(
        ("offset", "length", "expected_s"), [(0, None, 3.0), (0, 1 << 20, 1.0), (1 << 20, None, 2.0), (0, 0, None)]
    )
    def test_reads_take_what_they_bring(self, clock, offset, length, expected_s):
        """A read waits for its own length, told beforehand or found out."""
        inner = MemoryBackend()
        inner.put("packs/ab/1", [bytes(3 << 20)])
        bucket = TokenBucket(1 << 20, 0, clock=clock, sleep=clock.sleep)

        ThrottledBackend(inner, read=bucket).get("packs/ab/1", offset, length)

        assert ([] if expected_s is None else [expected_s]) == clock.slept_s

    def test_a_side_without_a_bucket_is_free(self, clock):
        """A limit on writes does not hold up reads, and the reverse; listings and look-ups are free."""
        inner = MemoryBackend()
        bucket = TokenBucket(1, 0, clock=clock, sleep=clock.sleep)
        ThrottledBackend(inner, read=bucket).put("a/1", [b"data"])
        writer = ThrottledBackend(inner, write=bucket)

        assert b"data" == writer.get("a/1")
        assert ["a/1"] == [info.name for info in writer.list()]
        writer.stat("a/1")
        writer.delete("a/1")
        assert [] == clock.slept_s

    def test_two_stores_may_share_a_limit(self, clock):
        """Two locations on one disk together hold to its rate."""
        bucket = TokenBucket(MB, 0, clock=clock, sleep=clock.sleep)
        first, second = (ThrottledBackend(MemoryBackend(), write=bucket, read=bucket) for _ in range(2))

        first.put("a/1", [bytes(MB // 2)])
        second.put("a/1", [bytes(MB // 2)])
        first.get("a/1")

        assert 1.5 == sum(clock.slept_s)

    def test_counting_paced_bytes_does_not_wait_for_them(self, clock):
        """A meter below the throttle learns the length without a second wait."""
        meter = MeteringBackend(MemoryBackend())
        bucket = TokenBucket(MB, 0, clock=clock, sleep=clock.sleep)

        ThrottledBackend(meter, write=bucket).put("a/1", [bytes(MB), bytes(MB)])

        assert 2.0 == pytest.approx(sum(clock.slept_s))
        assert 2 * MB == meter.total("put", "bytes")

    def test_paced_parts_are_a_sequence(self, clock):
        """A store may take parts by number, from the end, or several at once; each is waited for as it is taken."""
        bucket = TokenBucket(1 << 20, 0, clock=clock, sleep=clock.sleep)
        seen = {}

        class Looking(MemoryBackend):
            def put(self, name, parts):
                seen["length"] = len(parts)
                seen["last"] = bytes(parts[-1])
                seen["slept"] = list(clock.slept_s)
                seen["two"] = [len(part) for part in parts[0:2]]

        ThrottledBackend(Looking(), write=bucket).put("a/1", [bytes(SLICE_BYTES + 5), b"", b"tail"])

        assert {"length": 3, "last": b"tail", "slept": [4 / (1 << 20)], "two": [SLICE_BYTES, 5]} == seen
