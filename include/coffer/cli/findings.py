"""How what a check found is shown, and what it means for the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coffer.cli.faults import EXIT_FAILED, EXIT_OK, Fault
from coffer.cli.outcome import Outcome
from coffer.cli.text import count_of, escape, path_fields, path_text
from coffer.units import human_size
from coffer.verification import CheckReport, Finding

_SHOWN = 5  # snapshots and paths of one finding, on a line


def outcome_of(report: CheckReport) -> Outcome:
    """Return the outcome of a check: hints alone are no error, any error makes it fail."""
    errors, hints = report.counts["errors"], report.counts["hints"]
    lines = [line for finding in report.findings for line in _lines(finding)]
    verdict = f"{count_of(errors, 'error')} found" if errors else "no error was found"
    verdict += f", {count_of(hints, 'hint')}" if hints else ""
    looked_at = [_count(name, value) for name, value in report.counts.items() if name not in ("errors", "hints")]
    lines.append(f"{verdict}; looked at: {', '.join(looked_at)}")
    fault = None
    if not report.ok:
        fault = Fault(
            "damage-found",
            f"{count_of(errors, 'error')} found in the repository",
            "Keep the repository as it is. Restore what is whole, and compare with another copy.",
        )
    return Outcome(
        result={"findings": [_fields(finding) for finding in report.findings], "counts": report.counts},
        lines=lines,
        exit_code=EXIT_OK if report.ok else EXIT_FAILED,
        fault=fault,
    )


def _count(name: str, value: int) -> str:
    is_size = name.endswith("_bytes")
    return f"{human_size(value)} {name.removesuffix('_bytes')}" if is_size else f"{value:,} {name.replace('_', ' ')}"


def _fields(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "code": finding.code,
        "object": escape(finding.object),
        "message": escape(finding.message),
        "snapshots": list(finding.snapshots),
        "paths": [
            path_fields(path) | ({"entries_behind": further} if further else {})
            for path, further in zip(finding.paths, finding.further or (0,) * len(finding.paths), strict=True)
        ],
    }


def _lines(finding: Finding) -> list[str]:
    lines = [f"{finding.severity.value}: {escape(finding.message)}"]
    if finding.snapshots:
        lines.append(f"    snapshots: {_first(finding.snapshots)}")
    if finding.paths:
        places = [f"/{path_text(path)}" for path in finding.paths]
        for at, further in enumerate(finding.further):
            if further:
                places[at] += f" and {count_of(further, 'entry', 'entries')} behind it"
        lines.append(f"    files: {_first(places)}")
    return lines


def _first(items: Sequence[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
