"""Limits, sizes and the backup window; what the optimiser may look at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coffer.config.base import PolicyModel
from coffer.config.local import ZstdLevel
from coffer.config.values import ONCE, BlockSize, Count, DailyWindow, Deadline, PackSize, Rate, written


class StorageOptimizer(PolicyModel):
    """What `optimize_storage` measures and may change."""

    compression: Annotated[tuple[Literal["algorithm", "level"], ...], ONCE] = ("algorithm", "level")
    """Settings of compression."""
    deduplication: Annotated[tuple[Literal["block_size", "method"], ...], ONCE] = ("block_size", "method")
    """Settings of deduplication."""
    retention: Annotated[tuple[Literal["policy", "cleanup"], ...], ONCE] = ("policy", "cleanup")
    """Settings of retention."""


class PackCompression(PolicyModel):
    """How data is packed."""

    algorithm: Literal["zstd"] = "zstd"
    """The only algorithm of the repository format."""
    level: ZstdLevel = 3
    """Higher is smaller and slower. Must equal `local_backup.compression.level` where both are given."""
    chunk_size: PackSize = written("64MB")
    """Size of a pack, the stored object; the pieces of deduplication have a size of their own."""


class Deduplication(PolicyModel):
    """How equal data is found."""

    method: Literal["cdc", "fixed"] = "cdc"
    """`cdc` cuts by content and finds moved data; `fixed` cuts every block_size."""
    block_size: BlockSize = written("1MiB")
    """Size of the pieces: the average for `cdc`."""


class Concurrency(PolicyModel):
    """How much of the machine a run may take."""

    max_workers: Annotated[Count, Field(ge=1, le=64)] = 4
    """Threads that compress and seal."""
    io_limit: Rate | None = None
    """Bytes read from and written to a local location in a second, together; no limit where left out. How fast the
    source itself is read is not limited."""
    network_limit: Rate | None = None
    """Bytes sent to and fetched from cloud locations in a second; no limit where left out."""


class Scheduling(PolicyModel):
    """When scheduled runs may work."""

    backup_window: DailyWindow = written("00:00-06:00")
    """Scheduled runs start and work within it; what is not done by its end goes on the next time."""
    max_duration: Deadline = written("4h")
    """How long one run may take."""


class PerformanceConfig(PolicyModel):
    """Limits and sizes."""

    compression: PackCompression = written({})
    """How data is packed."""
    deduplication: Deduplication = written({})
    """How equal data is found."""
    concurrency: Concurrency = written({})
    """How much of the machine a run may take."""
    scheduling: Scheduling = written({})
    """When scheduled runs may work."""
