"""RestoreOperator, run without a database."""

import json
import os

import pytest
from airflow.sdk.exceptions import AirflowFailException

from coffer.errors import RestoreSpaceError
from coffer.verification.compare import compare_trees
from coffer_airflow.operators import RestoreOperator, SnapshotOperator


@pytest.fixture
def stored(installation):
    """An installation with one snapshot."""
    SnapshotOperator(task_id="snapshot", source="docs").execute({})
    return installation


@pytest.fixture
def target(tmp_path):
    """A folder that is not there yet."""
    return tmp_path / "restored"


def restore(target, snapshot="latest:docs", **options):
    """Run an operator as a task does."""
    return RestoreOperator(task_id="restore", snapshot=snapshot, target=str(target), **options).execute({})


def landed(target, stored):
    """Where the tree of `docs` lies in a target."""
    return target / str(stored.tree("docs")).lstrip("/")


def test_what_was_backed_up_comes_back(stored, target):
    """Every byte and attribute; the XCom is small JSON."""
    done = restore(target)
    assert compare_trees(stored.tree("docs"), landed(target, stored)).ok
    assert (3, True) == (done["files"], done["complete"])
    assert done == json.loads(json.dumps(done))


def test_a_path_alone_comes_back(stored, target):
    """Only the folder that is named, with what is in it."""
    restore(target, paths=[str(stored.tree("docs") / "sub")])
    assert ["sub"] == sorted(os.listdir(landed(target, stored)))


def test_patterns_choose(stored, target):
    """Include and exclude are gitignore patterns."""
    done = restore(target, include=["*.bin", "*.txt"], exclude=["a.bin"])
    assert 1 == done["files"]
    assert (landed(target, stored) / "sub" / "b.txt").is_file()


def test_a_dry_run_writes_nothing(stored, target):
    """It counts what would be restored."""
    done = restore(target, dry_run=True)
    assert (True, 3) == (done["dry_run"], done["files"])
    assert not target.exists()


def test_a_target_that_is_not_empty_is_refused(stored, target):
    """Nothing is overwritten unless the task says so; with `changed` a second run keeps finished files."""
    restore(target)
    with pytest.raises(AirflowFailException, match="restore-target: "):
        restore(target)
    assert 0 == restore(target, overwrite="changed")["written_bytes"]


class _Store(dict):
    """A task's state, as its tries share it."""

    def set(self, key, value):
        """Keep a value."""
        self[key] = value


def test_a_further_try_goes_on_where_the_first_one_ended(stored, target, monkeypatch):
    """A first try that ended for now, halfway: the second keeps what is finished, and is not refused."""
    from coffer_airflow.operators import restore as module

    state, real = _Store(), module.restore

    def full(repo, snapshot, folder, **more):
        real(repo, snapshot, folder, **more)
        (landed(target, stored) / "sub" / "b.txt").unlink()
        raise RestoreSpaceError("target: is full")

    operator = RestoreOperator(task_id="restore", snapshot="latest:docs", target=str(target))
    with monkeypatch.context() as patch:
        patch.setattr(module, "restore", full)
        with pytest.raises(RestoreSpaceError):
            operator.execute({"task_state_store": state})
    done = operator.execute({"task_state_store": state})

    assert (2, True) == (done["kept"], done["complete"])
    assert compare_trees(stored.tree("docs"), landed(target, stored)).ok


def test_a_try_that_was_refused_makes_no_later_one_overwrite(stored, target):
    """The target held something at first: every further try is refused as well."""
    target.mkdir()
    (target / "mine").write_text("kept")
    state = _Store()
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="restore-target: "):
            RestoreOperator(task_id="restore", snapshot="latest:docs", target=str(target)).execute(
                {"task_state_store": state}
            )
    assert ["mine"] == os.listdir(target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overwrite": "perhaps"}, "there are never, changed, always"),
        ({"target": "relative/folder"}, "is relative"),
        ({"snapshot": "latest:nothing"}, "snapshot-not-found: "),
        ({"paths": ["/not/in/there"]}, "path-not-in-snapshot: "),
        ({"include": ["typo.txt"]}, "usage: include 'typo.txt': nothing in snapshot"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(stored, target, options, message):
    """Each is an error that is not tried again, and nothing is written."""
    with pytest.raises(AirflowFailException, match=message):
        restore(**{"target": target, **options})
    assert not target.exists()


def test_what_cannot_be_restored_fails_the_task(stored, target):
    """The pack is gone: files are missing, so the task fails, and is not tried again."""
    for path in (stored.repository / "packs").rglob("?" * 64):
        path.unlink()
    with pytest.raises(AirflowFailException):
        restore(target)


@pytest.mark.parametrize("durable", [False, True])
def test_durable_is_passed_on(stored, target, monkeypatch, durable):
    """Without reading back, the files are flushed only where that was asked for."""
    flushed = []
    monkeypatch.setattr("coffer.restore.execute.flush_file_systems", flushed.append)
    restore(target, verify=False, durable=durable)
    assert durable == bool(flushed)
