"""DatabaseDumpOperator: the databases that the policy asks for, as a logical backup besides the physical one."""

import json

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from coffer_airflow.operators import DatabaseDumpOperator
from tests.harness.databases import fill

pytestmark = pytest.mark.postgres


def dump():
    """Run an operator as a task does."""
    return DatabaseDumpOperator(task_id="dump", source="primary").execute({})


def test_what_the_policy_asks_for_is_dumped(databases, server):
    """As a snapshot of a chain of its own; the XCom is ids and sizes."""
    fill(server)
    text = databases.policy.read_text()
    databases.policy.write_text(text.replace("user: backup,", "user: backup, logical: {enabled: true},"))
    done = dump()
    with databases.opened() as repository:
        (snapshot,) = repository.snapshots()
    assert (snapshot.id, "primary-logical", ["postgres"], True) == (
        done["snapshot"],
        done["source"],
        done["databases"],
        done["complete"],
    )
    assert done["size_bytes"] > 100_000
    assert done == json.loads(json.dumps(done))


def test_without_a_word_of_the_policy_none_is_made(databases, server):
    """It is skipped."""
    with pytest.raises(AirflowSkipException, match="primary: the policy asks for no dump"):
        dump()
