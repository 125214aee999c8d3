"""Restore a snapshot, or parts of it, into a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from coffer.errors import RestoreIncompleteError, UsageError
from coffer.progress import Progress
from coffer.repository.concern import Concern
from coffer.repository.repository import Repository
from coffer.restore import Overwrite, RestoreFailure, RestoreOptions, RestoreResult, restore, taken_back_unused
from coffer.units import human_size
from coffer_airflow.hooks.repository import RepositoryHook
from coffer_airflow.operators.base import RepositoryOperator, Result

if TYPE_CHECKING:
    from airflow.sdk import Context

_FAILURES_LOGGED = 200
_FAILURES_IN_ERROR = 5
_BEGUN = "coffer_restore_target"  # in the task's state, which its further tries see


class RestoreOperator(RepositoryOperator):
    """Restores from a snapshot. Nothing is overwritten unless `overwrite` says so.

    A file that could not be restored fails the task, without a further try, once all others are done. What could not be
    set on a restored file (its owner, by a user who is not root) is a warning: the task succeeds with ``complete:
    false``, unless `fail_on_warnings` is set. Running it twice is safe with `overwrite="changed"`, which keeps finished
    files. A further try of a task that found its target new or empty goes on in it in the same way: what is there by
    then is its own.

    Args:
        snapshot: The first digits of its id, or ``latest``, ``latest:SOURCE``, ``latest:SOURCE@2026-11-01``.
        target: Folder, absolute. A file /srv/a of the snapshot lands at TARGET/srv/a. New or empty unless
            `overwrite` is given.
        paths: Paths in the snapshot, each with all below it; none: everything.
        include: gitignore patterns: only files that match one of these.
        exclude: gitignore patterns: what is left out.
        overwrite: ``never``, ``changed`` or ``always``: what to do with files that are there.
        dry_run: Plan and count, write nothing.
        verify: Read every restored file again and compare it with the snapshot.
        durable: Succeed only when everything is on the target's disks; `verify`, which is on by itself, implies it.
        fail_on_warnings: Fail the task on warnings too.
        **kwargs: Those of `RepositoryOperator`, and Airflow's own.
    """

    template_fields: Sequence[str] = (
        *RepositoryOperator.template_fields,
        "snapshot",
        "target",
        "paths",
        "include",
        "exclude",
        "overwrite",
    )

    def __init__(
        self,
        *,
        snapshot: str,
        target: str,
        paths: Sequence[str] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        overwrite: str | None = None,
        dry_run: bool = False,
        verify: bool = True,
        durable: bool = False,
        fail_on_warnings: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.snapshot = snapshot
        self.target = target
        self.paths = paths
        self.include = include
        self.exclude = exclude
        self.overwrite = overwrite
        self.only_plan = dry_run  # BaseOperator has a method `dry_run`
        self.verify = verify
        self.durable = durable
        self.fail_on_warnings = fail_on_warnings

    def work(self, repo: Repository, hook: RepositoryHook, progress: Progress, context: Context) -> Result:
        """Restore; see the class."""
        options = self._options(hook)
        if not os.path.isabs(self.target):
            raise UsageError(f"target {self.target!r}: is relative", hint="Give it from / on.")
        if options.overwrite is None and not self.only_plan and self._goes_on(context):
            options = replace(options, overwrite=Overwrite.CHANGED)
        concerns: list[Concern] = []
        snapshot = repo.resolve(self.snapshot, concerns=concerns)
        for concern in concerns:
            self.log.warning("%s: %s", concern.code, concern.message)
        self.log.info("restoring snapshot %s of %r to %s", snapshot.id, snapshot.source, self.target)
        with taken_back_unused(Path(self.target)):
            result = restore(repo, snapshot, Path(self.target), options=options, progress=progress, stop=self._stop)
        return self._told(result)

    def _goes_on(self, context: Context) -> bool:
        """Say whether an earlier try of this task found the target new or empty; if this one does, remember it.

        A try that was refused, since the target held something, leaves no such mark: clearing the task does not make it
        overwrite anything.
        """
        store: Any = context.get("task_state_store")
        if store is None:
            return False
        if store.get(_BEGUN) == self.target:
            self.log.info("an earlier try began to restore to %s: going on there", self.target)
            return True
        if is_new_or_empty(Path(self.target)):
            store.set(_BEGUN, self.target)
        return False

    def _options(self, hook: RepositoryHook) -> RestoreOptions:
        try:
            overwrite = Overwrite(self.overwrite) if self.overwrite else None
        except ValueError:
            allowed = ", ".join(choice.value for choice in Overwrite)
            raise UsageError(f"overwrite {self.overwrite!r}: there are {allowed}") from None
        return RestoreOptions(
            paths=tuple(os.fsencode(path).strip(b"/") for path in self.paths),
            include=tuple(self.include),
            exclude=tuple(self.exclude),
            overwrite=overwrite,
            dry_run=self.only_plan,
            verify=self.verify,
            durable=self.durable,
            workers=hook.policy.performance.max_workers if hook.policy is not None else 0,
        )

    def _told(self, result: RestoreResult) -> Result:
        """Log what was done and return the XCom."""
        for failure in result.failures[:_FAILURES_LOGGED]:
            self.log.error("%s", _described(failure))
        for warning in result.warnings[:_FAILURES_LOGGED]:
            self.log.warning("%s", _described(warning))
        stats = result.stats
        self.log.info(
            "%s %d files, %s, to %s; %d failures, %d warnings",
            "would restore" if result.dry_run else "restored",
            stats["files"],
            human_size(stats["size_bytes"]),
            result.target,
            result.failures_count,
            result.warnings_count,
        )
        if result.failures_count:
            raise RestoreIncompleteError(
                f"{result.target}: {result.failures_count} files could not be restored: {_first(result.failures)}"
            )
        if self.fail_on_warnings and result.warnings_count:
            raise AirflowFailException(
                f"{result.target}: all files restored, with {result.warnings_count} warnings: {_first(result.warnings)}"
            )
        return {
            "snapshot": result.snapshot.id,
            "source": result.snapshot.source,
            "target": str(result.target),
            "dry_run": result.dry_run,
            "complete": result.warnings_count == 0,
            "warnings_count": result.warnings_count,
            **stats,
        }


def _described(failure: RestoreFailure) -> str:
    return f"/{failure.path.decode(errors='backslashreplace')}: {failure.message}"


def _first(failures: Iterable[RestoreFailure]) -> str:
    return "; ".join(_described(failure) for failure in list(failures)[:_FAILURES_IN_ERROR])


def is_new_or_empty(folder: Path) -> bool:
    """Say whether nothing is in a folder, or it is not there; False where that cannot be told."""
    try:
        with os.scandir(folder) as listing:
            return next(listing, None) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False
