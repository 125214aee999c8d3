"""The DAG filesystem_backup, run to its end in this process."""

import json

import pytest
from airflow.sdk.exceptions import ParamValidationError

from coffer.verification.compare import compare_trees
from coffer_airflow.dag_defaults import policy_of_dags
from coffer_airflow.operators import RestoreOperator
from coffer_airflow.planning import FORM
from tests.harness.airflow_runs import run_dag
from tests.harness.installation import closed_window

pytestmark = pytest.mark.e2e


def test_what_it_backs_up_can_be_restored(installation, filesystem_backup, tmp_path, capfd):
    """Both sources become snapshots, the data is verified, and what is restored equals the trees in all."""
    state, returned, states = run_dag(filesystem_backup, ignore_window=True, check="data")
    assert "success" == state, states
    assert ["docs", "site"] == [snapshot["source"] for snapshot in returned["snapshot"]]
    assert [("data", True, 2)] == [(check["depth"], check["ok"], check["snapshots"]) for check in returned["check"]]
    assert 6 == returned["report"][0]["files"]
    for source in ("docs", "site"):
        target = tmp_path / "restored" / source
        RestoreOperator(task_id="restore", snapshot=f"latest:{source}", target=str(target)).execute({})
        tree = installation.tree(source)
        compared = compare_trees(tree, target / str(tree).lstrip("/"))
        assert () == compared.differences
        assert 3 == compared.files
    key = installation.key_file.read_text().split()[1]
    assert key not in "".join(capfd.readouterr()) + json.dumps(returned)


def test_the_form_chooses_sources(filesystem_backup):
    """Only what is named is backed up."""
    _, returned, _ = run_dag(filesystem_backup, ignore_window=True, sources=["site"])
    assert ["site"] == [snapshot["source"] for snapshot in returned["snapshot"]]
    assert ["structure"] == [check["depth"] for check in returned["check"]]


def test_a_misspelt_key_of_the_conf_fails_the_plan(filesystem_backup):
    """It is not passed over: nothing is backed up, and nothing is tried again."""
    state, returned, states = run_dag(filesystem_backup, ignore_window=True, source=["site"])
    assert ("failed", ["failed"]) == (state, states["plan"])
    assert "snapshot" not in returned


def test_the_form_asks_what_the_plan_knows(filesystem_backup):
    """A field that is added to the form is added to the keys that a run may be given."""
    assert set(FORM) == set(filesystem_backup.params)


def test_a_second_run_stores_only_its_record(filesystem_backup):
    """Safe to run twice."""
    run_dag(filesystem_backup, ignore_window=True)
    state, returned, _ = run_dag(filesystem_backup, ignore_window=True)
    assert "success" == state
    assert returned["report"][0]["stored_bytes"] < 10_000


def test_a_run_by_hand_outside_the_window_fails_at_once(installation, filesystem_backup):
    """Without leave nothing is done, and nothing is tried again."""
    _shut_the_window(installation)
    state, returned, states = run_dag(filesystem_backup)
    assert ("failed", ["failed"]) == (state, states["plan"])
    assert "snapshot" not in returned


def test_a_policy_that_was_broken_meanwhile_fails_at_once(installation, filesystem_backup):
    """The mistake is permanent: no further try."""
    installation.policy.write_text("timezone: Mars/Olympus\n")
    policy_of_dags.cache_clear()
    state, _, states = run_dag(filesystem_backup)
    assert ("failed", ["failed"]) == (state, states["plan"])


def test_a_source_that_fails_does_not_keep_the_others_from_being_saved(installation, filesystem_backup):
    """The other one is saved and checked, and the run fails all the same."""
    installation.tree("docs").rename(installation.folder / "away")
    state, returned, states = run_dag(filesystem_backup, ignore_window=True)
    assert "failed" == state
    assert ["failed", "success"] == states["snapshot"]
    assert ["site"] == [snapshot["source"] for snapshot in returned["snapshot"]]
    assert (["success"], ["upstream_failed"]) == (states["check"], states["report"])


def test_a_damaged_repository_fails_the_run(installation, filesystem_backup):
    """What the check finds is not hidden by the success of the backup."""
    run_dag(filesystem_backup, ignore_window=True)
    index = next(path for path in (installation.repository / "packs").rglob("?" * 64))
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 1
    index.chmod(0o600)
    index.write_bytes(content)
    state, _, states = run_dag(filesystem_backup, ignore_window=True, check="data")
    assert ("failed", ["failed"]) == (state, states["check"])


def test_a_policy_without_sources_skips(installation, dagbag, filesystem_backup):
    """Nothing to do is no failure."""
    text = installation.policy.read_text()
    installation.policy.write_text(text[: text.index("sources:")] + text[text.index("local_backup:") :])
    policy_of_dags.cache_clear()
    state, _, states = run_dag(filesystem_backup, ignore_window=True)
    assert ("success", ["skipped"]) == (state, states["plan"])


@pytest.mark.parametrize("wrong", [{"sources": ["nothing"]}, {"check": "deep"}, {"ignore_window": "perhaps"}])
def test_a_form_that_is_filled_in_wrongly_is_refused(filesystem_backup, wrong):
    """Before anything runs."""
    with pytest.raises(ParamValidationError):
        run_dag(filesystem_backup, **wrong)


def _shut_the_window(installation):
    """Give the policy a window that is not open now."""
    schedule, window = closed_window()
    with installation.policy.open("a") as file:
        file.write(f'filesystem_backup: {{schedule: "{schedule}"}}\n')
        file.write(f'performance_config: {{scheduling: {{backup_window: "{window}"}}}}\n')
    policy_of_dags.cache_clear()
