"""What a snapshot says of a logical backup."""

from dataclasses import replace

import pytest

from coffer.errors import ObjectCorruptError, UsageError
from coffer.postgres.logical_facts import LogicalFacts
from coffer.postgres.lsn import Lsn
from tests.harness.keyrings import make_keyring
from tests.harness.repositories import make_snapshot

FACTS = LogicalFacts(version=150018, lsn=Lsn.parse("1/AB"), databases=2, dump_version="18.1", whole=False)
SNAPSHOT = make_snapshot(make_keyring(), facts=FACTS.to_snapshot())


def test_facts_come_back():
    """What was written is read; majors are derived."""
    found = LogicalFacts.of(SNAPSHOT)
    assert (FACTS, 15, 18) == (found, found.major, found.dump_major)


def test_another_kind_of_snapshot_has_none():
    """Files and clusters are no logical backups, and a load of them is refused."""
    other = replace(SNAPSHOT, facts={})
    assert LogicalFacts.of(other) is None
    with pytest.raises(UsageError, match="is no logical backup"):
        LogicalFacts.require(other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", "x"),
        ("lsn", "0"),
        ("databases", "2"),
        ("dump_version", 15),
        ("dump_version", "none"),
        ("whole", None),
    ],
)
def test_damaged_facts_are_told(field, value):
    """A field that is missing, or means nothing, is damage and no crash."""
    facts = {name: was for name, was in SNAPSHOT.facts.items() if name != field}
    if value is not None:
        facts[field] = value
    with pytest.raises(ObjectCorruptError, match="facts of the logical backup"):
        LogicalFacts.of(replace(SNAPSHOT, facts=facts))
