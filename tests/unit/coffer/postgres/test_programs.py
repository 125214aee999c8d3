"""Programs of PostgreSQL are found where they are named, and the version that fits is taken."""

import os

import pytest

from coffer.errors import UsageError
from coffer.postgres.programs import VARIABLE, find_programs


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A function that puts programs of a version into a folder; only folders made so are looked into."""
    folders = []

    def put(version, *names):
        folder = tmp_path / f"{len(folders)}-{version}" / "bin"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version} (Debian 1.pgdg)'\n")
            (folder / name).chmod(0o755)
        folders.append(folder)
        monkeypatch.setenv(VARIABLE, os.pathsep.join(map(str, folders)))
        return folder

    return put


def test_the_nearest_version_that_is_not_older_is_taken(place):
    """Of 14, 16 and 18, a server of 15 is read by 16: what a newer program writes is not promised to load into 15."""
    place("14.9", "pg_dump")
    expected = place("16.2", "pg_dump")
    place("18.1", "pg_dump")
    found = find_programs(["pg_dump"], at_least=15)
    assert (expected, 16, "16.2") == (found.folder, found.major, found.version)


def test_of_two_alike_the_first_named_is_taken(place):
    """The order of the folders is the user's."""
    expected = place("15.1", "pg_dump")
    place("15.7", "pg_dump")
    assert expected == find_programs(["pg_dump"], at_least=15).folder


def test_exactly_one_version_can_be_asked_for(place):
    """A data folder needs its own version, neither older nor newer."""
    place("15.1", "postgres")
    place("18.1", "postgres")
    with pytest.raises(UsageError, match=r"of version 17: not found, there is 15.1, 18.1"):
        find_programs(["postgres"], exactly=17)
    assert find_programs(["postgres"], exactly=15).major == 15


def test_all_programs_lie_in_one_folder(place):
    """A folder that lacks one of the programs does not count: two versions must not be mixed."""
    place("15.1", "pg_dump")
    expected = place("16.1", "pg_dump", "psql")
    assert expected == find_programs(["pg_dump", "psql"]).folder


def test_programs_that_are_too_old_are_refused_with_a_remedy(place):
    """The message names what is needed and what is there; the hint names the package and the variable."""
    place("15.1", "pg_dump")
    with pytest.raises(UsageError, match=r"program pg_dump of version 18 or newer: not found, there is 15.1") as caught:
        find_programs(["pg_dump"], at_least=18)
    assert "postgresql-client-18" in caught.value.hint
    assert VARIABLE in caught.value.hint


def test_a_machine_without_programs_is_told_so(tmp_path, monkeypatch):
    """Where nothing is found, the message says none."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(UsageError, match="there is none"):
        find_programs(["pg_dump"])


@pytest.mark.parametrize("script", ["exit 1", "echo nothing of use", "kill -9 $$"])
def test_what_does_not_tell_a_version_is_passed_over(place, script):
    """A wrapper without a cluster, or another program of that name, is no pg_dump."""
    broken = place("18.0", "pg_dump") / "pg_dump"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    expected = place("18.1", "pg_dump")
    assert expected == find_programs(["pg_dump"]).folder


def test_a_version_before_its_release_is_read(place):
    """Betas have a version as well."""
    place("19beta1", "pg_dump")
    assert find_programs(["pg_dump"]).major == 19


def test_without_the_variable_the_path_is_searched(place, monkeypatch):
    """What the shell would find is found; an unset variable restricts nothing."""
    folder = place("99.1", "pg_dump")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert folder == find_programs(["pg_dump"], exactly=99).folder
