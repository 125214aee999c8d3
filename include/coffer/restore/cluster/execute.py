"""Carry the restore of a cluster out: tree, tablespaces, WAL, settings, and pg_control last.

A folder without pg_control cannot be started. It is written when all else is there and, if asked for, on the disk; a
delta removes it first. So a restore that was killed at any moment is no cluster, rather than a wrong one.
"""

from __future__ import annotations

import os
import pwd
import shlex
import threading
from contextlib import ExitStack
from pathlib import Path

from coffer.errors import (
    InterruptedRunError,
    ObjectCorruptError,
    RestoreIncompleteError,
    RestoreSpaceError,
    RestoreTargetError,
    UsageError,
)
from coffer.postgres.backup_label import MAX_LABEL_BYTES, BackupLabel
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer.restore.cluster import guard, settings, tablespaces
from coffer.restore.cluster.content import read_small
from coffer.restore.cluster.datafolder import DataFolder
from coffer.restore.cluster.delta import Delta
from coffer.restore.cluster.manifestfile import NAME as MANIFEST_NAME
from coffer.restore.cluster.manifestfile import write_manifest
from coffer.restore.cluster.plan import ClusterPlan
from coffer.restore.cluster.spec import ACTIONS, ClusterRestoreOptions, ClusterRestoreResult
from coffer.restore.cluster.walfiles import write_histories, write_wal
from coffer.restore.execute import restore
from coffer.restore.files import FULL
from coffer.restore.selection import Selection
from coffer.restore.spec import RestoreFailure, RestoreOptions
from coffer.restore.workers import worker_count
from coffer.units import human_size

CONTROL = b"global/pg_control"
_AGAIN = "Run the same restore again with --delta: what is done is passed over."
_CONTROL_BYTES = 8192  # PG_CONTROL_FILE_SIZE of pg_control.h
_LABEL = b"backup_label"
_AUTO_CONF = b"postgresql.auto.conf"
_STAGING = os.fsencode(guard.STAGING)
# Written by rules of their own, or never: what belongs to the server that was read, and what is ours.
_LEFT_OUT = (
    "/.coffer/",
    "/global/pg_control",
    "/backup_label",
    "/backup_label.old",
    "/backup_manifest",
    "/tablespace_map",
    "/tablespace_map.old",
    "/postmaster.pid",
    "/postmaster.opts",
    "/recovery.signal",
    "/standby.signal",
)
_SYSTEM_PROGRAMS = "/usr/lib/postgresql/{major}/bin/pg_ctl"  # Debian's place
_LOG = "coffer-recovery.log"
_SEGMENTS_AT_THE_END = 2
_SPECIAL_IN_SHELLS = frozenset('"$`\\')  # pg_ctl hands -D and -l on to a shell, in double quotes
_START_TIMEOUT_S = 7 * 86_400  # until it is consistent and answers; pg_ctl cannot be told to wait for ever


def restore_cluster(
    repo: Repository,
    plan: ClusterPlan,
    target: Path,
    *,
    options: ClusterRestoreOptions | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> ClusterRestoreResult:
    """Restore a cluster into a data folder, ready to be started: the server then recovers to the target by itself.

    Nothing is written outside the data folder and the folders of the tablespaces, and no link in them is followed. A
    restore that ends early, or is killed, leaves a folder that no server starts; with `delta` it can be run again.
    Nothing is ever sent to the archive of the server that was backed up: archiving is off unless asked for.

    Args:
        repo: The repository.
        plan: What, and up to which moment.
        target: The data folder: new or empty, or of this cluster where a delta is asked for.
        options: How.
        progress: Counters to keep up to date.
        stop: Once set, the run ends.

    Raises:
        UsageError, RestoreTargetError: The target, or a tablespace's, cannot be used; nothing was written.
        RestoreIncompleteError: Files could not be restored; all others were. Without `despite_damage` the folder
            cannot be started.
        ObjectCorruptError, ChunkMissingError, WalGapError, WalConflictError: What every recovery needs is damaged.
        InterruptedRunError: `stop` was set.
        RestoreSpaceError, BackendUnavailableError: The target is full, or the store does not answer.
    """
    run = _ClusterRestore(repo, plan, target, options or ClusterRestoreOptions(), progress, stop)
    with run.closing:
        try:
            return run.execute()
        except (InterruptedRunError, RestoreSpaceError) as error:
            error.hint = _AGAIN  # an ordinary restore is gone on with in another way
            raise
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            if error.errno in FULL:
                raise RestoreSpaceError(f"target {run.target}: {reason}", hint=f"Make room there. {_AGAIN}") from None
            raise RestoreTargetError(
                f"target {run.target}: cannot be written ({reason}); it cannot be started as it is",
                hint=f"Mend that. {_AGAIN}",
            ) from None


class _ClusterRestore:
    """One restore: its state, and its steps in the order of time."""

    def __init__(
        self,
        repo: Repository,
        plan: ClusterPlan,
        target: Path,
        options: ClusterRestoreOptions,
        progress: Progress | None,
        stop: threading.Event | None,
    ) -> None:
        self.repo, self.plan, self.options = repo, plan, options
        self.progress, self.stop = progress or Progress(), stop or threading.Event()
        self.closing = ExitStack()
        self.target = Path(os.path.realpath(target))
        self.manifest = repo.manifest(plan.snapshot)
        self.workers = worker_count(options.workers)
        self.stats = dict.fromkeys(("files", "size_bytes", "written_bytes", "read_bytes", "wal_segments"), 0)
        self.failures: list[RestoreFailure] = []
        self.failures_count = 0
        self.warnings: list[RestoreFailure] = []
        self.overrides: dict[str, str] = {}  # settings that lead elsewhere, put right on the command line
        self.places = self._check()

    # ------------------------------------------------------------------------------------------------- before

    def _check(self) -> dict[int, Path]:
        """Refuse what cannot be done; return where the tablespaces go. Nothing is written."""
        options = self.options
        if _SPECIAL_IN_SHELLS & set(str(self.target)):
            raise UsageError(
                f'target {self.target}: has one of the characters " $ ` \\ in its name',
                hint="pg_ctl hands the name to a shell. Give a folder of another name.",
            )
        if options.action not in ACTIONS:
            raise UsageError(f"action {options.action!r}: not one of {', '.join(ACTIONS)}")
        if options.owner not in (None, (os.geteuid(), os.getegid())) and os.geteuid() != 0:
            raise UsageError("owner: only root can give files to another user", hint="Run as root, or leave it out.")
        self.command = "false"
        if self.plan.wal_bytes > options.wal_limit_bytes:
            if options.restore_command is None:
                raise UsageError(
                    f"recovery needs {human_size(self.plan.wal_bytes)} of WAL, over the limit of"
                    f" {human_size(options.wal_limit_bytes)}",
                    hint="Raise the limit, or let the server fetch its WAL by a restore_command.",
                )
            self.command = options.restore_command
        return planned_tablespaces(self.repo, self.plan, self.target, options)

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise InterruptedRunError(
                "restore of the cluster: stopped by request; the folder cannot be started as it is",
                hint=_AGAIN,
            )

    def execute(self) -> ClusterRestoreResult:
        """Do it all; see `restore_cluster`."""
        control, label = self._control(), self._label()
        owner = self._owner()
        data = DataFolder(self.target, owner)
        self.closing.callback(data.close)
        homes: dict[int, DataFolder] = {}
        for oid, folder in self.places.items():
            homes[oid] = DataFolder(folder, owner)
            self.closing.callback(homes[oid].close)
        guard.mark(self.target, self.plan.facts.system_id)
        self.progress.phase = "restoring"
        if self.options.delta and os.listdir(self.target):
            self._write_over(data, homes)
        else:
            self._write_new(homes)
        self._require_whole()
        self._check_stop()
        for oid, folder in self.places.items():
            data.link(tablespaces.FOLDER + b"/%d" % oid, folder)
        self._write_wal(data)
        self._configure(data)
        data.write(_LABEL, label.render())
        data.write(b"recovery.signal", b"")
        self._finish(data, homes, control)
        return self._result(owner)

    # ------------------------------------------------------------------------------------------------- the tree

    def _control(self) -> bytes:
        content = read_small(self.repo, self.manifest, CONTROL, _CONTROL_BYTES)
        if content is None or int.from_bytes(content[:8], "little") != self.plan.facts.system_id:
            raise ObjectCorruptError(
                f"snapshot {self.plan.snapshot.id}: its pg_control is missing, or of another cluster"
            )
        return content

    def _label(self) -> BackupLabel:
        content = read_small(self.repo, self.manifest, _LABEL, MAX_LABEL_BYTES)
        if content is None:
            raise ObjectCorruptError(f"snapshot {self.plan.snapshot.id}: has no backup_label")
        label = BackupLabel.parse(content)
        if label.start != self.plan.facts.start:
            raise ObjectCorruptError(f"snapshot {self.plan.snapshot.id}: its backup_label begins at {label.start}")
        return label

    def _owner(self) -> tuple[int, int]:
        """Return whose the files are to be: as asked for, else whose PG_VERSION was on the server."""
        if self.options.owner is not None:
            return self.options.owner
        found = self.manifest.find(b"PG_VERSION")
        return (found.uid, found.gid) if found is not None else (os.geteuid(), os.getegid())

    def _write_new(self, homes: dict[int, DataFolder]) -> None:
        """Restore into new folders: the tree by an ordinary restore, and each tablespace by one of its own."""
        own = tuple(f"/pg_tblspc/{oid}/" for oid in homes)
        self._restore(self.target, (), (*_LEFT_OUT, *own))
        for oid, home in homes.items():
            inner = tablespaces.FOLDER + b"/%d" % oid
            home.discard(_STAGING)
            self._restore(home.path / os.fsdecode(_STAGING), (inner,), ())
            with home.opened(_STAGING + b"/" + inner) as folder, home.opened(b"") as root:
                for name in os.listdir(folder.fd):
                    os.rename(name, name, src_dir_fd=folder.fd, dst_dir_fd=root.fd)
            home.discard(_STAGING)

    def _restore(self, target: Path, paths: tuple[bytes, ...], left_out: tuple[str, ...]) -> None:
        options = RestoreOptions(paths=paths, exclude=(*left_out, *self.options.exclude), workers=self.options.workers)
        result = restore(self.repo, self.plan.snapshot, target, options=options, progress=self.progress, stop=self.stop)
        for name in ("files", "size_bytes", "written_bytes", "read_bytes"):
            self.stats[name] += result.stats[name]
        self.failures += result.failures
        self.failures_count += result.failures_count
        # Who is not root starts the server as himself: that the files are his is right.
        self.warnings += [warning for warning in result.warnings if warning.code != "owner" or os.geteuid() == 0]

    def _write_over(self, data: DataFolder, homes: dict[int, DataFolder]) -> None:
        """Turn the folder that is there into the snapshot."""
        data.discard(CONTROL, sync=True)
        data.discard(b"postmaster.pid")
        data.discard(MANIFEST_NAME)
        for home in homes.values():
            home.discard(_STAGING)
        options = RestoreOptions(exclude=(*_LEFT_OUT, *self.options.exclude))
        selection = Selection(self.manifest, self.plan.snapshot, options)
        delta = Delta(self.repo, selection, data, homes, workers=self.workers, progress=self.progress, stop=self.stop)
        delta.run()
        tally = delta.tally
        for name in ("files", "size_bytes", "written_bytes", "read_bytes"):
            self.stats[name] += getattr(tally, name)
        for name in ("pages_compared", "pages_written", "files_removed"):
            self.stats[name] = getattr(tally, name)
        self.failures += delta.failures.kept
        self.failures_count += delta.failures.total

    def _require_whole(self) -> None:
        if not self.failures_count or self.options.despite_damage:
            return
        first = self.failures[0]
        raise RestoreIncompleteError(
            f"cluster restore: {self.failures_count} files could not be restored, the first is"
            f" {os.fsdecode(first.path)!r} ({first.message}); the folder cannot be started",
            hint="Name an older or newer moment, so that another snapshot is used. To save what there is, run it again"
            " with --delta --despite-damage, and dump the tables that are whole.",
            failures=[os.fsdecode(failure.path) for failure in self.failures],
        )

    # ------------------------------------------------------------------------------------------------- on top of it

    def _write_wal(self, data: DataFolder) -> None:
        self.progress.phase = "writing WAL"
        plan = self.plan
        with data.opened(b"pg_wal/archive_status"):
            pass
        write_histories(plan.path, data)
        # The last segment is mostly saved in part, and a restore_command brings whole ones: it is put there always.
        last = None if self.command == "false" else _SEGMENTS_AT_THE_END
        self.stats["wal_segments"] = write_wal(
            plan.path, plan.stop.wal_end, data, workers=self.workers, progress=self.progress, stop=self.stop, last=last
        )
        if last is None:
            self.stats["wal_bytes"] = plan.wal_bytes

    def _configure(self, data: DataFolder) -> None:
        options = self.options
        own = data.read(b"postgresql.conf")
        if own is None:
            data.write(b"postgresql.conf", settings.minimal_configuration(self.plan.record).encode())
            self._warn(
                "postgresql.conf", "was outside the data folder: one with the settings of the recovery was written"
            )
        for name, value in settings.strayed_settings((own or b"").decode("utf-8", "replace")).items():
            if name == "external_pid_file":
                self.overrides[name] = str(self.target / "coffer-external.pid")
            elif name == "data_directory" or not os.path.exists(value):
                default = {"hba_file": "pg_hba.conf", "ident_file": "pg_ident.conf"}.get(name, "")
                self.overrides[name] = str(self.target / default)
            self._warn("postgresql.conf", f"{name} leads out of the restored folder, to {value}")
        if data.read(b"pg_hba.conf") is None:
            data.write(b"pg_hba.conf", settings.MINIMAL_ACCESS.encode())
            self._warn("pg_hba.conf", "was outside the data folder: one for local access was written")
        if data.read(b"pg_ident.conf") is None:
            data.write(b"pg_ident.conf", b"")
        found = (data.read(_AUTO_CONF) or b"").decode("utf-8", "surrogateescape")
        lines = settings.recovery_settings(
            self.plan.stop,
            action=options.action,
            restore_command=self.command,
            keep_archiving=options.keep_archiving,
            more=options.settings,
        )
        data.write(_AUTO_CONF, settings.with_settings(found, lines).encode("utf-8", "surrogateescape"))

    def _warn(self, name: str, message: str) -> None:
        self.warnings.append(RestoreFailure(name.encode(), "pg-ext-config", message))

    def _finish(self, data: DataFolder, homes: dict[int, DataFolder], control: bytes) -> None:
        """Give everything its owner, flush it, and write pg_control."""
        everything = [data, *homes.values()]
        if self.options.owner is not None and os.geteuid() == 0:
            for home in everything:
                home.give_to(self.options.owner)
        if self.options.manifest:
            self.progress.phase = "writing the manifest"
            write_manifest(self.plan, data, homes, control, workers=self.workers, stop=self.stop)
        else:
            data.discard(MANIFEST_NAME)
        self._check_stop()
        if self.options.durable:
            self.progress.phase = "flushing"
            for home in everything:
                home.flush()
        data.write(CONTROL, control, sync=self.options.durable)
        guard.unmark(self.target)

    # ------------------------------------------------------------------------------------------------- after

    def _result(self, owner: tuple[int, int]) -> ClusterRestoreResult:
        return ClusterRestoreResult(
            snapshot=self.plan.snapshot,
            target=self.target,
            tablespaces=self.places,
            stats=self.stats,
            failures=tuple(self.failures),
            failures_count=self.failures_count,
            warnings=tuple(self.warnings),
            start_command=start_command(self.plan.facts.major, self.target, owner, self.overrides),
        )


def planned_tablespaces(
    repo: Repository, plan: ClusterPlan, target: Path, options: ClusterRestoreOptions
) -> dict[int, Path]:
    """Check every folder that would be written to, and return where the tablespaces go: OID -> folder.

    Raises:
        UsageError, RestoreTargetError: One cannot be used. Nothing was written.
    """
    data = Path(os.path.realpath(target))
    guard.require_fit(repo, data, delta=options.delta, system_id=plan.facts.system_id)
    of_snapshot = tablespaces.tablespaces_of(repo.manifest(plan.snapshot), plan.record)
    places = tablespaces.map_tablespaces(of_snapshot, data, options, tablespaces.links_of(data))
    for oid, folder in places.items():
        guard.require_fit_tablespace(repo, oid, folder, delta=options.delta)
    return places


def start_command(major: int, target: Path, owner: tuple[int, int], overrides: dict[str, str]) -> tuple[str, ...]:
    """Return the command that starts the restored server and waits until it answers, read-only at first."""
    words: list[str] = []
    if os.geteuid() == 0:
        try:
            words += ["runuser", "-u", pwd.getpwuid(owner[0]).pw_name, "--"]
        except KeyError:
            words += ["setpriv", f"--reuid={owner[0]}", f"--regid={owner[1]}", "--clear-groups", "--"]
    program = _SYSTEM_PROGRAMS.format(major=major)
    words += [program if os.access(program, os.X_OK) else "pg_ctl", "-D", str(target), "-w"]
    words += ["-t", str(_START_TIMEOUT_S), "-l", str(target / _LOG)]
    if overrides:
        words += ["-o", " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in overrides.items())]
    return (*words, "start")
