"""Findings are gathered once per object, in order, and in bounded memory."""

import pickle

import pytest

from coffer.errors import ObjectCorruptError, ShortReadError
from coffer.verification.findings import (
    MAX_FINDINGS_KEPT,
    MAX_PATHS_KEPT,
    CheckReport,
    Finding,
    FindingLog,
    Severity,
    VerifyReport,
    object_of,
)


def close(notes):
    """The findings as (severity, code, object), and the counts."""
    findings, counts = notes.close()
    return [(found.severity.value, found.code, found.object) for found in findings], counts


def test_errors_come_first_and_each_severity_is_sorted_by_object():
    """The worst is read first; two runs over the same damage print the same."""
    notes = FindingLog()
    notes.hint("a", "stray-object", "...")
    notes.error("z", "object-corrupt", "...")
    notes.error("b", "chunk-missing", "...")
    expected = [("error", "chunk-missing", "b"), ("error", "object-corrupt", "z"), ("hint", "stray-object", "a")]
    assert (expected, {"errors": 2, "hints": 1}) == close(notes)


def test_an_object_has_one_finding_the_first():
    """One flipped bit shows in several ways; the first tells of it."""
    notes = FindingLog()
    notes.damage("packs/a", ObjectCorruptError("packs/a: first"))
    notes.damage("packs/a", ShortReadError("packs/a: second"))
    notes.hint("packs/a", "orphan-pack", "third")
    (found,), _ = notes.close()
    assert (ObjectCorruptError.code, "packs/a: first") == (found.code, found.message)
    assert "packs/a" in notes
    assert "packs/b" not in notes


def test_an_error_takes_the_place_of_a_hint():
    """What first looked untidy may turn out to be damage."""
    notes = FindingLog()
    notes.hint("packs/a", "orphan-pack", "untidy")
    notes.error("packs/a", "object-corrupt", "damaged")
    assert ([("error", "object-corrupt", "packs/a")], {"errors": 1, "hints": 0}) == close(notes)


def test_whom_it_concerns_is_told_once_each_in_the_order_of_finding():
    """Snapshots all, paths the first few."""
    notes = FindingLog()
    notes.error("packs/a", "object-corrupt", "...")
    for snapshot in ("2", "1", "2"):
        notes.affect("packs/a", snapshot, b"path")
    for number in range(2 * MAX_PATHS_KEPT):
        notes.affect("packs/a", "1", b"%02d" % number)
    notes.affect("packs/unknown", "1", b"path")
    (found,), _ = notes.close()
    assert ("2", "1") == found.snapshots
    assert (b"path", *(b"%02d" % number for number in range(MAX_PATHS_KEPT - 1))) == found.paths


@pytest.mark.parametrize(("needed", "severity"), [(True, Severity.ERROR), (False, Severity.HINT)])
def test_what_nobody_needs_is_a_hint_where_the_need_decides(needed, severity):
    """A missing pack of which every chunk lies elsewhere too is no loss."""
    notes = FindingLog()
    notes.error("packs/a", "object-not-found", "missing", if_needed=True)
    if needed:
        notes.affect("packs/a", "1")
    (found,), counts = notes.close()
    assert severity is found.severity
    assert (needed, not needed) == (counts["errors"] == 1, counts["hints"] == 1)


def test_findings_are_bounded_and_counted_on():
    """A thousand of each severity are kept; hints push out no error."""
    notes = FindingLog()
    for number in range(MAX_FINDINGS_KEPT + 7):
        notes.hint(f"hint-{number}", "stray-object", "...")
    for number in range(MAX_FINDINGS_KEPT + 3):
        notes.error(f"error-{number}", "object-corrupt", "...")
    findings, counts = notes.close()
    assert 2 * MAX_FINDINGS_KEPT == len(findings)
    assert {"errors": MAX_FINDINGS_KEPT + 3, "hints": MAX_FINDINGS_KEPT + 7} == counts


@pytest.mark.parametrize("kind", [CheckReport, VerifyReport])
def test_a_report_is_all_right_without_errors(kind):
    """Hints alone do not fail a check; reports travel between processes."""
    hint = Finding(Severity.HINT, "stray-object", "a", "...")
    report = kind((hint,), {"errors": 0, "hints": 1})
    assert report.ok
    assert report == pickle.loads(pickle.dumps(report))
    assert not kind((), {"errors": 1, "hints": 0}).ok


@pytest.mark.parametrize(
    ("details", "expected"),
    [({"object": "a"}, "a"), ({"name": "b"}, "b"), ({}, "otherwise"), ({"object": ""}, "otherwise")],
)
def test_the_object_of_an_error_is_what_it_names(details, expected):
    """Stores and the repository name it by different words."""
    assert expected == object_of(ObjectCorruptError("...", **details), "otherwise")
