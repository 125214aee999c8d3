"""Back up one source of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from coffer.clock import SYSTEM_CLOCK, utc_from_ns
from coffer.compression import LEVEL_OFF
from coffer.config.policy import Policy
from coffer.errors import InterruptedRunError, UsageError
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer.sources.filesystem import BackupOptions, BackupResult, FilesystemSource, backup
from coffer.units import human_size
from coffer_airflow.hooks.repository import RepositoryHook
from coffer_airflow.operators.base import RepositoryOperator, Result

if TYPE_CHECKING:
    from airflow.sdk import Context

_WARNINGS_LOGGED = 200  # of the thousand that the engine keeps; their count is exact


class SnapshotOperator(RepositoryOperator):
    """Takes one snapshot of a source of the policy.

    Safe to run twice: a second snapshot stores nothing but its own record. A run that was killed or whose time was over
    goes on where it stopped. Files that could not be read are logged as warnings; the snapshot holds all others, and
    the task succeeds with ``complete: false`` in its XCom, unless `fail_on_warnings` is set.

    Args:
        source: Name of a source of the policy.
        deadline: When to stop with a checkpoint (ISO 8601 with a UTC offset); the task then fails without a further
            try, and the next run goes on from there. None: no deadline.
        workers: Threads that compress and seal; 0: as many as the policy's `max_workers`.
        force_read: Read every file, also those that look unchanged.
        fail_on_warnings: Fail the task where the snapshot is incomplete. The snapshot stays.
        **kwargs: Those of `RepositoryOperator`, and Airflow's own.
    """

    template_fields: Sequence[str] = (*RepositoryOperator.template_fields, "source", "deadline")

    def __init__(
        self,
        *,
        source: str,
        deadline: str | None = None,
        workers: int = 0,
        force_read: bool = False,
        fail_on_warnings: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.deadline = deadline
        self.workers = workers
        self.force_read = force_read
        self.fail_on_warnings = fail_on_warnings

    def work(self, repo: Repository, hook: RepositoryHook, progress: Progress, context: Context) -> Result:  # noqa: ARG002 - the contract of `work`
        """Take the snapshot; see the class."""
        policy = hook.required_policy()
        source = _source_of(policy, self.source)
        left_s = self._time_left_s()
        self.log.info("backing up %s to %s", ", ".join(map(str, source.paths)), repo.backend.url)
        performance = policy.performance
        options = BackupOptions(
            level=performance.compression_level or LEVEL_OFF,
            workers=self.workers or performance.max_workers,
            pack_size_bytes=performance.pack_size_bytes,
            force_read=self.force_read,
            deadline_s=None if left_s is None else repo.clock.monotonic_s() + left_s,
        )
        try:
            result = backup(repo, source, options=options, progress=progress, stop=self._stop)
        except InterruptedRunError as error:
            if self._stop.is_set():
                raise
            raise AirflowFailException(
                f"{error}: what was stored is kept, and the next run goes on from there\n"
                "HINT: give it more time (performance_config.scheduling in the policy), or start a run by hand with"
                " 'Run outside the backup window'."
            ) from None
        if repo.heads is not None and repo.heads.failure:
            self.log.warning(
                "the snapshot is not remembered on this machine, which would not notice its removal (%s)",
                repo.heads.failure,
            )
        return self._told(result, hook.place)

    def _time_left_s(self) -> float | None:
        """Return the time until the deadline [s]."""
        if self.deadline is None:
            return None
        left_s = (datetime.fromisoformat(self.deadline) - utc_from_ns(SYSTEM_CLOCK.now_ns())).total_seconds()
        if left_s <= 0:
            raise AirflowFailException(
                f"source {self.source!r}: its time was over at {self.deadline}, before this try began\n"
                "HINT: the next run goes on where the last one stopped."
            )
        return left_s

    def _told(self, result: BackupResult, place: str) -> Result:
        """Log what was done and return the XCom."""
        snapshot, stats = result.snapshot, result.stats
        for warning in result.warnings[:_WARNINGS_LOGGED]:
            self.log.warning("%s: %s", warning.path.decode(errors="backslashreplace"), warning.message)
        for concern in result.concerns:
            self.log.warning("%s: %s", concern.code, concern.message)
        if snapshot.warnings_count > _WARNINGS_LOGGED:
            self.log.warning("and %d more warnings", snapshot.warnings_count - _WARNINGS_LOGGED)
        self.log.info(
            "snapshot %s of %r: %d files, %s; new in the repository: %s in %d packs%s",
            snapshot.id,
            snapshot.source,
            stats["files"],
            human_size(stats["size_bytes"]),
            human_size(stats["stored_bytes"]),
            stats["packs_new"],
            "" if snapshot.complete else f"; INCOMPLETE, {snapshot.warnings_count} warnings",
        )
        if self.fail_on_warnings and not snapshot.complete:
            raise AirflowFailException(
                f"snapshot {snapshot.id} of {snapshot.source!r}: {snapshot.warnings_count} warnings\n"
                "HINT: the snapshot is kept and holds all other files; the log names those that it lacks."
            )
        return {
            "snapshot": snapshot.id,
            "source": snapshot.source,
            "location": place,
            "sequence": snapshot.sequence,
            "complete": snapshot.complete,
            "warnings_count": snapshot.warnings_count,
            "started_at": utc_from_ns(snapshot.started_ns).isoformat(),
            "finished_at": utc_from_ns(snapshot.finished_ns).isoformat(),
            **stats,
        }


def _source_of(policy: Policy, name: str) -> FilesystemSource:
    """Return what the engine backs up for a source of the policy."""
    try:
        source = policy.source(name)
    except KeyError:
        names = ", ".join(source.name for source in policy.sources) or "none"
        raise UsageError(f"source {name!r}: the policy has {names}", hint="Give one of these.") from None
    return FilesystemSource(
        name=source.name,
        paths=source.paths,
        exclude=source.exclude,
        include=source.include,
        one_file_system=source.one_file_system,
        exclude_caches=source.exclude_caches,
        tags=source.tags,
    )
