"""How a cluster is named on the command line."""

from __future__ import annotations

from types import SimpleNamespace

import click
import pytest

from coffer.cli.clusters import cluster_options, find_cluster, find_clusters, slot_of_source, source_of_cluster
from coffer.cli.run import Run
from coffer.config.databases import default_slot
from coffer.errors import UsageError

POLICY = """\
databases: [primary, analytics, audit]
database_servers:
  primary:   {host: db1, port: 5433, user: backup, password_env: PG_WORD, sslmode: verify-full, sslrootcert: ca.pem}
  analytics: {host: db1, port: 5433, dbname: olap, locations: [second]}
  audit:     {dbname: audit}
local_backup:
  locations:
    first:  {path: one, retention: 30d}
    second: {path: two, retention: 30d}
"""


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    """None of the developer's own variables, and a password."""
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PG_WORD", "hunter2")


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """A policy with three databases on two servers, one of which is known to Airflow alone."""
    (tmp_path / "p.yaml").write_text(POLICY.replace(", locations: [second]", ""))
    monkeypatch.setenv("COFFER_POLICY", str(tmp_path / "p.yaml"))
    return tmp_path / "p.yaml"


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """No policy at all."""
    monkeypatch.setattr("coffer.config.loading.find_policy", lambda: tmp_path / "none.yaml")


def run(**where):
    """A run of some command, whose options name this repository."""
    return Run("pg doctor", as_json=False, quiet=False, verbose=False, where=where)


def found(**given):
    """The cluster that these options name."""
    return find_cluster(run(), given)


def test_a_database_of_the_policy_says_it_all(policy, tmp_path):
    """Address, role, password, TLS, slot, and what its snapshots are called."""
    cluster = found(source="primary")
    connection = cluster.connection
    assert ("db1", 5433, "backup", "hunter2", "postgres", "verify-full", str(tmp_path / "ca.pem")) == (
        connection.host,
        connection.port,
        connection.user,
        connection.password,
        connection.dbname,
        connection.sslmode,
        connection.sslrootcert,
    )
    assert ("primary", "coffer_primary", ("analytics",), ("postgres", "olap")) == (
        cluster.source,
        cluster.slot,
        cluster.tags,
        cluster.dbnames,
    )


def test_each_name_of_a_cluster_means_the_cluster(policy):
    """Its snapshots bear the first name."""
    assert found(source="primary") == found(source="analytics")


def test_options_go_before_the_policy(policy):
    """After a failover, say, another host; all else stays."""
    cluster = found(source="primary", host="db9", port=None, user="other", slot="mine")
    assert ("db9", 5433, "other", "mine", "primary") == (
        cluster.connection.host,
        cluster.connection.port,
        cluster.connection.user,
        cluster.slot,
        cluster.source,
    )


def test_a_server_needs_no_policy(nothing):
    """Host and role on the command line; the chain is named by the address unless it is given a name."""
    cluster = found(host="db1", user="backup")
    assert ("db1:5432", "coffer_db1_5432", None) == (cluster.source, cluster.slot, cluster.connection.password)
    named = found(host="/run/postgresql", source="main")
    assert ("main", "coffer_main", True) == (named.source, named.slot, named.connection.is_local)


def test_the_variables_of_libpq_count_where_no_policy_does(nothing, monkeypatch):
    """PGHOST, PGPORT, PGUSER, PGDATABASE, PGSSLMODE; an option goes before."""
    for name, value in {"HOST": "db7", "PORT": "6000", "USER": "u", "DATABASE": "d", "SSLMODE": "require"}.items():
        monkeypatch.setenv(f"PG{name}", value)
    connection = found(port=7000).connection
    assert ("db7", 7000, "u", "d", "require") == (
        connection.host,
        connection.port,
        connection.user,
        connection.dbname,
        connection.sslmode,
    )


def test_a_port_that_is_none_is_told(nothing, monkeypatch):
    """PGPORT is no option that the command line could check."""
    monkeypatch.setenv("PGPORT", "five")
    with pytest.raises(UsageError, match="PGPORT: 'five' is no port"):
        found(host="db1")


def test_nothing_that_is_named_is_told(nothing):
    """With what to give."""
    with pytest.raises(UsageError, match="no cluster is named") as caught:
        found()
    assert "--source NAME" in caught.value.hint


def test_a_name_that_the_policy_does_not_have_needs_a_host(policy):
    """A misspelt name is not taken for a new server."""
    with pytest.raises(UsageError, match="database 'primry': the policy has no such name"):
        found(source="primry")
    assert "primry" == found(source="primry", host="x").source


def test_a_database_that_only_airflow_can_reach_is_told(policy):
    """The policy has its name and not its address."""
    with pytest.raises(UsageError, match="database 'audit': the policy does not say where it is") as caught:
        found(source="audit")
    assert "database_servers.audit.host" in caught.value.hint
    assert "db3" == found(source="audit", host="db3").connection.host


def test_a_password_that_is_nowhere_is_told(policy, monkeypatch):
    """The variable that the policy names is not set."""
    monkeypatch.delenv("PG_WORD")
    with pytest.raises(UsageError, match="the variable PG_WORD is not set"):
        found(source="primary")


def test_a_database_goes_to_its_own_location(policy):
    """Unless another repository is named."""
    policy.write_text(POLICY.replace("  analytics: {host: db1,", "  analytics: {host: db2,"))
    at = run()
    find_cluster(at, {"source": "analytics"})
    assert "second" == at.where["location"]
    elsewhere = run(repo="/elsewhere")
    find_cluster(elsewhere, {"source": "analytics"})
    assert {"repo": "/elsewhere"} == elsewhere.where


def test_without_a_name_all_of_the_policy_are_meant(policy):
    """Each cluster once; a name, a host or PGHOST means one."""
    policy.write_text(policy.read_text().replace("{dbname: audit}", "{host: db2}"))
    assert ["primary", "audit"] == [cluster.source for cluster in find_clusters(run(), {})]
    assert ["audit"] == [cluster.source for cluster in find_clusters(run(), {"source": "audit"})]
    assert ["x:5432"] == [cluster.source for cluster in find_clusters(run(), {"host": "x"})]


def test_a_policy_without_databases_names_none(policy):
    """That is told, and not taken for success."""
    policy.write_text("databases: []\n")
    with pytest.raises(UsageError, match="no cluster is named"):
        find_clusters(run(), {})


def test_the_source_of_a_database_is_that_of_its_cluster(policy):
    """By the policy; a name that it does not have is taken as it is."""
    assert "primary" == source_of_cluster(run(), "analytics")
    assert "other" == source_of_cluster(run(), "other")


def test_without_a_policy_the_tags_of_the_snapshots_tell(nothing):
    """As on a new machine after a fire: `analytics` is in the backups of `primary`."""
    facts = {"kind": "postgres-cluster"}
    snapshots = [
        SimpleNamespace(source="primary", tags=("analytics",), facts=facts, finished_ns=1),
        SimpleNamespace(source="files", tags=("analytics",), facts={}, finished_ns=9),
        SimpleNamespace(source="second", tags=("analytics",), facts=facts, finished_ns=2),
    ]
    repository = SimpleNamespace(snapshots=lambda: snapshots)
    assert "second" == source_of_cluster(run(), "analytics", repository)
    assert "primary" == source_of_cluster(run(), "primary", repository)
    assert "nothing" == source_of_cluster(run(), "nothing", repository)


def test_a_slot_is_named_alike_with_and_without_a_policy():
    """Whoever moves from the command line to a policy keeps the slot."""
    for name in ("primary", "Main.DB-1", "x" * 63):
        assert default_slot(name) == slot_of_source(name)


def test_no_option_takes_a_password():
    """Every user of the machine could read it."""
    names = {flag for parameter in cluster_options() for flag in parameter.opts}
    assert {"--source", "--host", "--port", "--user", "-U", "--dbname", "--sslmode", "--slot"} == names
    assert all(isinstance(parameter, click.Option) and parameter.help for parameter in cluster_options())
