"""The hook: from an Airflow connection, or the policy, to a PostgreSQL cluster."""

import json

import pytest

from coffer.config import parse_policy
from coffer.errors import UsageError
from coffer.errors_postgres import PostgresUnavailableError
from coffer_airflow.hooks import ClusterHook
from tests.harness.postgres import PASSWORD, free_port

CONNECTION = "AIRFLOW_CONN_COFFER_PRIMARY"


def connection(**fields):
    """The value of an AIRFLOW_CONN_... variable: a connection of type Postgres with these fields."""
    return json.dumps({"conn_type": "postgres", **fields})


@pytest.fixture
def hook(tmp_path):
    """A function that makes the hook of a database with this entry in the policy."""

    def make(entry=""):
        text = f"databases: [primary]\ndatabase_servers: {{primary: {{{entry}}}}}\n"
        return ClusterHook(parse_policy(text, tmp_path).clusters[0])

    return make


def test_without_a_connection_the_policy_says_it_all(hook, tmp_path, monkeypatch):
    """`coffer_NAME` need not exist."""
    monkeypatch.setenv("PG_WORD", "hunter2-of-the-policy")
    target = hook(
        "host: db1, port: 6000, user: u, dbname: d, sslmode: verify-ca, sslrootcert: ca.pem, password_env: PG_WORD"
    ).target
    assert ("db1", 6000, "u", "d", "verify-ca", str(tmp_path / "ca.pem"), "hunter2-of-the-policy") == (
        target.host,
        target.port,
        target.user,
        target.dbname,
        target.sslmode,
        target.sslrootcert,
        target.password,
    )


def test_a_connection_goes_before_the_policy(hook, monkeypatch):
    """Host, port, login, password, database and TLS; what it leaves empty, the policy says."""
    extra = {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}
    monkeypatch.setenv(
        CONNECTION, connection(host="db9", port=7000, login="x", password="y-word", schema="z", extra=extra)
    )
    target = hook("host: db1, port: 6000, user: u, dbname: d").target
    assert ("db9", 7000, "x", "y-word", "z", "verify-full", "/ca.pem") == (
        target.host,
        target.port,
        target.user,
        target.password,
        target.dbname,
        target.sslmode,
        target.sslrootcert,
    )
    monkeypatch.setenv(CONNECTION, connection(login="x", password="y-word"))
    target = hook("host: db1, port: 6000, user: u, dbname: d").target
    assert ("db1", 6000, "x", "y-word", "d", "") == (
        target.host,
        target.port,
        target.user,
        target.password,
        target.dbname,
        target.sslmode,
    )


def test_a_port_of_the_policy_is_not_that_of_another_host(hook, monkeypatch):
    """A connection with a host and without a port means that host's own port."""
    monkeypatch.setenv(CONNECTION, connection(host="db9", port=5432))
    assert ("db9", 5432) == (hook("host: db1, port: 6000").target.host, hook("host: db1, port: 6000").target.port)


def test_tls_is_asked_for_unless_the_host_is_local(hook, monkeypatch):
    """TLS 1.3 at least, as everywhere."""
    monkeypatch.setenv(CONNECTION, connection(host="db9"))
    assert ("require", "TLSv1.3") == tuple(
        hook().target.parameters()[name] for name in ("sslmode", "ssl_min_protocol_version")
    )
    monkeypatch.setenv(CONNECTION, connection(host="/run/postgresql"))
    assert "ssl_min_protocol_version" not in hook().target.parameters()


def test_an_address_that_nobody_says_is_told(hook):
    """With both ways to say it."""
    with pytest.raises(
        UsageError, match="database 'primary': neither the connection coffer_primary nor the policy"
    ) as e:
        _ = hook().target
    assert "Admin > Connections" in e.value.hint
    assert "database_servers.primary.host" in e.value.hint


def test_a_connection_that_the_policy_names_must_exist(hook):
    """A misspelt one does not silently become the policy's own address."""
    with pytest.raises(UsageError, match="connection 'shop': does not exist"):
        _ = hook("host: db1, connection: shop").target


def test_a_connection_of_another_type_is_refused(hook, monkeypatch):
    """Its fields mean other things."""
    monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "mysql", "host": "db9"}))
    with pytest.raises(UsageError, match="connection 'coffer_primary': is of type mysql"):
        _ = hook("host: db1").target


def test_what_is_not_used_of_the_extra_is_told(hook, monkeypatch, capfd):
    """A client certificate, say: silence would mean that it is used. Names only, never what they hold."""
    extra = {"sslcert": "/secret-place", "sslmode": "require", "cursor": "dictcursor"}
    monkeypatch.setenv(CONNECTION, connection(host="db9", extra=extra))
    _ = hook().target
    said = "".join(capfd.readouterr())
    assert "not used of its extra: sslcert" in said
    assert "secret-place" not in said


def test_the_password_is_masked(hook, monkeypatch):
    """Airflow's masker hides it wherever it would be logged, from wherever it came."""
    from airflow.sdk._shared.secrets_masker import redact

    monkeypatch.setenv("PG_WORD", "planted-password-0815")
    assert "planted" not in repr(hook("host: db1, password_env: PG_WORD").target)
    assert "planted" not in str(redact("the password is planted-password-0815"))


def test_a_server_is_asked_which_one_it_is(hook, server, monkeypatch):
    """Any role may ask; the button of a form says the same, and never raises."""
    shown = server.must("pg_controldata", "-D", server.data)
    for login in ("backup", "plain"):
        monkeypatch.setenv(CONNECTION, connection(host="127.0.0.1", port=server.port, login=login, password=PASSWORD))
        found = hook().instance()
        assert f"system identifier:           {found.system_id}" in shown
        assert (True, f"127.0.0.1:{server.port}: system identifier {found.system_id}") == hook().test_connection()
    opened = hook().get_conn()
    with opened.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert ("plain",) == cursor.fetchone()
    opened.close()


def test_two_addresses_of_a_server_are_one_and_a_copy_is_another(hook, servers, server, monkeypatch):
    """Servers made of one data folder have one system identifier, and content of their own each."""
    copy = servers.start()
    found = []
    for host, port in (("127.0.0.1", server.port), ("localhost", server.port), ("127.0.0.1", copy.port)):
        monkeypatch.setenv(CONNECTION, connection(host=host, port=port, login="backup", password=PASSWORD))
        found.append(hook().instance())
    assert found[0] == found[1] != found[2]
    assert 1 == len({instance.system_id for instance in found})


def test_a_server_that_does_not_answer_is_told(hook, monkeypatch):
    """As the error tree says; the button shows it with the hint."""
    monkeypatch.setenv(CONNECTION, connection(host="127.0.0.1", port=free_port(), login="backup"))
    with pytest.raises(PostgresUnavailableError):
        hook().instance()
    well, message = hook().test_connection()
    assert not well
    assert "HINT: " in message
