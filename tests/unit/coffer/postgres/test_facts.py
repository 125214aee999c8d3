"""The facts of a cluster are read back from a snapshot as they were, and damaged ones are no facts."""

from __future__ import annotations

import pytest

from coffer.errors import ObjectCorruptError
from coffer.postgres.facts import ClusterFacts, Method
from coffer.postgres.lsn import Lsn
from coffer.repository.snapshot import decode_snapshot, encode_snapshot
from tests.harness.keyrings import make_keyring
from tests.harness.repositories import make_snapshot

FACTS = ClusterFacts(
    system_id=7_300_000_000_000_000_000,
    version=150018,
    method=Method.DELTA,
    timeline=3,
    start=Lsn(0x2000028),
    end=Lsn(0x3000100),
    start_timeline=2,
    segment_bytes=16 << 20,
    from_standby=True,
    has_checksums=False,
    corrupt_pages=4,
)


def snapshot_with(facts):
    return make_snapshot(make_keyring(), facts=facts)


def test_facts_are_read_back_from_the_stored_snapshot():
    """Through signing, sealing and back."""
    keyring = make_keyring()
    made = snapshot_with(FACTS.to_snapshot())
    stored = decode_snapshot(keyring, made.name, encode_snapshot(keyring, made))
    assert FACTS == ClusterFacts.of(stored)
    assert 15 == FACTS.major


def test_a_snapshot_of_files_has_none():
    """Nor has one of another kind."""
    assert ClusterFacts.of(snapshot_with({})) is None
    assert ClusterFacts.of(snapshot_with({"kind": "postgres-logical"})) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("system_id", "seven"),
        ("method", "magic"),
        ("timeline", 0),
        ("timeline", 1 << 32),
        ("start_timeline", 4),
        ("start_lsn", "nowhere"),
        ("end_lsn", "0/1"),
        ("segment_bytes", 1000),
        ("corrupt_pages", "many"),
    ],
)
def test_damaged_facts_are_refused(name, value):
    """One clear error that names the snapshot; also for an end before the begin."""
    made = snapshot_with({**FACTS.to_snapshot(), name: value})
    with pytest.raises(ObjectCorruptError, match=made.name):
        ClusterFacts.of(made)


def test_missing_facts_are_refused():
    """Each one is needed."""
    for name in FACTS.to_snapshot():
        if name != "kind":
            left = {key: value for key, value in FACTS.to_snapshot().items() if key != name}
            with pytest.raises(ObjectCorruptError, match="facts of the cluster"):
                ClusterFacts.of(snapshot_with(left))
