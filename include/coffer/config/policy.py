"""The whole policy, and what the engine and the DAGs ask it.

The models keep the policy's own words. What a program needs is derived here, as plain records with units in the names,
so that no caller looks up a default or joins two keys by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import PrivateAttr, ValidationInfo, model_validator

from coffer.config.base import PolicyModel
from coffer.config.cloud import CloudBackup, SyncProcedure, SyncProcedures
from coffer.config.databases import BackupType, DatabaseCluster, DatabaseSchedule, DatabaseServer, clusters_of
from coffer.config.filetree import FilesystemBackup, FileTreeSource
from coffer.config.local import LocalBackup
from coffer.config.monitoring import AlertConfig, Metrics
from coffer.config.performance import PerformanceConfig, StorageOptimizer
from coffer.config.recovery import PartialRecovery, RecoveryPlan
from coffer.config.repository import RepositorySettings
from coffer.config.security import AccessControl, Encryption, KeyStorage
from coffer.config.values import ONCE, SOME, Frequency, Name, ZoneName, project_folder_in, written
from coffer.config.verification import Checks, Proofs
from coffer.units import Window


class Location(NamedTuple):
    """A local location.

    Attributes:
        name: Its name in the policy.
        path: The repository's folder, absolute.
        retention_s: How long a snapshot is kept [s].
        frequency: How often a new snapshot comes.
    """

    name: str
    path: Path
    retention_s: int
    frequency: Frequency


class Performance(NamedTuple):
    """Limits and sizes of a run.

    Attributes:
        max_workers: Threads that compress and seal.
        io_limit_bytes_per_s: Reads of local locations and writes to them, together [bytes/s]; None is no limit.
        network_limit_bytes_per_s: Bytes sent to and fetched from cloud locations [bytes/s]; None is no limit.
        pack_size_bytes: Size of a stored object [bytes].
        compression_level: zstd level 1 to 19; None stores everything as it is.
        max_duration_s: How long one run may take [s].
    """

    max_workers: int
    io_limit_bytes_per_s: int | None
    network_limit_bytes_per_s: int | None
    pack_size_bytes: int
    compression_level: int | None
    max_duration_s: int


class Dedup(NamedTuple):
    """How equal data is found.

    Attributes:
        method: ``cdc`` or ``fixed``.
        block_size_bytes: Size of the pieces, the average for ``cdc`` [bytes].
    """

    method: Literal["cdc", "fixed"]
    block_size_bytes: int


class KeyReference(NamedTuple):
    """Where the key that wraps all others comes from. Holds no secret, only where one is.

    Attributes:
        storage: Which of the others counts.
        key_file: File with the key, absolute.
        passphrase_env: Environment variable that holds the passphrase.
        passphrase_file: File whose first line is the passphrase, absolute.
    """

    storage: KeyStorage
    key_file: Path
    passphrase_env: str | None
    passphrase_file: Path | None


class Policy(PolicyModel):
    """The policy file. Made by `coffer.config.load_policy`, which also checks what joins several keys."""

    timezone: ZoneName = "UTC"
    """Time zone of every schedule and of the backup window."""
    repository: RepositorySettings = written({})
    """References to the key, and the folder for state."""
    sources: tuple[FileTreeSource, ...] = ()
    """What is backed up; each name once."""
    filesystem_backup: FilesystemBackup = written({})
    """The DAG that backs up file trees."""
    local_backup: LocalBackup = written({})
    """Where local backups go."""
    databases: Annotated[tuple[Name, ...], ONCE] = ()
    """The databases that are backed up, by name."""
    database_servers: Mapping[Name, DatabaseServer] = written({})
    """Where each of these databases is and how it is read, by its name; names at one address are one backup."""
    backup_types: Annotated[tuple[BackupType, ...], SOME, ONCE] = ("full", "incremental")
    """The kinds of database backup."""
    schedule: DatabaseSchedule = written({})
    """When databases are backed up."""
    cloud_backup: CloudBackup = written({})
    """The cloud locations."""
    sync_procedures: SyncProcedures = written({})
    """What is synced to the cloud locations."""
    checks: Checks = written({})
    """What `verify_backup` looks at."""
    test_procedures: Proofs = written({})
    """How backups are proved."""
    recovery_plans: Mapping[Name, RecoveryPlan] = written({})
    """Plans for the whole system, by name."""
    partial_recovery: PartialRecovery = written({})
    """Procedures for parts of the system."""
    metrics: Metrics = written({})
    """What is measured of every run."""
    alert_config: AlertConfig = written({})
    """Who hears of what."""
    encryption: Encryption = written({})
    """Encryption at rest and in transit."""
    access_control: AccessControl = written({})
    """Who may do what."""
    storage_optimizer: StorageOptimizer = written({})
    """What `optimize_storage` measures and may change."""
    performance_config: PerformanceConfig = written({})
    """Limits, sizes and the backup window."""

    _project_folder: Path = PrivateAttr()

    @model_validator(mode="after")
    def _remember_project_folder(self, info: ValidationInfo) -> Policy:
        self._project_folder = Path(project_folder_in(info))
        return self

    @property
    def project_folder(self) -> Path:
        """Folder that relative paths of the policy count from, absolute."""
        return self._project_folder

    # ------------------------------------------------------------------------------------------------ where

    @property
    def locations(self) -> tuple[Location, ...]:
        """The local locations, in the order of the file."""
        return tuple(
            Location(name, location.path, location.retention, location.frequency)
            for name, location in self.local_backup.locations.items()
        )

    def location(self, name: str) -> Location:
        """Return the local location of that name.

        Raises:
            KeyError: There is none.
        """
        for location in self.locations:
            if location.name == name:
                return location
        raise KeyError(name)

    def locations_of(self, source: FileTreeSource | DatabaseServer) -> tuple[Location, ...]:
        """Return the local locations that a source goes to, in the order of the file."""
        return tuple(
            location for location in self.locations if source.locations is None or location.name in source.locations
        )

    @property
    def key_reference(self) -> KeyReference:
        """Where the key comes from."""
        settings = self.repository
        return KeyReference(
            self.encryption.at_rest.key_storage, settings.key_file, settings.passphrase_env, settings.passphrase_file
        )

    @property
    def state_dir(self) -> Path:
        """Folder for caches and the remembered snapshot heads, absolute."""
        return self.repository.state_dir

    # ------------------------------------------------------------------------------------------------ what

    def source(self, name: str) -> FileTreeSource:
        """Return the source of that name.

        Raises:
            KeyError: There is none.
        """
        for source in self.sources:
            if source.name == name:
                return source
        raise KeyError(name)

    def sources_by_kind(self, kind: str) -> tuple[FileTreeSource, ...]:
        """Return the sources of a kind, in the order of the file."""
        return tuple(source for source in self.sources if source.kind == kind)

    @property
    def clusters(self) -> tuple[DatabaseCluster, ...]:
        """The databases, those at one address as one cluster, in the order of the file."""
        return clusters_of(self.databases, self.database_servers)

    def cluster(self, name: str) -> DatabaseCluster:
        """Return the cluster that holds the database of that name.

        Raises:
            KeyError: There is no such name.
        """
        for cluster in self.clusters:
            if name in cluster.names:
                return cluster
        raise KeyError(name)

    def sources_of_sync(self, procedure: SyncProcedure) -> tuple[FileTreeSource, ...]:
        """Return the sources that a sync procedure takes: the ones it names, else by its own name as name or tag."""
        if procedure.sources is not None:
            return tuple(source for source in self.sources if source.name in procedure.sources)
        return tuple(source for source in self.sources if procedure.name in (source.name, *source.tags))

    # ------------------------------------------------------------------------------------------------ when

    @property
    def tzinfo(self) -> ZoneInfo:
        """The time zone of every schedule and of the window."""
        return ZoneInfo(self.timezone)

    @property
    def window(self) -> Window:
        """The backup window, in the policy's time zone."""
        return self.performance_config.scheduling.backup_window

    def schedule_of(self, source: FileTreeSource) -> str:
        """Return the cron text by which a source is backed up, in the policy's time zone."""
        return source.schedule or self.filesystem_backup.schedule

    # ------------------------------------------------------------------------------------------------ how

    @property
    def performance(self) -> Performance:
        """Limits and sizes of a run."""
        config = self.performance_config
        return Performance(
            max_workers=config.concurrency.max_workers,
            io_limit_bytes_per_s=config.concurrency.io_limit,
            network_limit_bytes_per_s=config.concurrency.network_limit,
            pack_size_bytes=config.compression.chunk_size,
            compression_level=self._compression_level,
            max_duration_s=config.scheduling.max_duration,
        )

    @property
    def _compression_level(self) -> int | None:
        """The level of whichever block gives one; the checks see to it that they agree where both do."""
        local = self.local_backup.compression
        if not local.enabled:
            return None
        return local.level if "level" in local.model_fields_set else self.performance_config.compression.level

    @property
    def dedup(self) -> Dedup:
        """How equal data is found."""
        settings = self.performance_config.deduplication
        return Dedup(settings.method, settings.block_size)
