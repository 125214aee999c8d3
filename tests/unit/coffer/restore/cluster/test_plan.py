"""Which snapshot, how much WAL, and what the server is told: over many snapshots and ranges made by hand."""

from __future__ import annotations

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.errors import ObjectCorruptError, SnapshotNotFoundError, UsageError
from coffer.errors_postgres import RestorePointError
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_archive import WalArchive
from coffer.restore.cluster.plan import plan_cluster_restore
from coffer.restore.cluster.points import restore_points
from coffer.restore.cluster.target import parse_target
from tests.harness.clusters import data_files, facts_at, keep_snapshot, save_wal
from tests.harness.manual_clock import EPOCH_NS, ManualClock
from tests.harness.repositories import commit_snapshot, make_repository
from tests.harness.wal_maker import PAGE, SEGMENT, SYSTEM_ID, WalMaker

EPOCH_US = EPOCH_NS // 1000
MINUTE_US = 60_000_000


class Course:
    """A cluster's life: WAL with a commit each second, and snapshots taken now and then.

    Transaction n commits n seconds after the epoch; its number is 1000 + n.
    """

    def __init__(self):
        self.clock = ManualClock()
        self.repo = make_repository(MemoryBackend(), self.clock)
        self.wal = WalMaker()
        self.commits = {}
        self.points = {}
        self.seconds = 0

    def work(self, seconds, size=400):
        """Let the cluster work."""
        for _ in range(seconds):
            self.seconds += 1
            for _ in range(3):
                self.wal.filler(size)
            self.commits[self.seconds] = self.wal.commit(1000 + self.seconds, EPOCH_US + self.seconds * 1_000_000)
        self.clock.set_wall(EPOCH_NS + self.seconds * 1_000_000_000 + 500_000_000)

    def mark(self, name):
        """Make a restore point."""
        self.points[name] = self.wal.restore_point(name, EPOCH_US + self.seconds * 1_000_000 + 100_000)

    def back_up(self, seconds=5, **changes):
        """Take a snapshot that lasts some seconds."""
        start = self.wal.filler(30).start
        self.work(seconds)
        end = self.wal.filler(30).end
        facts = facts_at(start, end, **changes)
        files = data_files(facts)
        return keep_snapshot(self.repo, files, facts), facts

    def save(self, start=None, end=None):
        """Save WAL, all of it where nothing is said."""
        save_wal(self.repo, self.wal, start, end)

    def plan(self, text, **given):
        """Plan a restore."""
        snapshot = given.pop("snapshot", None)
        return plan_cluster_restore(self.repo, "main", parse_target(text, **given), snapshot=snapshot)


@pytest.fixture(scope="module")
def course():
    """Three snapshots, restore points between them, and all WAL saved; nothing changes it."""
    made = Course()
    made.work(20)
    made.first = made.back_up()
    made.mark("one")
    made.work(60)
    made.second = made.back_up()
    made.mark("two")
    made.work(60)
    made.third = made.back_up()
    made.work(30)
    made.mark("three")
    made.work(10)
    made.save()
    return made


def told(plan):
    """What the server is told."""
    stop = plan.stop
    return stop.setting, stop.value, stop.inclusive, stop.timeline


def second_text(second, fraction="500000"):
    """A time target between two transactions."""
    return f"time:2026-11-01T00:{second // 60:02d}:{second % 60:02d}.{fraction}Z"


# ------------------------------------------------------------------------------------------------ what is chosen


def test_latest_is_the_last_whole_record_of_the_newest_snapshots_wal(course):
    """PostgreSQL would not open at the very end: it is told the last record's beginning, and to replay it."""
    plan = course.plan("latest")
    last = max(course.commits.values(), key=lambda span: span.start)
    assert course.third[0].id == plan.snapshot.id
    assert ("recovery_target_lsn", str(last.start), True, 1) == told(plan)
    assert last.end == plan.stop.wal_end == course.wal.end


@pytest.mark.parametrize("cut", [8, 30, PAGE, 20_000])
def test_latest_takes_no_part_of_a_record(cut):
    """A range may end inside a record: the one before it is the last."""
    made = Course()
    made.work(5)
    made.back_up()
    made.work(40)
    long = made.wal.filler(30_000)
    before = [span for span in made.commits.values() if span.end <= long.start][-1]
    made.save(end=long.end - cut)
    plan = made.plan("latest")
    assert (str(before.start), before.end) == (plan.stop.value, plan.stop.wal_end)


def test_the_zeros_behind_the_last_record_need_not_be_saved():
    """They are no part of it: it is whole, and no byte is asked for that there is not."""
    made = Course()
    made.work(5)
    made.back_up()
    last = made.wal.filler(31)
    assert last.end - last.start > 24 + 2 + 31
    made.save(end=last.end - 1)
    plan = made.plan("latest")
    assert (str(last.start), last.end - 1) == (plan.stop.value, plan.stop.wal_end)
    assert made.wal.data[:-1] == b"".join(plan.path.read(plan.path.begin, plan.stop.wal_end))


def test_immediate_is_the_end_of_the_backup_itself(course):
    """It needs no WAL behind the snapshot's end: the server is told the last record before it, and to replay that."""
    plan = course.plan("immediate")
    last = plan.path.last_record(course.third[1].end)
    assert ("recovery_target_lsn", str(last.start), True, 1) == told(plan)
    assert course.third[1].end == last.end == plan.stop.wal_end
    assert course.third[1].end <= plan.path.record_at(last.start + 1).start
    chosen = course.plan("immediate", snapshot=course.first[0].id)
    assert (course.first[0].id, course.first[1].end) == (chosen.snapshot.id, chosen.stop.wal_end)


@pytest.mark.parametrize("second", [27, 55, 85, 92, 120, 151, 158, 190])
def test_a_time_is_reached_from_the_newest_snapshot_that_was_finished_before(course, second):
    """The WAL goes up to the first transaction after it: at that the server stops."""
    plan = course.plan(second_text(second))
    taken = [course.first, course.second, course.third]
    expected = [snapshot for snapshot, _ in taken if snapshot.finished_ns <= EPOCH_NS + second * 10**9 + 500_000_000][
        -1
    ]
    assert expected.id == plan.snapshot.id
    assert course.commits[second + 1].end == plan.stop.wal_end
    assert ("recovery_target_time", True) == (plan.stop.setting, plan.stop.inclusive)
    assert plan.stop.value.startswith("2026-11-01 00:0")
    assert plan.stop.value.endswith("+00:00")


def test_a_time_of_a_transaction_is_with_it_or_before_it(course):
    """PostgreSQL's recovery_target_inclusive: it stops before the first that is later, or before this one."""
    with_it, before_it = second_text(100, "000000"), second_text(100, "000000")
    assert course.commits[101].end == course.plan(with_it).stop.wal_end
    assert course.commits[100].end == course.plan(before_it, inclusive=False).stop.wal_end


def test_an_lsn_is_reached_from_the_newest_snapshot_that_ends_before_it(course):
    """As PostgreSQL does it: the record at the LSN or the first behind it, replayed too or not."""
    for second, (snapshot, _) in ((40, course.first), (100, course.second), (180, course.third)):
        span = course.commits[second]
        plan = course.plan(f"lsn:{span.start}")
        assert (snapshot.id, span.end) == (plan.snapshot.id, plan.stop.wal_end)
        assert ("recovery_target_lsn", str(span.start), True, 1) == told(plan)
        before = course.plan(f"lsn:{span.end}", inclusive=False)
        assert ("recovery_target_lsn", str(span.end), False, 1) == told(before)
        assert before.stop.wal_end > span.end


def test_the_lsn_at_the_end_of_the_wal_is_the_last_record_with_all_before_it(course):
    """No record begins there, so the server would not open: it is told the last one instead."""
    for inclusive in (True, False):
        plan = course.plan(f"lsn:{course.wal.end}", inclusive=inclusive)
        assert course.plan("latest").stop.value == plan.stop.value
        assert plan.stop.inclusive


def test_the_end_of_a_snapshot_is_an_lsn_that_it_reaches(course):
    """The snapshot's end is the first moment that it can be restored to."""
    snapshot, facts = course.second
    assert snapshot.id == course.plan(f"lsn:{facts.end}").snapshot.id


@pytest.mark.parametrize(("name", "which"), [("one", "first"), ("two", "second"), ("three", "third")])
def test_a_name_is_looked_for_from_the_newest_snapshot_back(course, name, which):
    """The newest snapshot that is followed by this restore point is taken."""
    plan = course.plan(f"name:{name}")
    assert getattr(course, which)[0].id == plan.snapshot.id
    assert ("recovery_target_name", name, True, 1) == told(plan)
    assert course.points[name].end == plan.stop.wal_end


def test_a_transaction_is_looked_for_from_the_newest_snapshot_back(course):
    """The newest snapshot that it ended after is taken."""
    for second, (snapshot, _) in ((40, course.first), (120, course.second), (180, course.third)):
        plan = course.plan(f"xid:{1000 + second}", inclusive=False)
        assert (snapshot.id, course.commits[second].end) == (plan.snapshot.id, plan.stop.wal_end)
        assert ("recovery_target_xid", str(1000 + second), False, 1) == told(plan)


def test_a_snapshot_that_is_named_is_taken_although_there_is_a_newer_one(course):
    """As for a moment that the newer one would reach too."""
    plan = course.plan("latest", snapshot=course.first[0].id)
    assert course.first[0].id == plan.snapshot.id
    assert course.plan("latest").stop.value == plan.stop.value
    assert any("as asked for" in note for note in plan.notes)


# ------------------------------------------------------------------------------------------------ what is refused


def refusal(course, text, **given):
    """Return the error that a target ends with."""
    with pytest.raises(RestorePointError) as caught:
        course.plan(text, **given)
    return caught.value


@pytest.mark.parametrize("target", [second_text(3), "lsn:0/100100"])
def test_a_moment_before_the_first_snapshot_is_refused_with_the_bounds(course, target):
    """The message has both bounds, the hint the nearest moment that there is."""
    error = refusal(course, target)
    assert "no snapshot ended before it" in error.message
    assert f"restorable is {course.first[1].end} (2026-11-01 00:00:25" in error.message
    assert f"to {course.wal.end} on timeline 1" in error.message
    assert course.first[0].id in error.hint
    assert "immediate" == error.details["nearest"]


@pytest.mark.parametrize("target", [second_text(400), "lsn:0/7000000"])
def test_a_moment_behind_the_saved_wal_is_refused_with_the_nearest(course, target):
    """A server with a target that its WAL does not reach would not open; so it is said before anything is written."""
    error = refusal(course, target)
    assert str(course.wal.end) in error.message
    assert "latest" == error.details["nearest"]
    assert f"latest ({course.wal.end})" in error.hint


def test_the_last_transaction_that_was_saved_is_named_where_a_time_lies_behind_it(course):
    """Whether there were transactions until that time, nobody knows: it is not taken for granted."""
    error = refusal(course, second_text(400))
    assert "the last that was saved ended at 2026-11-01 00:03:15.000000 UTC" in error.message


@pytest.mark.parametrize("target", ["name:four", "xid:99999"])
def test_what_is_in_no_wal_is_refused(course, target):
    """A name that was never given, a transaction that never ended."""
    assert "follows snapshot" in refusal(course, target).message


def test_a_moment_inside_a_backup_is_refused_for_its_snapshot_and_restored_from_the_one_before(course):
    """Before its end a snapshot is not consistent."""
    facts = course.second[1]
    inside = Lsn(facts.end - 200)
    assert "before the end of snapshot" in refusal(course, f"lsn:{inside}", snapshot=course.second[0].id).message
    assert course.first[0].id == course.plan(f"lsn:{inside}").snapshot.id
    error = refusal(course, f"xid:{1000 + 87}", snapshot=course.second[0].id)
    assert "before the end of snapshot" in error.message


def test_a_gap_is_named_and_nothing_is_restored_over_it():
    """Latest behind a gap would lose data in silence; each moment before the gap can be restored."""
    made = Course()
    made.work(5)
    made.back_up()
    made.work(600)
    gap = SEGMENT + 40 * PAGE + 24, SEGMENT + 50 * PAGE
    assert gap[1] < made.wal.end
    made.save(end=gap[0])
    made.save(start=gap[1])
    for target in ("latest", f"lsn:{Lsn(gap[1] + 100)}", "xid:1604"):
        error = refusal(made, target)
        assert f"WAL {Lsn(gap[0])}..{Lsn(gap[1])} of timeline 1 is missing" in error.message
        assert f"lsn:{Lsn(gap[0])}" == error.details["nearest"]
    nearest = made.plan(f"lsn:{Lsn(gap[0])}")
    assert nearest.stop.wal_end <= gap[0]
    assert made.plan("xid:1020").stop.wal_end == made.commits[20].end


def test_a_newer_snapshot_heals_a_gap():
    """What follows it needs nothing of what was lost before."""
    made = Course()
    made.work(5)
    made.back_up()
    made.work(100)
    lost = made.wal.end
    while made.wal.end < 3 * SEGMENT:
        made.work(20)
    snapshot, facts = made.back_up()
    made.work(10)
    made.save(end=lost)
    made.save(start=facts.start.segment_start(SEGMENT))
    assert snapshot.id == made.plan("latest").snapshot.id
    assert "missing" in refusal(made, second_text(120)).message


def test_a_snapshot_without_its_own_wal_is_passed_over_and_that_is_said():
    """It cannot become consistent; the one before it can."""
    made = Course()
    made.work(5)
    first, _ = made.back_up()
    made.work(10)
    end = made.wal.end
    made.save()
    broken, _ = made.back_up()
    plan = made.plan("latest")
    assert (first.id, end) == (plan.snapshot.id, plan.stop.wal_end)
    assert any(broken.id in note and "its own WAL is not whole" in note for note in plan.notes)
    assert "needs WAL up to" in refusal(made, "latest", snapshot=broken.id).message


def test_other_sources_and_other_snapshots_are_told_apart(course):
    """A misspelt name, files, and a snapshot of another source."""
    with pytest.raises(SnapshotNotFoundError, match="nowhere") as caught:
        plan_cluster_restore(course.repo, "nowhere", parse_target("latest"))
    assert "main" in caught.value.hint
    made = Course()
    made.work(5)
    made.back_up()
    made.save()
    files = commit_snapshot(made.repo, made.clock, "files")
    with pytest.raises(UsageError, match="of no cluster"):
        plan_cluster_restore(made.repo, "files", parse_target("latest"))
    with pytest.raises(UsageError, match="not one of cluster"):
        made.plan("latest", snapshot=files.id)


def test_snapshots_of_a_cluster_that_had_this_name_before_do_not_count():
    """A server that was made anew under the same name: its WAL does not lead on from the old one's snapshots."""
    made = Course()
    made.work(5)
    made.back_up(system_id=42)
    made.work(5)
    snapshot, _ = made.back_up()
    made.work(5)
    made.save()
    plan = made.plan("latest")
    assert snapshot.id == plan.snapshot.id
    assert any("of another cluster" in note for note in plan.notes)
    assert [snapshot.id] == [point.snapshot.id for point in restore_points(made.repo, "main")]
    assert "no snapshot ended before it" in refusal(made, second_text(7)).message


def test_facts_that_mean_nothing_are_told():
    """A damaged snapshot is named, and not taken for something else."""
    made = Course()
    made.work(5)
    made.back_up()
    commit_snapshot(made.repo, made.clock, "main", facts={"kind": "postgres-cluster"})
    with pytest.raises(ObjectCorruptError, match="facts of the cluster"):
        made.plan("latest")


# ------------------------------------------------------------------------------------------------ timelines


@pytest.fixture(scope="module")
def promoted():
    """A standby was promoted in the middle of a segment; the old primary went on a little, on timeline 1."""
    made = Course()
    made.work(20)
    made.snapshot, made.facts = made.back_up()
    made.work(20)
    made.switch = made.wal.end
    branch = made.wal.end
    made.save(end=branch)
    made.old = WalMaker()
    made.old._data = bytearray(made.wal.data)
    for number in range(30):
        made.old_last = made.old.commit(5000 + number, EPOCH_US + 100_000_000 + number)
    save_wal(made.repo, made.old, branch)
    made.wal.timeline = 2
    made.work(40)
    save_wal(made.repo, made.wal, branch)
    archive = WalArchive(made.repo, "main")
    archive.put_history(2, f"1\t{branch}\tno recovery target specified\n".encode(), system_id=SYSTEM_ID)
    return made


def test_the_newest_timeline_is_followed(promoted):
    """As PostgreSQL's own default; another one is said to be there."""
    plan = promoted.plan("latest")
    assert (2, promoted.wal.end) == (plan.stop.timeline, plan.stop.wal_end)
    assert any("--timeline" in note and "1" in note for note in plan.notes)


def test_an_older_timeline_can_be_asked_for(promoted):
    """What the old primary wrote after the promotion is on its own timeline alone."""
    plan = promoted.plan("latest", timeline=1)
    assert (1, str(promoted.old_last.start)) == (plan.stop.timeline, plan.stop.value)
    assert promoted.old_last.end == promoted.plan("xid:5029", timeline=1).stop.wal_end
    assert "follows snapshot" in refusal(promoted, "xid:5029").message


def test_a_moment_before_the_promotion_is_of_the_old_timeline(promoted):
    """The target lies before the switch, so the recovery stays on the timeline where it lies."""
    plan = promoted.plan("xid:1030")
    assert 1 == plan.stop.timeline
    assert 2 == promoted.plan("xid:1060").stop.timeline


def test_a_timeline_that_does_not_lead_on_is_refused(promoted):
    """One that is not known, and one that left before the snapshot."""
    assert "timeline 9 is not known" in refusal(promoted, "latest", timeline=9).message
    made = Course()
    made.work(5)
    made.back_up()
    made.save()
    content = f"1\t{Lsn(SEGMENT + 48)}\tbefore it\n".encode()
    WalArchive(made.repo, "main").put_history(2, content, system_id=SYSTEM_ID)
    assert "no snapshot ended before it on timeline 2" in refusal(made, "latest", timeline=2).message
    assert 1 == made.plan("latest").stop.timeline


def test_bytes_before_a_switch_may_be_saved_as_of_the_new_timeline():
    """A slot on a promoted server keeps its first segment, which begins with a copy of the old timeline's bytes."""
    made = Course()
    made.work(10)
    switch = made.wal.end
    made.wal.timeline = 2
    made.work(5)
    snapshot, _ = made.back_up(timeline=2, start_timeline=2)
    made.work(5)
    made.save()
    content = f"1\t{switch}\tpromoted\n".encode()
    WalArchive(made.repo, "main").put_history(2, content, system_id=SYSTEM_ID)
    plan = made.plan("latest")
    assert (snapshot.id, 2, 2) == (plan.snapshot.id, plan.stop.timeline, plan.path.timeline)
    assert made.wal.data == b"".join(plan.path.read(plan.path.begin, plan.stop.wal_end))


# ------------------------------------------------------------------------------------------------ the list


def test_points_say_how_far_each_snapshot_leads(course):
    """Oldest first, each with the end of its WAL."""
    points = restore_points(course.repo, "main")
    assert [course.first[0].id, course.second[0].id, course.third[0].id] == [point.snapshot.id for point in points]
    assert [course.wal.end] * 3 == [point.path.reach.end for point in points]
    assert all(point.is_consistent for point in points)
