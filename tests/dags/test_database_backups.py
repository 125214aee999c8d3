"""The database DAGs, run to their end in this process, with real servers."""

import json

import pytest
from airflow.sdk.exceptions import ParamValidationError

from coffer.postgres.facts import ClusterFacts
from coffer_airflow.dag_defaults import policy_of_dags
from tests.harness.airflow_runs import make_database, parse_dags, run_dag
from tests.harness.databases import PASSWORD, PASSWORD_ENV, fill, name_databases
from tests.harness.installation import closed_window
from tests.harness.postgres import free_port, installations, servers_of

pytestmark = [pytest.mark.e2e, pytest.mark.postgres]
BY_HAND = {"ignore_window": True, "proof_budget": "30s"}


@pytest.fixture(scope="module")
def servers():
    """Makes servers of the newest version that is here; all are stopped and removed at the end."""
    with servers_of(installations()[-1]) as made:
        yield made


@pytest.fixture
def shop(servers):
    """A server with two databases, `postgres` and `olap`, and rows in both."""
    server = servers.start()
    fill(server)
    server.sql("CREATE DATABASE olap")
    fill(server, "cubes", dbname="olap")
    yield server
    server.close()


@pytest.fixture
def books(servers):
    """Another server."""
    server = servers.start()
    fill(server, "entries")
    yield server
    server.close()


@pytest.fixture
def databases(installation, shop, books, monkeypatch):
    """The policy's databases: `primary` and `analytics` on one server, `audit` on another."""
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    monkeypatch.setenv("COFFER_PG_BIN", str(shop.installation.programs))
    name_databases(installation, {"primary": shop, "analytics": shop, "audit": books})
    policy_of_dags.cache_clear()
    return installation


def dag(dag_id):
    """A DAG by the policy as it is now."""
    make_database()
    return parse_dags().dags[dag_id]


def run_full(**params):
    """Run full backups by hand."""
    return run_dag(dag("database_full_backup"), **{**BY_HAND, **params})


def run_incremental(**params):
    """Run incremental backups by hand."""
    return run_dag(dag("database_incremental_backup"), **{**BY_HAND, **params})


def snapshots(made):
    """Facts of each snapshot, by source."""
    with made.opened() as repository:
        return [(snapshot.source, ClusterFacts.of(snapshot)) for snapshot in repository.snapshots()]


def test_full_and_incremental_backups_are_made_and_proved(databases, shop, books, capfd):
    """Each server once, whatever the number of its names; each snapshot restored, started and compared."""
    state, returned, states = run_full(check="data")
    assert "success" == state, states
    assert [("primary", ["primary", "analytics"]), ("audit", ["audit"])] == [
        (backup["source"], backup["databases"]) for backup in returned["execute_backup"]
    ]
    assert ["proved", "proved"] == [proof["verdict"] for proof in returned["verify_backup"]]
    assert [True] == [check["ok"] for check in returned["check"]]
    shop.sql("UPDATE orders SET note = 'other' WHERE id % 10 = 0")
    books.sql("INSERT INTO entries SELECT n, 'new' FROM generate_series(5000, 5100) n")
    state, returned, states = run_incremental()
    assert "success" == state, states
    assert {"primary": "delta", "audit": "delta"} == returned["report"][0]["methods"]
    assert [[], []] == [backup["notes"] for backup in returned["execute_backup"]]
    assert ["proved", "proved"] == [proof["verdict"] for proof in returned["verify_backup"]]
    assert ["audit", "audit", "primary", "primary"] == sorted(source for source, _ in snapshots(databases))
    logged = "".join(capfd.readouterr()) + json.dumps(returned)
    assert PASSWORD not in logged
    assert databases.key_file.read_text().split()[1] not in logged


def test_two_addresses_of_one_server_are_one_backup(databases, shop):
    """The policy cannot see it; the server tells. `audit` is a copy of it, and another server all the same."""
    text = databases.policy.read_text()
    databases.policy.write_text(text.replace("analytics: {host: 127.0.0.1,", "analytics: {host: localhost,"))
    state, returned, _ = run_full(drill=False)
    assert "success" == state
    assert ["primary", "audit"] == [backup["source"] for backup in returned["execute_backup"]]
    assert ["primary", "analytics"] == returned["execute_backup"][0]["databases"]


def test_the_first_incremental_is_a_full_backup(databases):
    """It says so in its notes, and can be proved like any other."""
    state, returned, _ = run_incremental(databases=["audit"])
    (backup,) = returned["execute_backup"]
    assert ("success", "full", ["pg-incr-refused"]) == (state, backup["method"], backup["notes"])
    assert ["proved"] == [proof["verdict"] for proof in returned["verify_backup"]]


def test_a_method_of_the_form_goes_before_the_policys(databases, books):
    """WAL alone makes no snapshot; what it saved is proved with the newest one."""
    run_full(databases=["audit"], drill=False)
    books.sql("INSERT INTO entries SELECT n, 'new' FROM generate_series(5000, 5100) n")
    state, returned, _ = run_incremental(databases=["audit"], method="wal", drill=False)
    assert ("success", [None], ["wal"]) == (
        state,
        [backup["snapshot"] for backup in returned["execute_backup"]],
        [backup["method"] for backup in returned["execute_backup"]],
    )
    assert [] == returned["report"][0]["snapshots"]


def test_a_server_that_is_away_does_not_keep_the_others_from_being_saved(databases, shop, books):
    """The other one is saved, checked and proved, and the run fails all the same."""
    text = databases.policy.read_text()
    databases.policy.write_text(text.replace(f"port: {books.port}", f"port: {free_port()}"))
    full = dag("database_full_backup")
    for task in full.tasks:
        task.retries = 0  # its pauses would last minutes
    state, _, states = run_dag(full, **BY_HAND)
    assert "failed" == state
    assert ["success", "failed"] == states["execute_backup"]
    assert (["success"], ["success"]) == (states["check"], states["verify_backup"])
    assert ["primary"] == [source for source, _ in snapshots(databases)]


def test_the_form_chooses_databases(databases):
    """By any name of a server; the snapshots bear the first one."""
    state, returned, _ = run_full(databases=["analytics"], drill=False)
    assert ("success", ["primary"]) == (state, [backup["source"] for backup in returned["execute_backup"]])


def test_dumps_that_the_policy_asks_for_are_made(databases):
    """Besides the physical backup, as a chain of their own."""
    text = databases.policy.read_text()
    databases.policy.write_text(text.replace("audit: {", "audit: {logical: {enabled: true}, "))
    state, returned, states = run_full(drill=False)
    assert ("success", ["audit-logical"]) == (state, [dump["source"] for dump in returned["dump"]]), states


def test_wal_is_saved_from_the_first_backup_on(databases, shop, books):
    """Before it each task is skipped; after it everything written up to the run is in the repository."""
    state, _, states = run_dag(dag("wal_archive"))
    assert ("success", ["skipped", "skipped"]) == (state, states["save_wal"])
    run_full(drill=False)
    shop.sql("INSERT INTO orders SELECT n, 'new' FROM generate_series(5000, 5100) n")
    state, returned, _ = run_dag(dag("wal_archive"))
    assert ("success", ["primary", "audit"]) == (state, [saved["source"] for saved in returned["save_wal"]])
    for server, saved in zip((shop, books), returned["save_wal"], strict=True):
        at = server.value("SELECT restart_lsn FROM pg_replication_slots")
        assert saved["end_lsn"] == at


def test_a_run_by_hand_outside_the_window_fails_at_once(databases):
    """Without leave nothing is done, and nothing is tried again. WAL is saved at any time."""
    schedule, window = closed_window()
    with databases.policy.open("a") as file:
        file.write(f'filesystem_backup: {{schedule: "{schedule}"}}\n')
        file.write(f'schedule: {{full: "{schedule}", incremental: "{schedule}"}}\n')
        file.write(f'performance_config: {{scheduling: {{backup_window: "{window}"}}}}\n')
    state, returned, states = run_full(ignore_window=False)
    assert ("failed", ["failed"]) == (state, states["plan"])
    assert "execute_backup" not in returned
    assert "success" == run_dag(dag("wal_archive"))[0]


def test_a_policy_without_databases_skips(installation):
    """Nothing to do is no failure."""
    for run in (run_full, run_incremental):
        state, _, states = run()
        assert ("success", ["skipped"]) == (state, states["plan"])


def test_a_misspelt_key_of_the_conf_fails_the_plan(databases):
    """It is not passed over: nothing is backed up."""
    state, _, states = run_full(database=["audit"])
    assert ("failed", ["failed"]) == (state, states["plan"])


@pytest.mark.parametrize("wrong", [{"databases": ["nothing"]}, {"check": "deep"}, {"drill": "perhaps"}])
def test_a_form_that_is_filled_in_wrongly_is_refused(databases, wrong):
    """Before anything runs."""
    with pytest.raises(ParamValidationError):
        run_full(**wrong)
