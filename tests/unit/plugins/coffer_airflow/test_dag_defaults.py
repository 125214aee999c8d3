"""What all backup DAGs have in common."""

from datetime import timedelta

import pytest
from airflow.sdk import CronTriggerTimetable, MultipleCronTriggerTimetable

from coffer.config import parse_policy
from coffer.errors import PolicyInvalidError
from coffer_airflow.dag_defaults import (
    database_schedule,
    deadline_alert,
    default_args,
    filesystem_schedule,
    max_duration,
    policy_of_dags,
    wal_schedule,
)

PLAIN = "timezone: Asia/Tokyo\nsources:\n  - {name: a, kind: filesystem, paths: [a]}\n"


def test_the_schedule_is_the_policys_in_its_time_zone(tmp_path):
    """One schedule for all sources: midnight in Tokyo."""
    schedule = filesystem_schedule(parse_policy(PLAIN, tmp_path))
    assert CronTriggerTimetable("0 0 * * *", timezone="Asia/Tokyo") == schedule


def test_a_source_with_its_own_schedule_adds_it(tmp_path):
    """The DAG runs at each time at which any source is due."""
    text = PLAIN + '  - {name: b, kind: filesystem, paths: [b], schedule: "30 1 * * 0"}\n'
    schedule = filesystem_schedule(parse_policy(text, tmp_path))
    assert isinstance(schedule, MultipleCronTriggerTimetable)
    assert ["0 0 * * *", "30 1 * * 0"] == [single.expression for single in schedule.timetables]


def test_a_policy_without_sources_keeps_the_dags_schedule(tmp_path):
    """The DAG stays valid."""
    policy = parse_policy('filesystem_backup: {schedule: "0 3 * * *"}\n', tmp_path)
    assert "0 3 * * *" == filesystem_schedule(policy).expression


def test_the_deadline_is_the_policys_longest_duration(tmp_path):
    """Four hours from when the run was queued, unless the policy says otherwise."""
    policy = parse_policy("performance_config: {scheduling: {max_duration: 3h}}\n", tmp_path)
    assert timedelta(hours=3) == max_duration(policy) == deadline_alert(max_duration(policy)).interval
    assert timedelta(hours=4) == max_duration(parse_policy(PLAIN, tmp_path))


DATABASES = PLAIN + 'databases: [a-db]\nschedule: {full: "0 1 * * 0", incremental: "0 2 * * 1-6", wal: "*/7 * * * *"}\n'


def test_databases_have_a_schedule_for_each_kind_and_for_wal(tmp_path):
    """In the policy's time zone."""
    policy = parse_policy(DATABASES, tmp_path)
    assert CronTriggerTimetable("0 1 * * 0", timezone="Asia/Tokyo") == database_schedule(policy, "full")
    assert CronTriggerTimetable("0 2 * * 1-6", timezone="Asia/Tokyo") == database_schedule(policy, "incremental")
    assert CronTriggerTimetable("*/7 * * * *", timezone="Asia/Tokyo") == wal_schedule(policy)


def test_without_databases_or_a_kind_there_is_no_schedule(tmp_path):
    """Nothing runs that would have nothing to do."""
    nothing = parse_policy(PLAIN, tmp_path)
    assert [None] * 3 == [
        database_schedule(nothing, "full"),
        database_schedule(nothing, "incremental"),
        wal_schedule(nothing),
    ]
    assert database_schedule(parse_policy(DATABASES + "backup_types: [full]\n", tmp_path), "incremental") is None


def test_transient_errors_are_tried_again_with_growing_pauses():
    """Three tries more, from a minute on, each pause twice the one before, 15 minutes at most."""
    given = default_args()
    assert (3, timedelta(minutes=1), 2.0, timedelta(minutes=15)) == (
        given["retries"],
        given["retry_delay"],
        given["retry_exponential_backoff"],
        given["max_retry_delay"],
    )


def test_a_policy_with_mistakes_is_an_import_error_that_names_them(installation):
    """What a DAG file raises while it is parsed is what the page of DAGs shows."""
    installation.policy.write_text("timezone: Mars/Olympus\n")
    policy_of_dags.cache_clear()
    with pytest.raises(PolicyInvalidError, match="Mars/Olympus"):
        policy_of_dags()
