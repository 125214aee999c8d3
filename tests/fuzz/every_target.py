"""All parsers that are fuzzed, by name."""

from __future__ import annotations

from tests.fuzz import targets, targets_postgres, targets_wal
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {**targets.TARGETS, **targets_postgres.TARGETS, **targets_wal.TARGETS}
