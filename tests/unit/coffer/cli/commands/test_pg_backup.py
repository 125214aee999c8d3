"""`coffer pg backup`: what it tells, what it takes from the policy, and how it refuses."""

from __future__ import annotations

import pytest

from coffer.cli.commands import pg
from coffer.cli.commands.pg_backup import COMMAND, _options
from coffer.cli.run import Run
from coffer.config.databases import DatabaseServer, clusters_of
from coffer.postgres.facts import Method
from tests.harness.postgres import PASSWORD, free_port, installations, servers_of

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server():
    with servers_of(installations()[-1]) as servers:
        yield servers.start()


@pytest.fixture
def back_up(coffer, repo, monkeypatch, tmp_path):
    """A function that runs the command against the repository of the test; no policy is near."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("coffer.config.loading._PROJECT", tmp_path)

    def run(port, *arguments, user="backup"):
        return coffer("pg", "backup", "--host", "127.0.0.1", "--port", port, "--user", user, *arguments)

    return run


def given(**changes):
    """The values of the options, where none was written."""
    found = dict.fromkeys(("method", "max_rate", "max_duration", "prove"))
    return {**found, "spread_checkpoint": False, "prove_first": (), **changes}


def run_of():
    return Run("pg backup", as_json=False, quiet=True, verbose=False, where={})


def test_a_backup_tells_what_it_did(back_up, server, coffer):
    """The first is full and says so; the second stores what changed; both are in the list of snapshots."""
    first = back_up(server.port, "--source", "main")
    assert 0 == first.code
    assert "no snapshot to compare with: this one is full" in first.err
    assert ", full" in first.out.splitlines()[0]
    server.sql("CREATE TABLE later AS SELECT generate_series(1, 1000) AS n")
    second = back_up(server.port, "--source", "main", "--tag", "nightly", "--json").result
    assert "delta" == second["snapshot"]["facts"]["method"]
    assert ["nightly"] == second["snapshot"]["tags"]
    stats = second["snapshot"]["stats"]
    assert 0 < stats["pages_changed"] < stats["pages_read"] / 4
    assert 2 == len(coffer("snapshots", "--json").result["snapshots"])


def test_a_wrong_password_is_one_clear_error(back_up, server, monkeypatch, coffer):
    """Exit 1, a hint, no traceback, and no password in any line."""
    monkeypatch.setenv("PGPASSWORD", "quite wrong")
    ended = back_up(server.port, "--source", "main")
    assert 1 == ended.code
    assert "HINT" in ended.err
    assert "Traceback" not in ended.err
    assert "quite wrong" not in ended.err + ended.out
    assert [] == coffer("snapshots", "--json").result["snapshots"]


def test_a_role_without_replication_is_told_what_it_lacks(back_up, server):
    """The message names the right, and nothing is stored."""
    ended = back_up(server.port, "--source", "main", user="plain")
    assert 1 == ended.code
    assert "REPLICATION" in ended.err


def test_a_host_that_nobody_answers_at_is_named(back_up):
    """With its port."""
    port = free_port()
    ended = back_up(port, "--source", "main")
    assert 1 == ended.code
    assert f"127.0.0.1:{port}" in ended.err


def test_no_cluster_named_is_a_usage_error(coffer, repo, monkeypatch, tmp_path):
    """The hint says how to name one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("coffer.config.loading._PROJECT", tmp_path)
    ended = coffer("pg", "backup")
    assert 2 == ended.code
    assert "--host" in ended.err


def test_what_no_option_says_is_the_policys():
    """Method, rate, checkpoint and proof; an option goes before."""
    known = {
        "method": "native",
        "max_rate": "10MB/s",
        "fast_checkpoint": False,
        "proof": {"budget": "2m", "tables": []},
    }
    (cluster,) = clusters_of(["main"], {"main": DatabaseServer(host="db", **known)})
    options = _options(run_of(), given(), cluster, 0.0)
    assert (Method.NATIVE, 10_000_000, False) == (
        options.method,
        options.max_rate_bytes_s,
        options.fast_checkpoint,
    )
    assert 120 == options.proof_budget_s
    changed = _options(run_of(), given(method="full", max_rate=5, prove=0.0), cluster, 0.0)
    assert (Method.FULL, 5, 0.0) == (changed.method, changed.max_rate_bytes_s, changed.proof_budget_s)


def test_without_a_policy_delta_is_the_method_and_nothing_is_proved():
    """The safest of the incremental ones."""
    options = _options(run_of(), given(max_duration=60.0), None, 5.0)
    assert (Method.DELTA, 0.0, 65.0) == (options.method, options.proof_budget_s, options.deadline_s)
    assert options.fast_checkpoint


def test_the_group_names_every_command_as_it_is():
    """`coffer pg --help` loads no command, so its texts are compared here with the commands' own."""
    for name, text in pg.COMMANDS.items():
        command = pg.COMMAND.get_command(None, name)
        assert name == command.name
        assert text == command.help.splitlines()[0]
    assert pg.COMMAND.get_command(None, "none") is None
    assert COMMAND is pg.COMMAND.get_command(None, "backup")


def test_a_misspelt_command_of_the_group_names_the_nearest(coffer, repo):
    """As those of the program itself do."""
    ended = coffer("pg", "restor")
    assert 2 == ended.code
    assert "did you mean 'restore'?" in ended.err
