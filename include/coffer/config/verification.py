"""Checks, and the tests of restores."""

from __future__ import annotations

from typing import Annotated, Literal

from coffer.config.base import PolicyModel
from coffer.config.values import ONCE, SOME, Frequency, Share, written

IntegrityCheck = Literal["checksum", "size", "metadata"]
ContentCheck = Literal["sample_restore", "data_validation"]
SecurityCheck = Literal["encryption", "permissions"]
BackupValidation = Literal["checksum_verification", "size_comparison", "metadata_check", "sample_restore"]
Criterion = Literal["data_integrity", "file_permissions", "system_configuration"]


class Checks(PolicyModel):
    """What `verify_backup` looks at."""

    integrity: Annotated[tuple[IntegrityCheck, ...], ONCE] = ("checksum", "size", "metadata")
    """Checks of the stored objects."""
    content: Annotated[tuple[ContentCheck, ...], ONCE] = ("sample_restore", "data_validation")
    """Checks of what comes out of a restore."""
    security: Annotated[tuple[SecurityCheck, ...], ONCE] = ("encryption", "permissions")
    """Checks of who could read it."""


class RestoreTesting(PolicyModel):
    """The regular test restore."""

    frequency: Frequency = "weekly"
    """How often."""
    sample_size: Share = written("10%")
    """Share of the data that is restored each time."""
    validation_criteria: Annotated[tuple[Criterion, ...], SOME, ONCE] = (
        "data_integrity",
        "file_permissions",
        "system_configuration",
    )
    """What is compared with the source."""


class Proofs(PolicyModel):
    """How backups are proved."""

    backup_validation: Annotated[tuple[BackupValidation, ...], ONCE] = (
        "checksum_verification",
        "size_comparison",
        "metadata_check",
        "sample_restore",
    )
    """What is done after each backup."""
    restore_testing: RestoreTesting = written({})
    """The regular test restore."""
