"""Cloud locations, and the procedures that keep them up to date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from coffer.config.base import PolicyModel
from coffer.config.values import ONCE, SOME, Bucket, Count, Flag, Frequency, Name, Priority, Region, Timeout, written

SyncFigure = Literal["sync_status", "transfer_speed", "error_rates", "completion_time"]


class S3Provider(PolicyModel):
    """A bucket of Amazon S3 or of a store that speaks its language."""

    type: Literal["aws_s3"]
    """The kind of store."""
    bucket: Bucket
    """The bucket's name."""
    region: Region
    """The bucket's region."""
    encryption: Literal["AES256", "aws:kms"] = "AES256"
    """Server-side encryption that is asked for and checked, on top of Coffer's own."""
    versioning: Flag = False
    """True demands that the bucket keeps versions."""


class GoogleProvider(PolicyModel):
    """A bucket of Google Cloud Storage."""

    type: Literal["google_cloud"]
    """The kind of store."""
    bucket: Bucket
    """The bucket's name."""
    location: Region
    """The bucket's location."""
    encryption: Literal["google-managed"] = "google-managed"
    """Server-side encryption that is checked, on top of Coffer's own."""
    versioning: Flag = False
    """True demands that the bucket keeps versions."""


CloudProvider = Annotated[S3Provider | GoogleProvider, Field(discriminator="type")]


class CloudSync(PolicyModel):
    """How cloud locations are kept up to date."""

    frequency: Frequency = "hourly"
    """How often."""
    retry_attempts: Annotated[Count, Field(ge=0, le=20)] = 3
    """Tries after the first one."""
    timeout: Timeout = written(3600)
    """Time limit of one sync."""


class CloudBackup(PolicyModel):
    """The cloud locations."""

    providers: Mapping[Name, CloudProvider] = written({})
    """The cloud locations by name."""
    sync: CloudSync = written({})
    """How they are kept up to date."""


class SyncProcedure(PolicyModel):
    """One kind of data that is synced to the cloud locations."""

    name: Name
    """The procedure's name, and the tag of the sources that it takes."""
    frequency: Frequency
    """How often."""
    priority: Priority = "medium"
    """Weight of its tasks in Airflow, and severity of its alerts."""
    retry: Flag = True
    """True tries again as `cloud_backup.sync.retry_attempts` says; false tries once."""
    sources: Annotated[tuple[Name, ...], SOME, ONCE] | None = None
    """The sources it takes; where left out, the source of its name and those tagged with it."""


class SyncProcedures(PolicyModel):
    """What is synced, and what is recorded of it."""

    schedule: tuple[SyncProcedure, ...] = ()
    """The procedures; each name once."""
    monitoring: Annotated[tuple[SyncFigure, ...], ONCE] = (
        "sync_status",
        "transfer_speed",
        "error_rates",
        "completion_time",
    )
    """The figures recorded of every sync."""
