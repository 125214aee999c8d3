"""The databases of the policy: which are one cluster, and which entries contradict each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from coffer.config import parse_policy
from coffer.config.databases import default_slot, join_clusters
from coffer.config.validation import examine

ROOT = Path("/srv/project")


def conflicts(text):
    """Key and problem of every mistake of a policy's text."""
    return [(mistake.key, mistake.problem) for mistake in examine(text, ROOT)[1]]


def clusters(text):
    """The clusters of a policy's text."""
    return parse_policy(text, ROOT).clusters


THREE = """
databases: [primary, analytics, audit]
database_servers:
  primary:   {host: db1, user: backup, tags: [shop]}
  analytics: {host: DB1, dbname: olap, tags: [cubes]}
  audit:     {host: db2, port: 5433, slot: mine, connection: audit_db}
"""


def test_names_at_one_address_are_one_cluster():
    """It bears the first name; its tags tell the others. Upper and lower case are one host."""
    one, two = clusters(THREE)
    assert ("primary", ("primary", "analytics"), ("postgres", "olap")) == (one.source, one.names, one.dbnames)
    assert (("analytics", "shop", "cubes"), "coffer_primary", "coffer_primary") == (one.tags, one.slot, one.connection)
    assert ("audit", ("audit",), "mine", "audit_db") == (two.source, two.names, two.slot, two.connection)
    assert "primary, analytics" == one.label


def test_a_cluster_is_found_by_each_of_its_names():
    """And no other."""
    policy = parse_policy(THREE, ROOT)
    assert "primary" == policy.cluster("analytics").source
    with pytest.raises(KeyError):
        policy.cluster("olap")


def test_the_names_alone_are_a_policy():
    """The block of the specification works as it stands: each name is a connection of its own."""
    found = clusters("databases: [primary, analytics, audit]")
    assert ["coffer_primary", "coffer_analytics", "coffer_audit"] == [cluster.connection for cluster in found]
    assert [None] * 3 == [cluster.server.host for cluster in found]


def test_names_with_one_connection_are_one_cluster():
    """An Airflow connection that two entries name is one server too."""
    text = "databases: [a, b]\ndatabase_servers: {a: {connection: x}, b: {connection: x}}"
    assert [("a", "b")] == [cluster.names for cluster in clusters(text)]


def test_clusters_that_turn_out_to_be_one_are_joined():
    """The first one's settings count, and the names and tags of all are told, each once."""
    one, two = clusters(THREE)
    joined = join_clusters([two, one])
    assert ("audit", ("audit", "primary", "analytics"), "mine") == (joined.source, joined.names, joined.slot)
    assert ("primary", "analytics", "shop", "cubes") == joined.tags


@pytest.mark.parametrize(
    ("name", "expected"),
    [("primary", "coffer_primary"), ("Main.DB-1", "coffer_main_db_1"), ("x" * 63, "coffer_" + "x" * 56)],
)
def test_a_slot_has_a_name_that_postgresql_takes(name, expected):
    """Small letters, digits and _, 63 at most."""
    assert expected == default_slot(name)


def test_defaults_are_gentle_and_correct():
    """Pages are compared, ten minutes of proof, no limit of speed, all locations."""
    server = clusters("databases: [a]")[0].server
    assert ("delta", 600, None, True, None, 5432) == (
        server.method,
        server.proof.budget,
        server.max_rate,
        server.fast_checkpoint,
        server.locations,
        server.port,
    )


def test_dumps_are_of_the_databases_that_ask_for_them():
    """The database of each name, or those that are listed; each once; by default none."""
    text = """
databases: [a, b, c]
database_servers:
  a: {host: x, logical: {enabled: true, jobs: 4}}
  b: {host: x, dbname: shop, logical: {enabled: true, databases: [shop, postgres, cms]}}
  c: {host: x, dbname: other, logical: {jobs: 9}}
"""
    (cluster,) = clusters(text)
    assert (("postgres", "shop", "cms"), 4) == (cluster.dumped, cluster.dump_jobs)
    assert () == clusters("databases: [a]")[0].dumped


def test_a_server_goes_to_its_own_locations():
    """As a source does."""
    text = "local_backup: {locations: {one: {path: a, retention: 30d}, two: {path: b, retention: 30d}}}\n"
    policy = parse_policy(text + "databases: [a]\ndatabase_servers: {a: {locations: [two]}}", ROOT)
    assert ["two"] == [location.name for location in policy.locations_of(policy.cluster("a").server)]


@pytest.mark.parametrize(
    ("entry", "key", "problem"),
    [
        ("port: 0", "port", "too small"),
        ("port: 65536", "port", "too large"),
        ("host: 'a b'", "host", "not a host"),
        ("host: postgres://x", "host", "not a host"),
        ("method: full", "method", "not one of the words allowed"),
        ("sslmode: on", "sslmode", "not one of the words allowed"),
        ("max_rate: 1kB/s", "max_rate", "less than 32KiB/s"),
        ("max_rate: 2GB/s", "max_rate", "more than 1GiB/s"),
        ("slot: Mine", "slot", "not a name of a replication slot"),
        ("connection: a/b", "connection", "not the id of a connection"),
        ("password_env: hunter2", "password_env", "not usable"),
        ("password: hunter2", "password", "unknown key"),
        ("user: ''", "user", "not a name in PostgreSQL"),
        ("proof: {budget: 10}", "proof.budget", "a number without a unit"),
        ("proof: {tables: [orders]}", "proof.tables[0]", "not a table with its schema"),
        ("logical: {jobs: 0}", "logical.jobs", "too small"),
        ("locations: [nowhere]", "locations[0]", "there is no such name under local_backup.locations"),
        ("password_env: A, password_file: b", "password_file", "two passwords are named"),
    ],
)
def test_a_value_that_cannot_be_meant_is_found(entry, key, problem):
    """With its key, and never with a password."""
    text = f"databases: [a]\ndatabase_servers: {{a: {{{entry}}}}}"
    assert [(f"database_servers.a.{key}", problem)] == conflicts(text)
    assert "hunter2" not in str(examine(text, ROOT)[1])


@pytest.mark.parametrize("host", ["10.0.0.5", "::1", "fe80::1%eth0", "db-1.example.com", "/run/postgresql"])
def test_a_host_is_a_name_an_address_or_a_folder(host):
    """As libpq takes them."""
    assert [] == conflicts(f"databases: [a]\ndatabase_servers: {{a: {{host: '{host}'}}}}")


def test_a_server_that_no_database_is_on_is_found():
    """The names of both lists must fit."""
    (mistake,) = examine("databases: [primary]\ndatabase_servers: {primry: {host: a}}", ROOT)[1]
    assert ("database_servers.primry", "there is no such name under databases") == (mistake.key, mistake.problem)
    assert "a name under databases: primary" == mistake.allowed
    (mistake,) = examine("database_servers: {primary: {host: a}}", ROOT)[1]
    assert "a name under databases; there is none" == mistake.allowed


def test_a_source_and_a_database_do_not_share_a_name():
    """Their snapshots would be one chain."""
    text = "sources: [{name: audit, paths: [/x]}]\ndatabases: [audit]"
    assert [("sources[0].name", "a database has the same name")] == conflicts(text)


@pytest.mark.parametrize(
    ("first", "second", "keys"),
    [
        ("host: a", "host: a, slot: other", ["slot"]),
        ("host: a", "host: a, slot: coffer_one", []),
        ("host: a, slot: mine", "host: a, slot: mine", []),
        ("host: a", "host: a, method: native", ["method"]),
        ("host: a, method: native", "host: a", []),
        ("host: a", "host: a, connection: x", ["connection"]),
        ("host: a", "host: a, connection: coffer_one", []),
        ("host: a, user: u", "host: A, user: v, max_rate: 1MB/s", ["max_rate", "user"]),
        ("host: a", "host: a, dbname: x, tags: [y], logical: {enabled: true}", []),
        ("host: a", "host: a, port: 5433, slot: other", []),
        ("host: a", "host: b, slot: other", []),
        ("connection: x", "connection: x, slot: other", ["slot"]),
        ("slot: mine", "slot: other", []),
    ],
)
def test_names_on_one_server_do_not_contradict_each_other(first, second, keys):
    """One backup holds both, so it is made in one way; what differs in the second is told."""
    text = f"databases: [one, two]\ndatabase_servers:\n  one: {{{first}}}\n  two: {{{second}}}\n"
    expected = [
        (f"database_servers.two.{key}", f"differs from database_servers.one.{key}, and both are one server")
        for key in keys
    ]
    assert expected == sorted(conflicts(text))


@pytest.mark.parametrize(
    "value", ["5", "x", "[a]", "{a: 5}", "{a: {host: 5}}", "{a: {port: x}}", "{a: {connection: [x]}}", "{a: }"]
)
def test_what_has_the_wrong_form_does_not_hide_the_rest(value):
    """It is a mistake of its own, told at its own key."""
    found = conflicts(f"databases: [a, b]\ndatabase_servers: {value}\n")
    assert found
    assert all(key.startswith("database_servers") for key, _ in found)
