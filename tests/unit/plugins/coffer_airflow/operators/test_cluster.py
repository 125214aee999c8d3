"""Which cluster an operator works on."""

import pytest

from coffer.config import parse_policy
from coffer.errors import UsageError
from coffer_airflow.operators import DatabaseBackupOperator

TEXT = "databases: [a, b, c]\ndatabase_servers: {a: {host: x}, b: {host: x}, c: {host: y, slot: mine}}\n"


def cluster(tmp_path, **given):
    """The cluster of an operator with these arguments."""
    return DatabaseBackupOperator(task_id="t", **given).cluster(parse_policy(TEXT, tmp_path))


def test_each_name_of_a_server_means_the_server(tmp_path):
    """The snapshots bear its first name."""
    assert cluster(tmp_path, source="a") == cluster(tmp_path, source="b")
    assert ("a", ("a", "b")) == (cluster(tmp_path, source="b").source, cluster(tmp_path, source="b").names)


def test_names_that_the_servers_told_to_be_one_are_joined(tmp_path):
    """The source's own settings count."""
    joined = cluster(tmp_path, source="c", databases=["c", "a", "b"])
    assert ("c", ("c", "a", "b"), "mine") == (joined.source, joined.names, joined.slot)


def test_a_name_that_there_is_not_is_refused(tmp_path):
    """The message names those that there are."""
    for given in ({"source": "x"}, {"source": "a", "databases": ["x"]}):
        with pytest.raises(UsageError, match="database 'x': the policy has a, b, c"):
            cluster(tmp_path, **given)
