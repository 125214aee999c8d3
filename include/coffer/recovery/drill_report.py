"""What a drill of a cluster takes, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coffer.clock import Clock
from coffer.errors import CofferError
from coffer.verification.findings import Severity

MAX_FINDINGS = 1000  # kept; the counts are exact
_MAX_MESSAGE = 600  # [characters]


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """How to drill.

    Attributes:
        scratch: A folder on a disk with room for the whole cluster; None: the system's temporary folder.
        workers: Threads that restore and read; 0 for one per core.
        read_pages: Compare the checksum of every page with its content.
        structure: Check tables and indexes with amcheck, where the programs have it.
        heapallindexed: Look every row up in every index too; takes about three times as long.
        budget_s: For the check of the structure [s]; what does not fit is counted. None: no limit.
        start_timeout_s: How long the recovery may take [s].
    """

    scratch: Path | None = None
    workers: int = 0
    read_pages: bool = True
    structure: bool = True
    heapallindexed: bool = False
    budget_s: float | None = None
    start_timeout_s: float = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class DrillFinding:
    """One thing that is not as it should be.

    Attributes:
        severity: ERROR: the restored cluster is not what it was. HINT: worth knowing.
        code: For programs. Of errors: "manifest", "file-missing", "file-differs", "page-checksum", "recovery",
            "database-unusable", "content-differs", "table-unreadable", "heap-damaged", "index-damaged", "no-proof", or
            the code of an error class. Of hints: "moment-passed", "collation", "no-proof", "no-manifest",
            "not-checked"; also "content-differs" where the moment is not certain.
        message: Object, cause, value; for people.
        database, table, file: What it concerns, as far as it does.
    """

    severity: Severity
    code: str
    message: str
    database: str = ""
    table: str = ""
    file: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the fields that mean something."""
        fields = {"severity": self.severity.value, "code": self.code, "message": self.message}
        named = {"database": self.database, "table": self.table, "file": self.file}
        return fields | {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class DrillStep:
    """One step that was done.

    Attributes:
        name: Of the step.
        duration_s: How long it took [s].
    """

    name: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What a drill found.

    Attributes:
        source: Name of the cluster.
        snapshot: Id of the snapshot that was restored.
        target: The moment that it was recovered to, in words.
        steps: In order.
        findings: Errors first; at most a thousand.
        counts: tables_compared, tables_sampled, tables_left_out, files_checked, pages_checked, tables_checked,
            indexes_checked, and "errors" and "hints", which go on where findings are no longer kept. Sizes [bytes]:
            size_bytes, wal_bytes.
    """

    source: str
    snapshot: str
    target: str
    steps: tuple[DrillStep, ...]
    findings: tuple[DrillFinding, ...]
    counts: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with the restored cluster."""
        return not self.counts["errors"]

    @property
    def verdict(self) -> str:
        """Return "proved", "sound" where nothing could be compared with the original, or "damaged"."""
        if not self.ok:
            return "damaged"
        return "proved" if self.counts["tables_compared"] + self.counts["tables_sampled"] else "sound"

    def to_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "verdict": self.verdict,
            "source": self.source,
            "snapshot": self.snapshot,
            "target": self.target,
            "steps": [{"name": step.name, "duration_s": round(step.duration_s, 3)} for step in self.steps],
            "counts": self.counts,
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(slots=True)
class DrillLog:
    """Collects what a drill finds and how long it takes, in bounded memory. For one thread."""

    clock: Clock
    steps: list[DrillStep] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("tables_compared", "tables_sampled", "tables_left_out", "files_checked", "errors", "hints"), 0
        )
    )
    kept: list[DrillFinding] = field(default_factory=list)

    def damage(self, code: str, message: str, **concerned: str) -> None:
        """Record damage."""
        self._add(Severity.ERROR, code, message, concerned)

    def hint(self, code: str, message: str, **concerned: str) -> None:
        """Record what is worth knowing."""
        self._add(Severity.HINT, code, message, concerned)

    def add(self, finding: DrillFinding) -> None:
        """Record a finding."""
        name = "errors" if finding.severity is Severity.ERROR else "hints"
        self.counts[name] += 1
        if len(self.kept) < MAX_FINDINGS:
            self.kept.append(finding)

    def count(self, name: str, number: int = 1) -> None:
        """Count something on."""
        self.counts[name] = self.counts.get(name, 0) + number

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step."""
        begin_s = self.clock.monotonic_s()
        try:
            yield
        finally:
            self.steps.append(DrillStep(name, self.clock.monotonic_s() - begin_s))

    def close(self, source: str, snapshot: str, target: str) -> DrillReport:
        """Return the report."""
        findings = sorted(self.kept, key=lambda finding: finding.severity is Severity.HINT)  # stable
        return DrillReport(source, snapshot, target, tuple(self.steps), tuple(findings), dict(self.counts))

    def _add(self, severity: Severity, code: str, message: str, concerned: dict[str, str]) -> None:
        self.add(DrillFinding(severity, code, message[:_MAX_MESSAGE], **concerned))


def words_of(error: Exception) -> str:
    """Return an error in one line, for a finding."""
    text = error.message if isinstance(error, CofferError) else str(error)
    return " ".join(text.split())[:_MAX_MESSAGE] or type(error).__name__
