"""What an examination of a repository found, gathered in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from coffer.errors import (
    BackendAccessError,
    CofferError,
    CryptoError,
    ObjectNameInvalidError,
    ObjectNotFoundError,
    RepositoryError,
    ShortReadError,
)

MAX_FINDINGS_KEPT = 1000  # of each severity; beyond this many only the count goes on
MAX_PATHS_KEPT = 10  # per finding: enough to know what it is about

# What is wrong with one object and says nothing of the next. Whatever else a store raises ends the examination.
DAMAGE = (
    RepositoryError,
    CryptoError,
    ObjectNotFoundError,
    ShortReadError,
    ObjectNameInvalidError,
    BackendAccessError,
)


class Severity(Enum):
    """How bad it is."""

    ERROR = "error"  # something is damaged, missing or forged
    HINT = "hint"  # untidy, or worth knowing; nothing is lost


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        severity: How bad it is.
        code: As the error's where there is one; else "stray-object", "orphan-pack", "stale-lease", "chain-gap",
            "chain-fork" (hints) or "index-incomplete".
        object: The object concerned; a chunk's id [64 hex digits] where no object is known for it.
        message: Object, cause, value; for people.
        snapshots: Ids of the snapshots that need it, oldest first.
        paths: The first few paths in them that need it, as in the snapshot, without leading slash.
        further: For each path, how many entries behind it need it too and cannot be named, since it holds their names;
            empty where there are none.
    """

    severity: Severity
    code: str
    object: str
    message: str
    snapshots: tuple[str, ...] = ()
    paths: tuple[bytes, ...] = ()
    further: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        findings: Errors first, each severity sorted by object; the first thousand of each.
        counts: What was looked at (objects, packs, segments, chunks, snapshots, blocks, entries, files), and "errors"
            and "hints", which count on where findings are no longer kept.
    """

    findings: tuple[Finding, ...]
    counts: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged, missing or forged."""
        return not self.counts["errors"]


@dataclass(frozen=True, slots=True)
class VerifyReport(CheckReport):
    """What a verification found; `counts` also has "read_bytes", and "chunks_proved": opened, with the right id."""


@dataclass(slots=True)
class _Open:
    """A finding that may still learn whom it concerns."""

    severity: Severity
    code: str
    message: str
    if_needed: bool
    snapshots: dict[str, None] = field(default_factory=dict)  # a set in the order of insertion
    paths: dict[bytes, int] = field(default_factory=dict)  # with the number of entries behind it that have no name


class FindingLog:
    """Collects findings: one per object, the first thing that was found wrong with it. Not thread-safe."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._kept = dict.fromkeys(Severity, 0)
        self._more = dict.fromkeys(Severity, 0)

    def error(self, object_: str, code: str, message: str, *, if_needed: bool = False) -> None:
        """Record damage.

        Args:
            object_: The object; a second error of it is passed over.
            code: See `Finding`.
            message: For people.
            if_needed: It is but a hint unless some snapshot is affected in the end.
        """
        known = self._open.get(object_)
        if known is not None and known.severity is Severity.HINT:
            del self._open[object_]
            self._kept[Severity.HINT] -= 1
        self._add(object_, _Open(Severity.ERROR, code, message, if_needed))

    def hint(self, object_: str, code: str, message: str) -> None:
        """Record what is untidy; passed over where something is known of the object already."""
        self._add(object_, _Open(Severity.HINT, code, message, if_needed=False))

    def damage(self, object_: str, error: CofferError) -> None:
        """Record an error that reading an object raised."""
        self.error(object_, error.code, error.message)

    def affect(self, object_: str, snapshot_id: str, path: bytes | None = None, further: int = 0) -> None:
        """Note that a snapshot, and a path in it, needs an object with a finding; `further` as in `Finding`."""
        known = self._open.get(object_)
        if known is None:
            return
        known.snapshots[snapshot_id] = None
        if path is not None and len(known.paths) < MAX_PATHS_KEPT:
            known.paths[path] = max(further, known.paths.get(path, 0))

    def __contains__(self, object_: str) -> bool:
        return object_ in self._open

    def _add(self, object_: str, found: _Open) -> None:
        if object_ in self._open:
            return
        if self._kept[found.severity] >= MAX_FINDINGS_KEPT:
            self._more[found.severity] += 1
            return
        self._kept[found.severity] += 1
        self._open[object_] = found

    def close(self) -> tuple[tuple[Finding, ...], dict[str, int]]:
        """Return (the findings in order, how many there were as "errors" and "hints")."""
        findings = []
        for name, found in self._open.items():
            severity = found.severity
            if found.if_needed and not found.snapshots:
                severity = Severity.HINT
            further = tuple(found.paths.values()) if any(found.paths.values()) else ()
            snapshots, paths = tuple(found.snapshots), tuple(found.paths)
            findings.append(Finding(severity, found.code, name, found.message, snapshots, paths, further))
        findings.sort(key=lambda finding: (finding.severity is Severity.HINT, finding.object))
        errors = sum(finding.severity is Severity.ERROR for finding in findings)
        return tuple(findings), {
            "errors": errors + self._more[Severity.ERROR],
            "hints": len(findings) - errors + self._more[Severity.HINT],
        }


def object_of(error: CofferError, otherwise: str) -> str:
    """Return the object that an error names, or `otherwise` where it names none."""
    return str(error.details.get("object") or error.details.get("name") or otherwise)
