"""The policy that comes with the project runs as it stands, and its examples can be taken over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coffer.config import check_policy, load_policy, parse_policy, policy_notes

PROJECT = Path(__file__).resolve().parents[4]
DEFAULT = PROJECT / "config" / "coffer.yaml"


def test_default_policy_has_no_mistake_and_promises_nothing_more():
    """The default policy is valid, and asks for nothing that has no effect yet."""
    assert [] == check_policy(DEFAULT)
    assert () == policy_notes(load_policy(DEFAULT))


def test_default_policy_works_below_the_project():
    """Everything the default policy writes to lies below var/; what it reads does not."""
    policy = load_policy(DEFAULT)
    var = PROJECT / "var"
    written = [location.path for location in policy.locations] + [policy.state_dir, policy.key_reference.key_file]
    assert [var / "backups/primary", var / "backups/secondary", var / "state", var / "keys/coffer.key"] == written
    (source,) = policy.sources_by_kind("filesystem")
    assert all(path.parent == PROJECT and path != var for path in source.paths)


def test_default_policy_keeps_the_frequencies_and_retentions_of_the_specification():
    """Primary is daily and kept 30 days, secondary weekly and kept 90 days."""
    expected = [("primary", 30 * 86_400, "daily"), ("secondary", 90 * 86_400, "weekly")]
    locations = load_policy(DEFAULT).locations
    assert expected == [(location.name, location.retention_s, location.frequency) for location in locations]


def test_default_policy_names_every_key_at_the_top():
    """A reader finds each block of the policy in the default file."""
    policy = load_policy(DEFAULT)
    assert set(type(policy).model_fields) == policy.model_fields_set


def test_examples_in_the_default_policy_are_valid():
    """Each example in a comment, put in place of the [] or {} above it, gives a valid policy."""
    text, count = re.subn(
        r"(?m)^( *\w+:) (?:\[\]|\{\})(?: +#.*)?\n((?:^#.*\n)+)",
        lambda match: match[1] + "\n" + re.sub("(?m)^#", " ", match[2]),
        DEFAULT.read_text(),
    )
    assert 4 == count
    policy = parse_policy(text, PROJECT)
    assert (3, 3, 2, 2) == (
        len(policy.databases),
        len(policy.database_servers),
        len(policy.cloud_backup.providers),
        len(policy.alert_config.channels),
    )


def test_a_policy_can_be_one_source():
    """With its defaults, a policy needs no more than what is backed up."""
    policy = parse_policy("sources: [{name: home, paths: [/home]}]", Path("/srv/project"))
    (source,) = policy.sources
    assert ["primary"] == [location.name for location in policy.locations_of(source)]
    assert Path("/srv/project/var/backups/primary") == policy.location("primary").path
    assert "0 0 * * *" == policy.schedule_of(source)


def test_the_examples_in_the_documentation_are_valid():
    """Every YAML example of docs/configuration.md is a valid policy."""
    page = (PROJECT / "docs" / "configuration.md").read_text()
    examples = re.findall(r"(?s)```yaml\n(.*?)```", page)
    assert 1 == len(examples)
    for example in examples:
        parse_policy(example, Path("/srv/project"))


@pytest.mark.parametrize("name", ["primary", "secondary"])
def test_default_locations_are_ignored_by_git(name):
    """Nobody commits a repository by accident: var/ is git-ignored."""
    ignored = (PROJECT / ".gitignore").read_text().splitlines()
    top = load_policy(DEFAULT).location(name).path.relative_to(PROJECT).parts[0]
    assert any(line.strip("/") == top for line in ignored)
