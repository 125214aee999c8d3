"""What the engine and the DAGs ask the policy."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from coffer.config import Dedup, KeyReference, Location, Performance, Policy, parse_policy
from coffer.config.local import LocalLocation
from coffer.units import Window

ROOT = Path("/srv/project")

TEXT = """
timezone: Europe/Berlin
sources:
  - {name: etc, paths: [/etc], tags: [configuration], locations: [disk]}
  - {name: home, paths: [/home], schedule: "30 1 * * *", exclude: ["*.tmp"], one_file_system: true}
  - {name: logs, paths: [/var/log]}
sync_procedures:
  schedule:
    - {name: configuration, frequency: daily}
    - {name: logs, frequency: daily}
    - {name: all, frequency: hourly, sources: [logs, etc]}
    - {name: nothing, frequency: hourly}
local_backup:
  locations:
    disk: {path: /mnt/disk, retention: 30d}
    other: {path: var/other, retention: 52w, frequency: monthly}
"""


@pytest.fixture
def policy() -> Policy:
    """A policy with three sources, two locations and four syncs."""
    return parse_policy(TEXT, ROOT)


def test_locations_are_found_by_name_and_by_source(policy):
    """Locations come in the order of the file; a source goes to those it names, or to all."""
    disk = Location("disk", Path("/mnt/disk"), 30 * 86_400, "daily")
    other = Location("other", Path("/srv/project/var/other"), 364 * 86_400, "monthly")
    assert (disk, other) == policy.locations
    assert other == policy.location("other")
    assert (disk,) == policy.locations_of(policy.source("etc"))
    assert (disk, other) == policy.locations_of(policy.source("home"))


def test_unknown_names_are_key_errors(policy):
    """Asking for a source or location that is not there is the caller's mistake."""
    for ask in (policy.location, policy.source):
        with pytest.raises(KeyError, match="nowhere"):
            ask("nowhere")


def test_sources_are_found_by_kind_in_the_order_of_the_file(policy):
    """All sources are file trees so far; another kind has none."""
    assert ["etc", "home", "logs"] == [source.name for source in policy.sources_by_kind("filesystem")]
    assert () == policy.sources_by_kind("postgres")


def test_a_sync_takes_the_sources_of_its_name_or_tag_or_those_it_names(policy):
    """By name, by tag, by list; else none."""
    taken = [[source.name for source in policy.sources_of_sync(sync)] for sync in policy.sync_procedures.schedule]
    assert [["etc"], ["logs"], ["etc", "logs"], []] == taken


def test_a_source_has_its_own_schedule_or_the_common_one(policy):
    """A source's schedule overrides filesystem_backup's."""
    assert "30 1 * * *" == policy.schedule_of(policy.source("home"))
    assert "0 0 * * *" == policy.schedule_of(policy.source("etc"))


def test_defaults_are_what_the_reference_says(policy):
    """Limits, sizes, window and key reference have their defaults."""
    assert Performance(4, None, None, 64_000_000, 3, 4 * 3600) == policy.performance
    assert Dedup("cdc", 2**20) == policy.dedup
    assert Window(0, 360) == policy.window
    assert KeyReference("key_file", ROOT / "var/keys/coffer.key", None, None) == policy.key_reference
    assert ROOT / "var/state" == policy.state_dir
    assert ROOT == policy.project_folder
    assert "Europe/Berlin" == str(policy.tzinfo)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local_backup: {compression: {level: 7}}", 7),
        ("performance_config: {compression: {level: 7}}", 7),
        ("local_backup: {compression: {level: 7}}\nperformance_config: {compression: {level: 7}}", 7),
        ("local_backup: {compression: {enabled: false, level: 7}}", None),
        ("local_backup: {compression: {enabled: true}}\nperformance_config: {compression: {level: 9}}", 9),
    ],
)
def test_the_compression_level_is_that_of_whichever_block_gives_one(text, expected):
    """Two keys of the specification set one thing; compression that is off has no level."""
    assert expected == parse_policy(text, ROOT).performance.compression_level


def test_limits_come_out_in_bytes_and_seconds():
    """What the policy says in its words, the records say in units."""
    text = """
performance_config:
  compression: {chunk_size: 16MiB}
  deduplication: {method: fixed, block_size: 8KiB}
  concurrency: {max_workers: 2, io_limit: 1MB/s, network_limit: 2MiB/s}
  scheduling: {backup_window: "22:00-04:00", max_duration: 90m}
"""
    policy = parse_policy('filesystem_backup: {schedule: "0 23 * * *"}' + text, ROOT)
    assert Performance(2, 1_000_000, 2_097_152, 16_777_216, 3, 5400) == policy.performance
    assert Dedup("fixed", 8192) == policy.dedup
    assert "22:00-04:00" == str(policy.window)


def test_a_passphrase_is_only_a_reference():
    """The policy knows where a passphrase is, never what it is."""
    text = "encryption: {at_rest: {key_storage: passphrase}}\nrepository: {passphrase_env: COFFER_PASSPHRASE}"
    expected = KeyReference("passphrase", ROOT / "var/keys/coffer.key", "COFFER_PASSPHRASE", None)
    assert expected == parse_policy(text, ROOT).key_reference


def test_a_policy_is_frozen(policy):
    """No caller can change the policy under another's feet."""
    with pytest.raises(ValidationError, match="frozen"):
        policy.timezone = "UTC"


def test_a_policy_survives_pickling(policy):
    """A policy carried between processes is equal, and still knows its project folder."""
    copy = pickle.loads(pickle.dumps(policy))
    assert (policy, ROOT, policy.locations) == (copy, copy.project_folder, copy.locations)


def test_models_are_not_made_without_a_project_folder():
    """A relative path never counts from the working folder by accident."""
    with pytest.raises(ValidationError, match="project folder"):
        LocalLocation.model_validate({"path": "x", "retention": "30d"})
