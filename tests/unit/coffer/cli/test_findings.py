"""What a check found: lines for people, fields for programs, and the exit code."""

from __future__ import annotations

from coffer.cli.findings import outcome_of
from coffer.verification import CheckReport, Finding, Severity

HINT = Finding(Severity.HINT, "stray-object", "x", "x: a stray\nobject")
ERROR = Finding(
    Severity.ERROR,
    "object-corrupt",
    "packs/ab",
    "packs/ab: damaged",
    tuple(f"{n:016x}" for n in range(7)),
    (b"srv/a", b"srv/\xff"),
)


def report(*findings):
    """A report with these findings."""
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    counts = {"objects": 1234, "size_bytes": 2048, "errors": errors, "hints": len(findings) - errors}
    return CheckReport(tuple(findings), counts)


def test_nothing_found_is_exit_code_0():
    """The summary says what was looked at, sizes in their unit."""
    outcome = outcome_of(report())
    assert (0, None) == (outcome.exit_code, outcome.fault)
    assert ["no error was found; looked at: 1,234 objects, 2.0 KiB size"] == outcome.lines


def test_hints_alone_are_no_error():
    """A wart is not damage."""
    outcome = outcome_of(report(HINT))
    assert (0, None) == (outcome.exit_code, outcome.fault)
    assert "hint: x: a stray\\nobject" == outcome.lines[0]
    assert outcome.lines[-1].startswith("no error was found, 1 hint;")


def test_an_error_names_the_snapshots_and_files_that_need_the_object():
    """The first five of each, escaped, and how many more."""
    outcome = outcome_of(report(ERROR, HINT))
    assert 1 == outcome.exit_code == outcome.fault.exit_code
    assert ("damage-found", "1 error found in the repository") == (outcome.fault.code, outcome.fault.message)
    assert outcome.lines[1].endswith("0000000000000004 and 2 more")
    assert "    files: /srv/a, /srv/\\xff" == outcome.lines[2]
    fields = outcome.result["findings"][0]
    assert [{"path": "srv/a"}, {"path": "srv/\\xff", "path_base64": "c3J2L/8="}] == fields["paths"]


def test_entries_that_cannot_be_named_are_counted_behind_the_first():
    """A damaged block of the manifest holds the names of what is lost with it."""
    lost = Finding(Severity.ERROR, "object-corrupt", "packs/ab", "damaged", (), (b"tmp", b"a", b"b"), (242, 0, 1))
    outcome = outcome_of(report(lost))
    assert "    files: /tmp and 242 entries behind it, /a, /b and 1 entry behind it" == outcome.lines[1]
    paths = outcome.result["findings"][0]["paths"]
    assert [{"path": "tmp", "entries_behind": 242}, {"path": "a"}, {"path": "b", "entries_behind": 1}] == paths
