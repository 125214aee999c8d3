"""Check and verify of saved WAL: damage and gaps are named, with the snapshots that they cost."""

from __future__ import annotations

import threading

import pytest

from coffer.errors import InterruptedRunError
from coffer.postgres.facts import ClusterFacts, Method
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_object import FRAME_BYTES, history_object_name, range_name
from coffer.verification import check, verify
from coffer.verification.findings import FindingLog
from coffer.verification.wal import WalExamination
from tests.harness.repositories import commit_snapshot
from tests.harness.wal_files import MIB, SOURCE, SYSTEM_ID, SavedWal, history_file


@pytest.fixture
def saved():
    """An empty archive."""
    return SavedWal()


def facts(start, end, timeline=1, start_timeline=None, **changes):
    """What a snapshot says of a cluster's backup."""
    given = {
        "system_id": SYSTEM_ID,
        "version": 180006,
        "method": Method.FULL,
        "timeline": timeline,
        "start": Lsn(start),
        "end": Lsn(end),
        "start_timeline": start_timeline or timeline,
        "segment_bytes": MIB,
    }
    return ClusterFacts(**(given | changes)).to_snapshot()


def back_up(saved, *arguments, source=SOURCE, **more):
    """Commit a snapshot of a cluster; its manifest is nowhere, which is not what is tested here."""
    return commit_snapshot(saved.repo, saved.clock, source, facts=facts(*arguments, **more))


def findings(saved, work=check):
    """(severity, code, object, snapshots) of what is found of WAL."""
    found = work(saved.repo).findings
    return [
        (finding.severity.value, finding.code, finding.object, list(finding.snapshots))
        for finding in found
        if finding.object.startswith(("wal/", "snapshots/"))
    ]


def gap(saved, start, end, timeline=1):
    """The name of what is missing."""
    return range_name(saved.archive.tag, timeline, Lsn(start), Lsn(end))


@pytest.mark.parametrize("work", [check, verify])
def test_sound_wal_has_no_finding(saved, work):
    """Ranges that overlap, a history, a backup that has all that it needs; nothing is a stray."""
    saved.put(0, 2 * FRAME_BYTES)
    saved.put(FRAME_BYTES, 3 * FRAME_BYTES)
    saved.put(3 * FRAME_BYTES, 3 * FRAME_BYTES + 1)
    saved.put(0, 5, archive=saved.fresh("without a snapshot"))
    saved.archive.put_history(2, history_file((1, 3 * FRAME_BYTES)), system_id=SYSTEM_ID)
    back_up(saved, 100, 3 * FRAME_BYTES)
    assert [] == findings(saved, work)
    assert 4 == work(saved.repo).counts["wal_ranges"]


def test_only_verify_reads_the_bytes(saved):
    """A flipped bit in the log is seen by it alone; one in the head by both."""
    first, second = saved.put(0, 2 * FRAME_BYTES), saved.put(2 * FRAME_BYTES, 3 * FRAME_BYTES)
    saved.store.flip_bit(first.name, -1)
    assert [] == findings(saved)
    assert [("error", "object-corrupt", first.name, [])] == findings(saved, verify)
    saved.store.flip_bit(second.name, 100)
    assert [("error", "object-corrupt", second.name, [])] == findings(saved)
    assert 2 == len(findings(saved, verify))
    counts = verify(saved.repo).counts
    assert first.size_bytes + second.size_bytes == counts["wal_read_bytes"]
    assert "wal_read_bytes" not in check(saved.repo).counts


@pytest.mark.parametrize(
    ("ranges", "missing"),
    [
        ([(0, 500), (600, 1000)], [(500, 600)]),
        ([(200, 1000)], [(100, 200)]),
        ([(0, 900)], [(900, 1000)]),
        ([(200, 300), (400, 900)], [(100, 200), (300, 400), (900, 1000)]),
        ([], [(100, 1000)]),
    ],
)
def test_a_gap_that_a_backup_needs_is_an_error_that_names_it(saved, ranges, missing):
    """Between its start and its end; also where nothing at all is saved."""
    for start, end in ranges:
        saved.put(start, end)
    backup = back_up(saved, 100, 1000)
    assert [("error", "pg-wal-gap", gap(saved, *span), [backup.id]) for span in missing] == findings(saved)
    start, end = (Lsn(at) for at in missing[0])
    report = check(saved.repo)
    message = next(finding.message for finding in report.findings if finding.object == gap(saved, start, end))
    assert f"source {SOURCE}: WAL {start}..{end} of timeline 1 is not saved, and snapshot {backup.id}" in message
    assert not report.ok


def test_a_damaged_range_that_a_backup_needs_is_one_error(saved):
    """Of the object, with the snapshot; not of a gap as well. Where others hold its bytes no snapshot needs it."""
    bad = saved.put(0, 2 * FRAME_BYTES)
    backup = back_up(saved, 100, 1000)
    saved.store.flip_bit(bad.name, 90)
    assert [("error", "object-corrupt", bad.name, [backup.id])] == findings(saved)
    saved.put(0, FRAME_BYTES)
    assert [("error", "object-corrupt", bad.name, [])] == findings(saved)


def test_a_gap_behind_the_oldest_backup_is_a_hint(saved):
    """No moment inside it can be restored; before the oldest backup nothing is missed."""
    for start, end in ((0, 50), (80, 1000), (1100, 1200), (1300, 1400)):
        saved.put(start, end)
    back_up(saved, 100, 1000)
    back_up(saved, 1110, 1190)
    hints = [("hint", "pg-wal-gap", gap(saved, *span), []) for span in ((1000, 1100), (1200, 1300))]
    assert hints == findings(saved)


def test_a_source_without_backups_has_no_gaps(saved):
    """Nothing can be restored from its WAL, so none is missed."""
    saved.put(0, 50)
    saved.put(80, 100)
    assert [] == findings(saved)


def test_a_backup_over_a_promotion_needs_the_history_and_both_timelines(saved):
    """As one of a standby that was promoted meanwhile."""
    saved.put(0, 500, 1)
    saved.put(500, 1000, 2)
    backup = back_up(saved, 100, 900, 2, 1)
    name = history_object_name(saved.archive.tag, 2)
    assert [("error", "pg-wal-gap", name, [backup.id])] == findings(saved)
    saved.archive.put_history(2, history_file((1, 500)), system_id=SYSTEM_ID)
    assert [] == findings(saved)
    saved.store.delete(saved.archive.ranges(1)[0].name)
    assert [("error", "pg-wal-gap", gap(saved, 100, 500), [backup.id])] == findings(saved)


def test_the_unsaved_end_of_a_timeline_that_was_left_is_a_gap(saved):
    """The history says that more was written than is saved."""
    saved.put(0, 400, 1)
    saved.put(500, 1000, 2)
    saved.archive.put_history(2, history_file((1, 500)), system_id=SYSTEM_ID)
    back_up(saved, 100, 300)
    assert [("hint", "pg-wal-gap", gap(saved, 400, 500), [])] == findings(saved)


def test_another_branch_of_history_is_no_gap(saved):
    """A timeline that came from elsewhere does not lead on from the backup."""
    saved.put(0, 400, 1)
    saved.put(500, 1000, 3)
    saved.archive.put_history(3, history_file((2, 450)), system_id=SYSTEM_ID)
    back_up(saved, 100, 300)
    assert [] == findings(saved)


def test_a_damaged_history_is_an_error(saved):
    """Of its object; a backup that needs it is named by the same one."""
    saved.put(0, 500, 1)
    saved.put(500, 1000, 2)
    saved.archive.put_history(2, history_file((1, 500)), system_id=SYSTEM_ID)
    backup = back_up(saved, 100, 900, 2, 1)
    name = history_object_name(saved.archive.tag, 2)
    saved.store.flip_bit(name, -1)
    assert [("error", "object-corrupt", name, [backup.id])] == findings(saved)


def test_a_history_that_does_not_lead_to_the_backup_is_an_error_of_the_snapshot(saved):
    """It does not name the timeline on which the backup began."""
    saved.put(0, 1000, 3)
    saved.archive.put_history(3, history_file((2, 450)), system_id=SYSTEM_ID)
    backup = back_up(saved, 100, 900, 3, 1)
    assert [("error", "source-format", backup.name)] == [found[:3] for found in findings(saved)]


def test_wal_of_another_cluster_than_the_backups_is_damage(saved):
    """Under the right name, with true seals, and useless."""
    saved.put(0, 1000)
    backup = back_up(saved, 100, 900, system_id=5)
    assert [("error", "object-corrupt", saved.archive.ranges()[0].name, [backup.id])] == findings(saved)


def test_facts_that_mean_nothing_are_damage_of_the_snapshot(saved):
    """They were signed, so a writer was wrong; other sources are still looked at."""
    broken = facts(100, 900) | {"end_lsn": "nowhere"}
    snapshot = commit_snapshot(saved.repo, saved.clock, SOURCE, facts=broken)
    assert ("error", "object-corrupt", snapshot.name) in [found[:3] for found in findings(saved)]


def test_overlaps_that_differ_are_found_by_verify(saved):
    """Whichever two of several; each range is held against the one before it that reaches furthest."""
    saved.put(0, 3 * FRAME_BYTES)
    saved.put(100, 200)
    false = saved.put(300, 400, data=b"x" * 100)
    saved.put(500, 600)
    assert [] == findings(saved)
    assert [("error", "pg-wal-conflict", false.name, [])] == findings(saved, verify)


def test_swapped_ranges_are_errors_of_both(saved):
    """Each opens, and says that it belongs elsewhere."""
    first, second = saved.put(0, 1000), saved.put(1000, 2000)
    contents = saved.store.get(first.name), saved.store.get(second.name)
    saved.store.replace(first.name, contents[1])
    saved.store.replace(second.name, contents[0])
    assert [("error", "object-corrupt", ref.name, []) for ref in (first, second)] == findings(saved)


def test_names_that_no_range_has_are_strays(saved):
    """Below wal/, of a wrong form, or with an end before the start."""
    backwards = f"wal/{saved.archive.tag}/00000001-0000000000000009-0000000000000001"
    saved.store.put(f"wal/{saved.archive.tag}/notes", [b"x"])
    saved.store.put("wal/notes", [b"x"])
    saved.store.put(backwards, [b"x"])
    names = [name for _, code, name, _ in findings(saved) if code == "stray-object"]
    assert sorted([f"wal/{saved.archive.tag}/notes", "wal/notes", backwards]) == sorted(names)


@pytest.mark.parametrize("work", [check, verify])
def test_a_stop_ends_it(saved, work):
    """Between two objects."""
    for start in range(0, 1000, 100):
        saved.put(start, start + 100)
    notes = FindingLog()
    left = [3]

    def tick():
        left[0] -= 1
        if left[0] < 0:
            raise InterruptedRunError("stopped")

    examination = WalExamination(saved.repo, notes, tick, workers=2 if work is verify else 0)
    objects = {info.name: info.size_bytes for info in saved.store.list("wal/")}
    with pytest.raises(InterruptedRunError):
        examination.examine(objects, {})
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        work(saved.repo, stop=stop)
