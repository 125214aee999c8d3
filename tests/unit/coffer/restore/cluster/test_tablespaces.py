"""Where tablespaces go: as they are told, and nowhere else."""

from __future__ import annotations

import os

import pytest

from coffer.errors import RestoreTargetError, UsageError
from coffer.postgres.record import ClusterRecord
from coffer.restore.cluster.spec import ClusterRestoreOptions
from coffer.restore.cluster.tablespaces import links_of, map_tablespaces, tablespaces_of
from tests.harness.clusters import SmallCluster

INNER = b"pg_tblspc/%d/PG_15_202209061/5/16401"


@pytest.fixture
def places(tmp_path):
    return {16400: "/srv/fast", 16500: str(tmp_path / "on server")}


def mapped(places, tmp_path, there=None, **options):
    return map_tablespaces(places, tmp_path / "data", ClusterRestoreOptions(**options), there or {})


def test_they_are_found_in_the_record_and_in_the_tree():
    """One that the record does not know has no old place; one inside the data folder is no tablespace to be mapped."""
    record = ClusterRecord("15.18", tablespaces={16400: "/srv/fast", 16600: "pg_tblspc/16600"})
    made = SmallCluster({INNER % 16400: b"a", INNER % 16500: b"b", INNER % 16600: b"c"}, record=record)
    found = tablespaces_of(made.repo.manifest(made.snapshot), record)
    assert {16400: "/srv/fast", 16500: ""} == found


def test_each_goes_where_it_is_told(places, tmp_path):
    """By OID, by the old place, below a folder for the rest, or in place."""
    one = {"16400": tmp_path / "a", f"{places[16500]}/": tmp_path / "b"}
    assert {16400: tmp_path / "a", 16500: tmp_path / "b"} == mapped(places, tmp_path, tablespaces=one)
    below = mapped(places, tmp_path, tablespaces={"16400": tmp_path / "a"}, tablespaces_below=tmp_path / "all")
    assert {16400: tmp_path / "a", 16500: tmp_path / "all" / "16500"} == below
    in_place = mapped(places, tmp_path, tablespaces={"16400": tmp_path / "a"}, tablespaces_in_place=True)
    assert {16400: tmp_path / "a", 16500: tmp_path / "on server"} == in_place


def test_a_delta_does_not_follow_the_links_that_are_there(places, tmp_path):
    """In a copied data folder they lead to the original's tablespaces; the hint names where they lead."""
    there = {16400: tmp_path / "x", 16500: tmp_path / "y"}
    with pytest.raises(RestoreTargetError, match="has no place") as caught:
        mapped(places, tmp_path, there, delta=True)
    assert str(tmp_path / "x") in caught.value.hint
    named = {"16400": tmp_path / "x", "16500": tmp_path / "y"}
    assert there == mapped(places, tmp_path, there, delta=True, tablespaces=named)


def test_without_a_word_nothing_is_written_to_the_servers_place(places, tmp_path):
    """The hint says what may be said, and that the old place is free, or is not."""
    with pytest.raises(RestoreTargetError, match="tablespace 16400, which was /srv/fast") as caught:
        mapped(places, tmp_path)
    assert "--tablespace 16400=" in caught.value.hint
    assert "--tablespaces-in-place" in caught.value.hint
    (tmp_path / "on server").mkdir()
    with pytest.raises(RestoreTargetError) as caught:
        mapped(places, tmp_path, tablespaces={"16400": tmp_path / "a"})
    assert "exists here and is not touched" in caught.value.hint
    with pytest.raises(RestoreTargetError, match="tablespace 7 has no place"):
        mapped({7: ""}, tmp_path, tablespaces_in_place=True)


@pytest.mark.parametrize(
    "given", [{"17": "a"}, {"/srv/slow": "a"}, {"16400": "a", "/srv/fast": "b"}], ids=["oid", "path", "twice"]
)
def test_a_tablespace_that_there_is_none_of_is_refused(places, tmp_path, given):
    """Mostly a typing mistake, which would put it somewhere else than wanted."""
    with pytest.raises(UsageError, match="tablespace"):
        mapped(places, tmp_path, tablespaces={key: tmp_path / name for key, name in given.items()})


@pytest.mark.parametrize("folder", ["data", "data/inner", ".", "b/below"])
def test_folders_that_lie_in_one_another_are_refused(places, tmp_path, folder):
    """A tablespace in the data folder, around it, or in another one."""
    given = {"16400": tmp_path / "b", "16500": tmp_path / folder}
    with pytest.raises(RestoreTargetError, match="lie in one another"):
        mapped(places, tmp_path, tablespaces=given)


def test_links_of_a_data_folder_are_read(tmp_path):
    """Only links with a number for a name; a folder without any has none."""
    assert {} == links_of(tmp_path)
    (tmp_path / "pg_tblspc" / "7").mkdir(parents=True)
    os.symlink("/srv/fast", tmp_path / "pg_tblspc" / "16400")
    os.symlink("/srv/other", tmp_path / "pg_tblspc" / "name")
    assert {16400: "/srv/fast"} == {oid: str(folder) for oid, folder in links_of(tmp_path).items()}


def test_a_restore_puts_their_content_there_and_a_link_in_the_folder(tmp_path):
    """Nothing is left of the way it came by; an in-place one stays in the folder."""
    record = ClusterRecord("15.18", tablespaces={16400: "/srv/fast", 16600: "pg_tblspc/16600"})
    made = SmallCluster({INNER % 16400: b"a" * 9000, INNER % 16600: b"c" * 9000}, record=record)
    made.restore(tmp_path / "data", tablespaces={"16400": tmp_path / "spaces/fast"})
    assert ["PG_15_202209061"] == os.listdir(tmp_path / "spaces/fast")
    assert b"a" * 9000 == (tmp_path / "spaces/fast/PG_15_202209061/5/16401").read_bytes()
    assert str(tmp_path / "spaces/fast") == os.readlink(tmp_path / "data/pg_tblspc/16400")
    assert b"c" * 9000 == (tmp_path / "data" / os.fsdecode(INNER % 16600)).read_bytes()
    assert not (tmp_path / "data/pg_tblspc/16600").is_symlink()


def test_a_tablespaces_folder_that_is_not_empty_is_refused(tmp_path):
    """Before anything is written anywhere; a delta takes what it put there itself."""
    record = ClusterRecord("15.18", tablespaces={16400: "/srv/fast"})
    made = SmallCluster({INNER % 16400: b"a" * 9000}, record=record)
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces/mine").write_text("mine")
    with pytest.raises(RestoreTargetError, match="'mine' is in it"):
        made.restore(tmp_path / "data", tablespaces={"16400": tmp_path / "spaces"})
    assert not (tmp_path / "data").exists()
    (tmp_path / "spaces/mine").unlink()
    made.restore(tmp_path / "data", tablespaces={"16400": tmp_path / "spaces"})
    (tmp_path / "spaces/PG_15_202209061/5/16401").write_bytes(b"b" * 100)
    (tmp_path / "spaces/PG_14_202107181").mkdir()
    made.restore(tmp_path / "data", delta=True, tablespaces={"16400": tmp_path / "spaces"})
    assert b"a" * 9000 == (tmp_path / "spaces/PG_15_202209061/5/16401").read_bytes()
    assert (tmp_path / "spaces/PG_14_202107181").is_dir()
