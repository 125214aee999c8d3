"""What a run is to do: which sources, until when, where to."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from coffer.config import parse_policy
from coffer_airflow.planning import plan_checks, plan_run, plan_snapshots, summarise

TEXT = """\
timezone: Europe/Paris
sources:
  - {name: a, kind: filesystem, paths: [a]}
  - {name: b, kind: filesystem, paths: [b], schedule: "0 2 * * 0", locations: [second]}
  - {name: c, kind: filesystem, paths: [c]}
filesystem_backup: {schedule: "0 0 * * *"}
local_backup:
  locations:
    first:  {path: one, retention: "30d", frequency: "daily"}
    second: {path: two, retention: "90d", frequency: "weekly"}
performance_config:
  concurrency: {max_workers: 4}
  scheduling: {backup_window: "00:00-06:00", max_duration: 4h}
"""
MIDNIGHT = datetime(2026, 11, 24, 23, 0, tzinfo=UTC)  # 00:00 in Paris, a Wednesday
NOON = datetime(2026, 11, 25, 11, 0, tzinfo=UTC)


@pytest.fixture
def policy(tmp_path):
    """Three sources, two locations, the window 00:00-06:00 in Paris."""
    return parse_policy(TEXT, tmp_path)


def plan(policy, *, run_type="scheduled", fired_at=MIDNIGHT, now=MIDNIGHT, **params):
    """Plan with a form of which only some fields are given."""
    return plan_snapshots(policy, run_type=run_type, fired_at=fired_at, now=now, params=params)


def test_a_scheduled_run_takes_what_is_due(policy):
    """At midnight of a Wednesday: the two sources of the DAG's own schedule, not the one of Sundays at two."""
    assert ["a", "c"] == [planned["source"] for planned in plan(policy)]


def test_a_source_with_its_own_schedule_is_due_by_it_alone(policy):
    """On Sunday at two in Paris, only the source that says so."""
    sunday = datetime(2026, 11, 29, 1, 0, tzinfo=UTC)
    assert ["b"] == [planned["source"] for planned in plan(policy, fired_at=sunday, now=sunday)]


def test_a_run_by_hand_takes_all_or_those_that_it_names(policy):
    """Without a choice every source, whatever its schedule; with one, those, in the policy's order."""
    by_hand = {"run_type": "manual", "fired_at": None, "ignore_window": True}
    assert ["a", "b", "c"] == [planned["source"] for planned in plan(policy, **by_hand)]
    assert ["a", "b"] == [planned["source"] for planned in plan(policy, sources=["b", "a"], **by_hand)]


def test_a_source_that_there_is_not_is_refused(policy):
    """The message names what there is."""
    with pytest.raises(AirflowFailException, match="sources x: the policy has a, b, c"):
        plan(policy, sources=["x", "a"])


def test_a_scheduled_run_ends_with_the_window(policy):
    """Begun at 03:00 with four hours to go, it stops at 06:00, in the policy's time zone."""
    three = MIDNIGHT + timedelta(hours=3)
    deadline = datetime.fromisoformat(plan(policy, now=three)[0]["deadline"])
    assert datetime(2026, 11, 25, 5, 0, tzinfo=UTC) == deadline


def test_a_run_ends_before_its_own_time_is_over(policy):
    """Begun at midnight, it stops shortly before the four hours after which Airflow would kill it."""
    deadline = datetime.fromisoformat(plan(policy)[0]["deadline"])
    assert timedelta(hours=3, minutes=50) < deadline - MIDNIGHT < timedelta(hours=4)


def test_a_scheduled_run_outside_the_window_does_nothing(policy):
    """A run that comes late (the DAG was switched on at noon) is skipped, also if its form says otherwise."""
    with pytest.raises(AirflowSkipException, match="it is 12:00, outside the backup window 00:00-06:00 Europe/Paris"):
        plan(policy, now=NOON)
    with pytest.raises(AirflowSkipException):
        plan(policy, now=NOON, ignore_window=True)


def test_a_run_by_hand_outside_the_window_needs_leave(policy):
    """Without the switch it fails and names the switch; with it, it works as long as a run may."""
    by_hand = {"run_type": "manual", "fired_at": None, "now": NOON}
    with pytest.raises(AirflowFailException, match="'Run outside the backup window' switched on"):
        plan(policy, **by_hand)
    deadline = datetime.fromisoformat(plan(policy, ignore_window=True, **by_hand)[0]["deadline"])
    assert NOON + timedelta(hours=3, minutes=50) < deadline < NOON + timedelta(hours=4)


def test_a_run_by_hand_within_the_window_keeps_to_it(policy):
    """Without the switch it stops at the window's end like a scheduled one."""
    five = MIDNIGHT + timedelta(hours=5)
    deadline = datetime.fromisoformat(plan(policy, run_type="manual", fired_at=None, now=five)[0]["deadline"])
    assert MIDNIGHT + timedelta(hours=6) == deadline


def test_threads_are_shared_out(policy):
    """Sources that run side by side have together no more threads than max_workers, each at least one."""
    by_hand = {"run_type": "manual", "fired_at": None, "ignore_window": True}
    assert [4] == [planned["workers"] for planned in plan(policy, sources=["a"], **by_hand)]
    assert [1, 1, 1] == [planned["workers"] for planned in plan(policy, **by_hand)]


def test_a_source_goes_to_its_first_location(policy):
    """The policy's first location is left unnamed, so that a connection may replace it; another one is named."""
    planned = plan(policy, run_type="manual", fired_at=None, ignore_window=True)
    assert [None, "second", None] == [entry["location"] for entry in planned]
    assert [{"location": None}, {"location": "second"}] == plan_checks(planned)


def test_a_policy_without_sources_has_nothing_to_do(tmp_path):
    """The run is skipped, it does not fail."""
    with pytest.raises(AirflowSkipException, match="no source"):
        plan(parse_policy("sources: []\n", tmp_path))


def test_the_task_plans_by_the_policy_of_its_time(installation):
    """plan_run reads the policy and the clock by itself, from the arguments that Airflow's context has."""
    run = SimpleNamespace(run_type=SimpleNamespace(value="manual"))
    planned = plan_run(params={"ignore_window": True, "force_read": True}, dag_run=run)
    assert [("docs", True)] == [(entry["source"], entry["force_read"]) for entry in planned]


def test_a_key_of_the_conf_that_the_form_does_not_know_is_refused(installation):
    """By `airflow dags trigger --conf` anything can be said: a mistyped key would be passed over in silence."""
    run = SimpleNamespace(run_type="manual", conf={"ignore_windows": True, "zzz": 1, "force_read": True})
    said = r"unknown key 'ignore_windows' \(did you mean 'ignore_window'\?\), 'zzz'\nHINT: the keys are sources, "
    with pytest.raises(AirflowFailException, match=said):
        plan_run(params={"ignore_window": True}, dag_run=run)


@pytest.mark.parametrize("conf", [None, {}, {"sources": ["docs"], "ignore_window": True}])
def test_a_conf_of_known_keys_is_taken(installation, conf):
    """Also none at all, as a scheduled run has it."""
    run = SimpleNamespace(run_type="manual", conf=conf)
    assert ["docs"] == [e["source"] for e in plan_run(params={"sources": ["docs"], "ignore_window": True}, dag_run=run)]


def test_totals_are_sums():
    """The report adds up counts and sizes, and is complete only if every snapshot is."""
    counts = {"files": 2, "size_bytes": 10, "read_bytes": 10, "stored_bytes": 5, "warnings_count": 0}
    whole = {"snapshot": "aa", "complete": True, **counts}
    part = {"snapshot": "bb", "complete": False, **counts, "warnings_count": 3}
    expected = {
        "snapshots": ["aa", "bb"],
        "complete": False,
        "files": 4,
        "size_bytes": 20,
        "read_bytes": 20,
        "stored_bytes": 10,
        "warnings_count": 3,
    }
    assert expected == summarise([whole, part])
