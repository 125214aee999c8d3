"""Metrics, and the alerts that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from coffer.config.base import PolicyModel
from coffer.config.values import ONCE, SOME, Condition, MailAddress, Name, Severity, SlackChannel, written

PerformanceMetric = Literal["duration", "size", "speed"]
ReliabilityMetric = Literal["success_rate", "error_count"]
StorageMetric = Literal["usage", "availability"]
ChannelPriority = Literal["all", "low", "warning", "high", "critical"]


class Metrics(PolicyModel):
    """What is measured of every run."""

    performance: Annotated[tuple[PerformanceMetric, ...], ONCE] = ("duration", "size", "speed")
    """How fast."""
    reliability: Annotated[tuple[ReliabilityMetric, ...], ONCE] = ("success_rate", "error_count")
    """How well."""
    storage: Annotated[tuple[StorageMetric, ...], ONCE] = ("usage", "availability")
    """How full."""


class EmailAlerts(PolicyModel):
    """Alerts by e-mail."""

    type: Literal["email"]
    """The kind of channel."""
    recipients: Annotated[tuple[MailAddress, ...], SOME, ONCE]
    """Who gets them."""
    priority: Annotated[tuple[ChannelPriority, ...], SOME, ONCE] = ("all",)
    """The severities that go here."""


class SlackAlerts(PolicyModel):
    """Alerts to Slack."""

    type: Literal["slack"]
    """The kind of channel."""
    channel: SlackChannel
    """Where they go."""
    priority: Annotated[tuple[ChannelPriority, ...], SOME, ONCE] = ("all",)
    """The severities that go here."""


AlertChannel = Annotated[EmailAlerts | SlackAlerts, Field(discriminator="type")]


class Trigger(PolicyModel):
    """A rule that raises an alert."""

    condition: Condition
    """When it does."""
    severity: Severity
    """How bad it is; decides the channels."""


class AlertConfig(PolicyModel):
    """Who hears of what."""

    channels: tuple[AlertChannel, ...] = ()
    """Where alerts go."""
    triggers: Mapping[Name, Trigger] = written(
        {
            "backup_failure": {"condition": "status != success", "severity": "high"},
            "storage_low": {"condition": "available < 20%", "severity": "warning"},
        }
    )
    """The rules by name."""
