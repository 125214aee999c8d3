"""Local backups: the folders that repositories lie in, and how what goes there is packed and sealed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from coffer.config.base import PolicyModel
from coffer.config.values import SOME, AbsolutePath, Count, Flag, Frequency, Name, Retention, written

ZstdLevel = Annotated[Count, Field(ge=1, le=19)]
"""A zstd level; 20 to 22 need over 600 MB of memory to write and are left out."""


class LocalLocation(PolicyModel):
    """One folder with a complete repository in it."""

    path: AbsolutePath
    """The repository's folder."""
    retention: Retention
    """How long a snapshot is kept here."""
    frequency: Frequency = "daily"
    """How often a new snapshot comes here; the same content is copied pack by pack."""


class LocalCompression(PolicyModel):
    """Compression of what goes into local repositories."""

    enabled: Flag = True
    """False stores everything as it is."""
    algorithm: Literal["zstd"] = "zstd"
    """The only algorithm of the repository format."""
    level: ZstdLevel = 3
    """Higher is smaller and slower. Must equal `performance_config.compression.level` where both are given."""


class LocalEncryption(PolicyModel):
    """Encryption of local repositories. There are no others: the format has no plaintext form."""

    enabled: Literal[True] = True
    """Always true: nothing leaves the source in plaintext."""
    algorithm: Literal["AES-256-GCM"] = "AES-256-GCM"
    """The only algorithm of the repository format."""


class LocalBackup(PolicyModel):
    """Where local backups go."""

    locations: Annotated[Mapping[Name, LocalLocation], SOME] = written(
        {"primary": {"path": "var/backups/primary", "retention": "30d", "frequency": "daily"}}
    )
    """The local locations by name."""
    compression: LocalCompression = written({})
    """How data is compressed."""
    encryption: LocalEncryption = written({})
    """How data is sealed."""
