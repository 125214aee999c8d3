"""What a run of a database DAG is to do: which clusters, by which method, until when."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from coffer.config import parse_policy
from coffer.errors_postgres import PostgresUnavailableError
from coffer_airflow.dag_defaults import policy_of_dags
from coffer_airflow.database_planning import (
    FULL_FORM,
    INCREMENTAL_FORM,
    clusters_at_hand,
    identified,
    plan_backups,
    plan_drains,
    plan_drills,
    plan_dumps,
    plan_full,
    plan_incremental,
    plan_wal,
    summarise_backups,
)
from coffer_airflow.hooks.cluster import ServerInstance

TEXT = """\
timezone: Europe/Paris
databases: [primary, analytics, audit]
database_servers:
  primary:   {host: db1, method: native}
  analytics: {host: db1, dbname: olap}
  audit:     {host: db2, proof: {budget: 30s}, locations: [second]}
local_backup:
  locations:
    first:  {path: one, retention: "30d", frequency: "daily"}
    second: {path: two, retention: "90d", frequency: "weekly"}
performance_config:
  concurrency: {max_workers: 4}
  scheduling: {backup_window: "00:00-06:00", max_duration: 4h}
"""
MIDNIGHT = datetime(2026, 11, 24, 23, 0, tzinfo=UTC)  # 00:00 in Paris
NOON = datetime(2026, 11, 25, 11, 0, tzinfo=UTC)


def alone(cluster):
    """Every server is one by itself."""
    return ServerInstance(42, cluster.source)


def same(_cluster):
    """All servers are one."""
    return ServerInstance(42, "2026-11-25 08:00:00.000001+00")


def mute(_cluster):
    """No server answers."""
    return


@pytest.fixture
def policy(tmp_path):
    """Three databases on two servers."""
    return parse_policy(TEXT, tmp_path)


def plan(policy, kind="full", *, run_type="scheduled", now=MIDNIGHT, identify=alone, **params):
    """Plan with a form of which only some fields are given."""
    return plan_backups(policy, kind=kind, run_type=run_type, now=now, params=params, identify=identify)


def test_each_server_is_planned_once(policy):
    """Two names on one server are one backup, which bears the first."""
    first, second = plan(policy)
    assert ("primary", ["primary", "analytics"], None, 600) == (
        first["source"],
        first["databases"],
        first["location"],
        first["proof_budget_s"],
    )
    assert ("audit", ["audit"], "second", 30) == (
        second["source"],
        second["databases"],
        second["location"],
        second["proof_budget_s"],
    )


def test_servers_that_are_one_by_their_own_word_are_one_backup(policy):
    """Under two addresses the policy cannot see it. A copy has the same system identifier, and is another server."""
    assert 2 == len(plan(policy, identify=alone))
    (planned,) = plan(policy, identify=same)
    assert ["primary", "analytics", "audit"] == planned["databases"]


def test_a_server_that_does_not_answer_is_planned_by_itself(policy):
    """Its own task fails and is tried again; the others are not kept from being saved."""
    assert ["primary", "audit"] == [planned["source"] for planned in plan(policy, identify=mute)]
    silent = plan(policy, identify=lambda cluster: None if cluster.source == "primary" else same(cluster))
    assert ["primary", "audit"] == [planned["source"] for planned in silent]


def test_a_policy_with_one_server_asks_nobody(tmp_path):
    """There is nothing to compare."""
    policy = parse_policy("databases: [a]", tmp_path)
    assert ["a"] == [cluster.source for cluster in clusters_at_hand(policy, ["a"], pytest.fail)]


def test_the_form_chooses_by_any_name_of_a_server(policy):
    """The whole server is saved, under its own first name."""
    (planned,) = plan(policy, run_type="manual", ignore_window=True, databases=["analytics"])
    assert ("primary", ["primary", "analytics"]) == (planned["source"], planned["databases"])
    (planned,) = plan(policy, identify=same, databases=["audit"])
    assert "primary" == planned["source"]


def test_a_full_backup_has_one_method_and_an_incremental_the_policys(policy):
    """The form may say another one for incrementals."""
    assert ["full", "full"] == [planned["method"] for planned in plan(policy)]
    assert ["native", "delta"] == [planned["method"] for planned in plan(policy, "incremental")]
    assert ["native", "delta"] == [planned["method"] for planned in plan(policy, "incremental", method="policy")]
    assert ["wal", "wal"] == [planned["method"] for planned in plan(policy, "incremental", method="wal")]


def test_the_form_says_how_long_the_proof_may_take(policy):
    """0s takes none; what is no duration is refused before anything runs."""
    assert [0, 0] == [planned["proof_budget_s"] for planned in plan(policy, proof_budget="0s")]
    assert [120, 120] == [planned["proof_budget_s"] for planned in plan(policy, proof_budget=" 2m ")]
    assert [600, 30] == [planned["proof_budget_s"] for planned in plan(policy, proof_budget=None)]
    with pytest.raises(AirflowFailException, match="proof_budget 'long'"):
        plan(policy, proof_budget="long")


def test_the_window_counts_as_for_file_trees(policy):
    """A scheduled run outside is skipped, one by hand needs leave, and within both end with it."""
    with pytest.raises(AirflowSkipException, match="outside the backup window"):
        plan(policy, now=NOON)
    with pytest.raises(AirflowFailException, match="'Run outside the backup window'"):
        plan(policy, now=NOON, run_type="manual")
    deadline = datetime.fromisoformat(plan(policy, now=NOON, run_type="manual", ignore_window=True)[0]["deadline"])
    assert NOON + timedelta(hours=3, minutes=50) < deadline < NOON + timedelta(hours=4)
    three = MIDNIGHT + timedelta(hours=3)
    assert datetime(2026, 11, 25, 5, 0, tzinfo=UTC) == datetime.fromisoformat(plan(policy, now=three)[0]["deadline"])


def test_threads_are_shared_out(policy):
    """Backups side by side have together no more threads than max_workers."""
    assert [2, 2] == [planned["workers"] for planned in plan(policy)]
    assert [4] == [planned["workers"] for planned in plan(policy, databases=["audit"])]


def test_what_there_is_not_is_refused(policy):
    """The message names what there is."""
    with pytest.raises(AirflowFailException, match="databases x: the policy has primary, analytics, audit"):
        plan(policy, databases=["audit", "x"])


def test_a_policy_without_databases_has_nothing_to_do(tmp_path):
    """The run is skipped, it does not fail."""
    with pytest.raises(AirflowSkipException, match="the policy names no database"):
        plan(parse_policy("sources: []\n", tmp_path))


def test_a_kind_that_the_policy_leaves_out_is_skipped(tmp_path):
    """Unless somebody asks for it by hand."""
    policy = parse_policy(TEXT + "backup_types: [full]\n", tmp_path)
    with pytest.raises(AirflowSkipException, match="backup_types of the policy has no incremental"):
        plan(policy, "incremental")
    assert 2 == len(plan(policy, "incremental", run_type="manual"))


def test_wal_is_saved_at_any_time(policy):
    """The window does not count; the clusters are those of the backups."""
    planned = plan_drains(policy, params={"databases": ["audit", "analytics"]}, identify=alone)
    assert [
        {"source": "primary", "databases": ["primary", "analytics"], "location": None},
        {"source": "audit", "databases": ["audit"], "location": "second"},
    ] == planned


def test_what_was_backed_up_is_proved(policy):
    """Each snapshot of this run; a server that failed has none, and a form may ask for no proof."""
    planned = plan(policy)
    done = [{"source": "audit", "snapshot": "ab12", "location": "elsewhere"}]
    expected = [{"source": "audit", "databases": ["audit"], "location": "second", "snapshot": "ab12"}]
    assert expected == plan_drills(planned, done, params={"drill": True})
    with pytest.raises(AirflowSkipException, match="no proof"):
        plan_drills(planned, done, params={"drill": False})


def test_the_report_adds_up():
    """Counts and sizes, which methods were used, complete only if every backup is; WAL alone has no snapshot."""
    counts = {"size_bytes": 10, "read_bytes": 8, "stored_bytes": 5, "warnings_count": 1}
    done = [
        {"source": "a", "snapshot": "ab", "method": "delta", "complete": True, **counts},
        {"source": "b", "snapshot": None, "method": "wal", "complete": False, **counts},
    ]
    assert {
        "snapshots": ["ab"],
        "methods": {"a": "delta", "b": "wal"},
        "complete": False,
        "size_bytes": 20,
        "read_bytes": 16,
        "stored_bytes": 10,
        "warnings_count": 2,
    } == summarise_backups(done)


@pytest.fixture
def on_disk(tmp_path, monkeypatch):
    """The policy, found through COFFER_POLICY; no server of it answers."""
    (tmp_path / "p.yaml").write_text(TEXT.replace("method: native", "logical: {enabled: true}"))
    monkeypatch.setenv("COFFER_POLICY", str(tmp_path / "p.yaml"))
    monkeypatch.setattr("coffer_airflow.database_planning.ClusterHook.instance", _unreachable)
    policy_of_dags.cache_clear()
    yield
    policy_of_dags.cache_clear()


def _unreachable(hook):
    raise PostgresUnavailableError(f"postgres {hook.cluster.source}: no answer")


def test_the_tasks_plan_by_the_policy_of_their_time(on_disk):
    """The functions that the DAGs call read the policy and the clock, and ask the servers."""
    run = SimpleNamespace(run_type=SimpleNamespace(value="manual"), conf={"ignore_window": True})
    params = {"ignore_window": True}
    for planner, kind in ((plan_full, "full"), (plan_incremental, "incremental")):
        assert [kind, kind] == [planned["kind"] for planned in planner(params=params, dag_run=run)]
    run.conf = {}
    assert ["primary", "audit"] == [planned["source"] for planned in plan_wal(params={}, dag_run=run)]


def test_dumps_are_of_the_clusters_that_ask_for_them(on_disk):
    """The others have none; without any, the tasks are skipped."""
    planned = [{"source": name, "databases": [name], "location": None, "workers": 2} for name in ("primary", "audit")]
    assert planned[:1] == plan_dumps(planned)
    with pytest.raises(AirflowSkipException, match="asks for no dumps"):
        plan_dumps(planned[1:])


@pytest.mark.parametrize(
    ("planner", "form"), [(plan_full, FULL_FORM), (plan_incremental, INCREMENTAL_FORM), (plan_wal, ("databases",))]
)
def test_a_key_that_the_form_does_not_know_is_refused(on_disk, planner, form):
    """By `airflow dags trigger --conf` anything can be said."""
    run = SimpleNamespace(run_type="manual", conf={"database": ["audit"]})
    with pytest.raises(
        AirflowFailException, match=rf"(?s)unknown key 'database' .*did you mean.*{', '.join(form)}"
    ) as e:
        planner(params={}, dag_run=run)
    assert "HINT" in str(e.value)


def test_a_server_that_does_not_answer_is_logged(policy, monkeypatch, caplog):
    """It is no error of the plan."""
    monkeypatch.setattr("coffer_airflow.database_planning.ClusterHook.instance", _unreachable)
    assert identified(policy.clusters[0]) is None
    assert "primary, analytics: postgres primary: no answer" in caplog.text
