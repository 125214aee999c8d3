"""Every block of the specification, as it was written there, is a valid policy."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from coffer.config import Policy, check_policy, parse_policy, policy_notes

BLOCKS = sorted(Path(__file__).parent.joinpath("data", "blocks").glob("*.yaml"))
ROOT = Path("/srv/project")


def test_the_blocks_hold_every_key_of_the_specification():
    """The blocks name all the keys at the top that the specification has."""
    keys = {key for block in BLOCKS for key in yaml.safe_load(block.read_text())}
    expected = set(Policy.model_fields) - {"timezone", "repository", "sources", "filesystem_backup", "database_servers"}
    assert expected == keys
    assert 8 == len(BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.stem)
def test_a_block_is_valid_by_itself(block):
    """A block pasted into an empty policy has no mistake."""
    assert [] == check_policy(block)


def test_all_blocks_together_are_valid_and_say_what_they_say():
    """All blocks in one file have no mistake, and each value comes out in the unit that the models name."""
    policy = parse_policy("\n".join(block.read_text() for block in BLOCKS), ROOT)
    assert [
        ("primary", Path("/backups/primary"), 30 * 86_400, "daily"),
        ("secondary", Path("/backups/secondary"), 90 * 86_400, "weekly"),
    ] == [tuple(location) for location in policy.locations]
    assert ("primary", "analytics", "audit") == policy.databases
    assert ("full", "incremental") == policy.backup_types
    assert ("0 0 * * 0", "0 0 * * 1-6") == (policy.schedule.full, policy.schedule.incremental)
    assert ("aws_s3", "google_cloud") == tuple(provider.type for provider in policy.cloud_backup.providers.values())
    assert ("hourly", 3, 3600) == (
        policy.cloud_backup.sync.frequency,
        policy.cloud_backup.sync.retry_attempts,
        policy.cloud_backup.sync.timeout,
    )
    assert [("critical_data", "high", True), ("configuration", "medium", True), ("logs", "low", False)] == [
        (procedure.name, procedure.priority, procedure.retry) for procedure in policy.sync_procedures.schedule
    ]
    assert 0.1 == policy.test_procedures.restore_testing.sample_size
    assert 4 * 3600 == policy.recovery_plans["full_system"].estimated_time
    assert ["single_service", "specific_data"] == [plan.name for plan in policy.partial_recovery.procedures]
    assert ["email", "slack"] == [channel.type for channel in policy.alert_config.channels]
    assert "available < 20%" == policy.alert_config.triggers["storage_low"].condition
    assert 90 * 86_400 == policy.encryption.at_rest.key_rotation
    assert "vault" == policy.key_reference.storage
    assert ("view_reports", "view_logs") == policy.access_control.roles["auditor"].permissions
    assert (4, 500_000_000, 1_000_000_000, 64_000_000, 3, 4 * 3600) == tuple(policy.performance)
    assert "00:00-06:00" == str(policy.window)


def test_blocks_without_effect_are_told():
    """What a reader of the specification's policy could wrongly rely on is named, each in one line."""
    policy = parse_policy("\n".join(block.read_text() for block in BLOCKS), ROOT)
    subjects = [note.partition(":")[0] for note in policy_notes(policy)]
    assert ["cloud_backup", "alert_config", "encryption.at_rest.key_storage"] == subjects
