"""Recovery plans: the steps that bring a system, a service or some data back."""

from __future__ import annotations

from typing import Annotated, Literal

from coffer.config.base import PolicyModel
from coffer.config.values import ONCE, SOME, Deadline, Name, Priority

RecoveryStep = Literal[
    "system_shutdown",
    "service_stop",
    "identify_data",
    "locate_backup",
    "data_restore",
    "restore_data",
    "config_restore",
    "service_start",
    "verify_integrity",
    "verification",
    "system_verification",
]
Dependency = Literal["backup_availability", "hardware_readiness", "network_connectivity"]


class RecoveryPlan(PolicyModel):
    """A plan for the whole system."""

    priority: Priority = "high"
    """Weight of its tasks in Airflow, and severity of its alerts."""
    estimated_time: Deadline | None = None
    """How long it should take; shown beside the measured time."""
    steps: Annotated[tuple[RecoveryStep, ...], SOME, ONCE]
    """What is done, in this order."""
    dependencies: Annotated[tuple[Dependency, ...], ONCE] = ()
    """What must hold before anything is stopped."""


class RecoveryProcedure(PolicyModel):
    """A procedure for a part of the system."""

    name: Name
    """The procedure's name."""
    steps: Annotated[tuple[RecoveryStep, ...], SOME, ONCE]
    """What is done, in this order."""


class PartialRecovery(PolicyModel):
    """Procedures for parts of the system."""

    procedures: tuple[RecoveryProcedure, ...] = ()
    """The procedures; each name once."""
