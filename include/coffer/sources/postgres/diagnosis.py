"""What a check of a server says: well, take care, or no backup this way; and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How a check ended, from good to bad."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"

    @property
    def weight(self) -> int:
        """Grows with how bad it is."""
        return ("ok", "warn", "fail").index(self.value)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What one check says.

    Attributes:
        check: Its name, such as ``wal_level``.
        verdict: How it ended.
        found: What is there, with its value.
        hint: What to do; empty where all is well.
    """

    check: str
    verdict: Verdict
    found: str
    hint: str = ""


def well(check: str, found: str) -> Diagnosis:
    """Return that all is well."""
    return Diagnosis(check, Verdict.OK, found)


def care(check: str, found: str, hint: str) -> Diagnosis:
    """Return that a backup works, and what would go wrong one day."""
    return Diagnosis(check, Verdict.WARN, found, hint)


def bad(check: str, found: str, hint: str) -> Diagnosis:
    """Return that a backup does not work, or not in the way that was asked for."""
    return Diagnosis(check, Verdict.FAIL, found, hint)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the server is to be fit for.

    Attributes:
        slot: The replication slot.
        method: ``delta``, ``native`` or ``wal``.
        dbnames: Databases that must exist.
        proves: Whether tables are read for the proof.
    """

    slot: str
    method: str = "delta"
    dbnames: tuple[str, ...] = ()
    proves: bool = True
