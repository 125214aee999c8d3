"""Schedules of the database backups."""

from __future__ import annotations

from typing import Literal

from coffer.config.base import PolicyModel
from coffer.config.values import Schedule, written

BackupType = Literal["full", "incremental"]


class DatabaseSchedule(PolicyModel):
    """When databases are backed up."""

    full: Schedule = written("0 0 * * 0")
    """Full backups."""
    incremental: Schedule = written("0 0 * * 1-6")
    """Incremental backups."""
