"""`coffer pg doctor`: each check a line, what to do below it, and an exit code that says the worst."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coffer.config import parse_policy
from coffer.postgres.lsn import Lsn
from coffer.sources.postgres import doctor as examination
from coffer.sources.postgres.replication import SystemIdentity
from tests.harness.postgres import PASSWORD, free_port, installations, servers_of

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server():
    """A server that nothing is wrong with."""
    with servers_of(installations()[-1]) as servers:
        made = servers.start(max_slot_wal_keep_size="1GB")
        made.sql("GRANT pg_read_all_data TO backup")
        yield made


@pytest.fixture
def doctor(coffer, monkeypatch, tmp_path):
    """A function that runs the command; no policy but one that the test writes."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("coffer.config.loading._PROJECT", tmp_path)

    def run(*arguments):
        return coffer("pg", "doctor", *arguments)

    return run


def at(server, user="backup"):
    """The options that name a server."""
    return ("--host", "127.0.0.1", "--port", server.port, "--user", user)


def test_a_server_that_is_well_ends_with_0(doctor, server):
    """A line for each check, no hint, nothing on standard error."""
    ended = doctor(*at(server))
    assert (0, "") == (ended.code, ended.err)
    assert f"127.0.0.1:{server.port}, slot coffer_127_0_0_1_{server.port}" in ended.out
    assert "  ok    wal_level" in ended.out
    assert "HINT" not in ended.out
    assert "checks: 0 failed, 0 warnings" in ended.out


def test_warnings_alone_end_with_3(doctor, server):
    """Each with what to do."""
    server.sql("CREATE UNLOGGED TABLE cart (a int)")
    try:
        warned = doctor(*at(server))
    finally:
        server.sql("DROP TABLE cart")
    assert (3, "") == (warned.code, warned.err)
    assert "  warn  unlogged_tables" in warned.out
    assert "HINT: If their content matters" in warned.out
    assert "0 failed, 1 warning" in warned.out


def test_a_failure_ends_with_1(doctor, server):
    """The first of them and its hint stand on standard error too."""
    ended = doctor(*at(server, user="plain"))
    code, line, hint = ended.fault()
    assert (1, "2 checks failed, the first of them role") == (code, line)
    assert hint.startswith("As a superuser of the server: ALTER ROLE")
    assert "  fail  replication" in ended.out


def test_a_server_that_does_not_answer_is_a_failure(doctor):
    """One check, and no traceback."""
    ended = doctor("--host", "127.0.0.1", "--port", free_port(), "--user", "backup")
    assert (1, "1 check failed, the first of them reachable") == ended.fault()[:2]


def test_the_same_as_json(doctor, server):
    """By check, with verdict, finding and hint."""
    result = doctor(*at(server), "--source", "main", "--slot", "mine", "--json").result
    (cluster,) = result["clusters"]
    assert ("main", f"127.0.0.1:{server.port}", "mine", "ok") == (
        cluster["source"],
        cluster["server"],
        cluster["slot"],
        cluster["verdict"],
    )
    checks = {check["check"]: check for check in cluster["checks"]}
    assert ("ok", "replica", None) == tuple(checks["wal_level"][key] for key in ("verdict", "found", "hint"))
    failed = doctor(*at(server, user="plain"), "--json")
    assert ("not-fit", "fail") == (failed.envelope["error"]["code"], failed.result["clusters"][0]["verdict"])


def test_without_a_name_the_whole_policy_is_examined(doctor, server, tmp_path, monkeypatch):
    """Each server once, by the policy's method and with its password; what is not there is told."""
    policy = tmp_path / "p.yaml"
    reach = f"host: 127.0.0.1, port: {server.port}, user: backup, password_env: PG_WORD"
    policy.write_text(
        "databases: [a, b, c]\ndatabase_servers:\n"
        f"  a: {{{reach}}}\n  b: {{host: 127.0.0.1, port: {server.port}, dbname: nowhere}}\n"
        f"  c: {{host: 127.0.0.1, port: {free_port()}, user: backup}}\n"
    )
    assert 2 == len(parse_policy(policy.read_text(), tmp_path).clusters)
    monkeypatch.setenv("COFFER_POLICY", str(policy))
    monkeypatch.setenv("PG_WORD", PASSWORD)
    monkeypatch.delenv("PGPASSWORD")
    ended = doctor("--json")
    assert 1 == ended.code
    first, second = ended.result["clusters"]
    assert ("a", ["databases"]) == (
        first["source"],
        [check["check"] for check in first["checks"] if check["verdict"] == "fail"],
    )
    assert ("c", ["reachable"]) == (second["source"], [check["check"] for check in second["checks"]])


def test_nothing_is_changed_on_the_server(doctor, server):
    """No slot is made, no setting is touched."""
    before = server.sql("SELECT count(*), (SELECT count(*) FROM pg_settings WHERE source = 'override') FROM pg_roles")
    doctor(*at(server))
    assert before == server.sql(
        "SELECT count(*), (SELECT count(*) FROM pg_settings WHERE source = 'override') FROM pg_roles"
    )
    assert [] == server.sql("SELECT slot_name FROM pg_replication_slots")


def test_what_the_server_says_cannot_reach_the_terminal_as_it_is(doctor, server, monkeypatch):
    """A hostile server's words are escaped."""
    facts = examination.server_facts

    def hostile(target):
        found = facts(target)
        return replace(found, version_text="\x1b[2J18", identity=SystemIdentity(1, 1, Lsn(1)))

    monkeypatch.setattr(examination, "server_facts", hostile)
    ended = doctor(*at(server))
    assert "\x1b" not in ended.out
    assert "\\x1b[2J18" in ended.out


def test_without_any_name_it_is_a_usage_error(doctor):
    """With what to give."""
    code, line, hint = doctor().fault()
    assert (2, "no cluster is named") == (code, line)
    assert "--host" in hint
