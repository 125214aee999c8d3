"""Check a repository, or read all of it again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowFailException

from coffer.errors import UsageError
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer.verification import Finding, Severity, check, verify
from coffer_airflow.hooks.repository import RepositoryHook
from coffer_airflow.operators.base import RepositoryOperator, Result

if TYPE_CHECKING:
    from airflow.sdk import Context

Depth = Literal["structure", "data"]
DEPTHS: tuple[Depth, ...] = ("structure", "data")
_FINDINGS_LOGGED = 200
_FINDINGS_IN_ERROR = 5


class VerifyOperator(RepositoryOperator):
    """Proves what is stored: changes nothing, safe to run twice, and beside backups.

    Fails without a further try if anything is damaged: the damage would still be there.

    Args:
        depth: ``structure``: every reference resolves and every record opens (seconds). ``data``: every stored byte is
            read and authenticated as well (minutes to hours).
        **kwargs: Those of `RepositoryOperator`, and Airflow's own.
    """

    template_fields: Sequence[str] = (*RepositoryOperator.template_fields, "depth")

    def __init__(self, *, depth: str = "structure", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.depth = depth

    def work(self, repo: Repository, hook: RepositoryHook, progress: Progress, context: Context) -> Result:  # noqa: ARG002 - the contract of `work`
        """Check or verify; see the class."""
        if self.depth not in DEPTHS:
            raise UsageError(f"depth {self.depth!r}: there are {' and '.join(DEPTHS)}")
        self.log.info("checking the %s of %s", self.depth, repo.backend.url)
        findings, counts, ok = _examine(repo, self.depth, hook, progress, self._stop)
        for finding in findings[:_FINDINGS_LOGGED]:
            log = self.log.error if finding.severity is Severity.ERROR else self.log.warning
            log("%s", _described(finding))
        errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        if not ok:
            first = "\n  ".join(_described(finding) for finding in errors[:_FINDINGS_IN_ERROR])
            raise AirflowFailException(
                f"{repo.backend.url}: {len(errors)} findings\n  {first}\n"
                "HINT: undamaged files can still be restored. 'coffer verify' lists all; compare with another location."
            )
        self.log.info("nothing is wrong: %s", ", ".join(f"{name} {count}" for name, count in counts.items()))
        return {"location": hook.place, "depth": self.depth, "ok": ok, "hints": len(findings), **counts}


def _examine(
    repo: Repository, depth: str, hook: RepositoryHook, progress: Progress, stop: threading.Event
) -> tuple[tuple[Finding, ...], dict[str, int], bool]:
    if depth == "structure":
        checked = check(repo, progress=progress, stop=stop)
        return checked.findings, checked.counts, checked.ok
    workers = hook.policy.performance.max_workers if hook.policy is not None else 0
    verified = verify(repo, workers=workers, progress=progress, stop=stop)
    return verified.findings, verified.counts, verified.ok


def _described(finding: Finding) -> str:
    """Return a finding in one line, with at most three of the files that it hits."""
    paths = ["/" + path.decode(errors="backslashreplace") for path in finding.paths[:3]]
    hit = f" (hits {', '.join(paths)}{', ...' if len(finding.paths) > len(paths) else ''})" if paths else ""
    return f"{finding.code}: {finding.message}{hit}"
