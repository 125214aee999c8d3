"""What every command that backs something up does alike: what the policy says of its work, and what it warns of."""

from __future__ import annotations

from typing import Any

from coffer.cli.run import Run
from coffer.compression import LEVEL_OFF
from coffer.sources.assembly.result import BackupResult


def tuned_by_policy(run: Run) -> dict[str, Any]:
    """Return level, workers and size of packs as the policy has them; nothing where no policy was asked."""
    if run.policy is None:
        return {}
    performance = run.policy.performance
    return {
        "level": performance.compression_level or LEVEL_OFF,
        "workers": performance.max_workers,
        "pack_size_bytes": performance.pack_size_bytes,
    }


def warn_of(run: Run, result: BackupResult) -> None:
    """Tell what could not be saved as it should be, and what is wrong with the repository."""
    for warning in result.warnings:
        run.warn(warning.code, warning.message, warning.path.lstrip(b"/") or None)
    run.count_warnings(result.snapshot.warnings_count)
    for concern in result.concerns:
        run.warn(concern.code, concern.message)
