"""VerifyOperator, run without a database."""

import json

import pytest
from airflow.sdk.exceptions import AirflowFailException

from coffer_airflow.operators import SnapshotOperator, VerifyOperator


@pytest.fixture
def stored(installation):
    """An installation with one snapshot."""
    SnapshotOperator(task_id="snapshot", source="docs").execute({})
    return installation


def verify(**options):
    """Run an operator as a task does."""
    return VerifyOperator(task_id="check", **options).execute({})


@pytest.mark.parametrize("depth", ["structure", "data"])
def test_a_sound_repository_passes(stored, depth):
    """The XCom says what was looked at, in counts that JSON can hold."""
    done = verify(depth=depth)
    assert (True, depth, "primary") == (done["ok"], done["depth"], done["location"])
    assert 1 == done["snapshots"]
    assert done == json.loads(json.dumps(done))


def test_damaged_data_fails_the_task_for_good(stored, capfd):
    """One flipped byte of a pack: no further try, the finding is named, and what to do."""
    pack = max((stored.repository / "packs").rglob("?" * 64), key=lambda path: path.stat().st_size)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)
    with pytest.raises(AirflowFailException, match="HINT: undamaged files can still be restored") as caught:
        verify(depth="data")
    assert pack.name[:8] in str(caught.value)
    assert pack.name[:8] in capfd.readouterr().out


def test_a_missing_pack_is_found_by_the_structure_alone(stored):
    """Nothing needs to be read to see that an object is gone."""
    for path in (stored.repository / "packs").rglob("?" * 64):
        path.unlink()
    with pytest.raises(AirflowFailException):
        verify(depth="structure")


def test_a_depth_that_there_is_not_is_refused(stored):
    """A misspelt depth is no check at all, so it is an error."""
    with pytest.raises(AirflowFailException, match="there are structure and data"):
        verify(depth="deep")
