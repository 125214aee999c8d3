"""Folders that must not be written to: of running servers, of other clusters, of the repository."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from coffer.backends.local import LocalBackend
from coffer.errors import RestoreTargetError
from coffer.restore.cluster import guard
from tests.harness.clusters import control_of, facts_at
from tests.harness.repositories import make_repository
from tests.harness.wal_maker import SYSTEM_ID

FACTS = facts_at(0, 0)


@pytest.fixture
def repo(tmp_path):
    backend = LocalBackend(tmp_path / "repo", create=True)
    yield make_repository(backend)
    backend.close()


@pytest.fixture
def folder(tmp_path):
    """The data folder of a cluster that is stopped."""
    data = tmp_path / "data"
    (data / "global").mkdir(parents=True)
    (data / "global/pg_control").write_bytes(control_of(FACTS))
    (data / "PG_VERSION").write_text("15\n")
    return data


@pytest.fixture
def process(folder):
    """A process that works in the folder."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], cwd=folder, stdin=subprocess.PIPE)
    yield child
    child.communicate(b"\n")


def pid_file(folder, pid, socket_folder="", port=5432):
    """Write a postmaster.pid as a server does."""
    lines = [str(pid), str(folder), "1700000000", str(port), str(socket_folder), "localhost", "ready"]
    (folder / "postmaster.pid").write_text("".join(f"{line}\n" for line in lines))


def check(repo, folder, *, delta=True, system_id=SYSTEM_ID):
    guard.require_fit(repo, folder, delta=delta, system_id=system_id)


def test_a_stopped_cluster_may_be_written_over_by_a_delta_alone(repo, folder, tmp_path):
    """And a folder that is empty, or not there, by anybody."""
    check(repo, folder)
    with pytest.raises(RestoreTargetError, match="is not empty"):
        check(repo, folder, delta=False)
    check(repo, tmp_path / "new", delta=False)
    check(repo, tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check(repo, tmp_path / "empty", delta=False)


def test_a_server_is_known_by_its_pid_file(repo, folder, process):
    """Its process lives and works in the folder."""
    pid_file(folder, process.pid)
    with pytest.raises(RestoreTargetError, match=f"a server runs in it, process {process.pid}"):
        check(repo, folder)
    with pytest.raises(RestoreTargetError, match="a server runs in it"):
        check(repo, folder, delta=False)


def test_a_pid_that_belongs_to_somebody_else_by_now_is_none(repo, folder, tmp_path):
    """After a crash its number may be given to any process; that works in another folder."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], cwd=tmp_path, stdin=subprocess.PIPE)
    try:
        pid_file(folder, other.pid)
        check(repo, folder)
    finally:
        other.communicate(b"\n")
    check(repo, folder)


@pytest.mark.parametrize("content", ["", "x\n", "0\n", "-5\n", "own\n"])
def test_a_pid_file_that_names_nobody_is_no_server(repo, folder, content):
    """As PostgreSQL itself judges it."""
    (folder / "postmaster.pid").write_text(content.replace("own", str(os.getpid())))
    check(repo, folder)


def test_a_process_that_cannot_be_looked_at_may_be_a_server(folder, process, monkeypatch):
    """Where the system does not say where it works, a living process is enough."""

    def samefile(_one, _other):
        raise PermissionError

    monkeypatch.setattr(os.path, "samefile", samefile)
    pid_file(folder, process.pid)
    with pytest.raises(RestoreTargetError, match="a server runs in it"):
        guard.refuse_running(folder)


def test_a_server_is_known_by_its_socket(repo, folder, tmp_path):
    """It may run in another container, where its pid means nothing here."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".s.PGSQL.5433"))
        listener.listen()
        pid_file(folder, 0, tmp_path, 5433)
        with pytest.raises(RestoreTargetError, match="answers at its socket"):
            check(repo, folder)
    check(repo, folder)


def test_another_cluster_is_refused_with_both_numbers(repo, folder):
    """The identifier that initdb gave it is the first field of pg_control."""
    with pytest.raises(RestoreTargetError, match=f"holds cluster {SYSTEM_ID}, the snapshot is of cluster 5"):
        check(repo, folder, system_id=5)


def test_what_is_no_cluster_is_not_written_over(repo, tmp_path):
    """A delta removes what the snapshot does not have: a wrong folder would be emptied."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letters").write_text("mine")
    with pytest.raises(RestoreTargetError, match="no cluster that can be known"):
        check(repo, tmp_path / "home")
    (tmp_path / "home/global").mkdir()
    (tmp_path / "home/global/pg_control").write_bytes(b"short")
    with pytest.raises(RestoreTargetError, match="no cluster that can be known"):
        check(repo, tmp_path / "home")


def test_a_restore_that_did_not_end_is_known_by_its_mark(repo, folder):
    """It has no pg_control; the mark says which cluster it is to be."""
    (folder / "global/pg_control").unlink()
    guard.mark(folder, SYSTEM_ID)
    check(repo, folder)
    with pytest.raises(RestoreTargetError, match="holds cluster"):
        check(repo, folder, system_id=5)
    guard.unmark(folder)
    guard.unmark(folder)
    with pytest.raises(RestoreTargetError, match="no cluster that can be known"):
        check(repo, folder)


@pytest.mark.parametrize("where", ["repo", "repo/below", "."])
def test_the_repository_is_never_a_target(repo, tmp_path, where):
    """Nor a folder in it or around it, for data or for a tablespace."""
    place = (tmp_path / where).resolve()
    with pytest.raises(RestoreTargetError, match="lie in one another"):
        check(repo, place)
    with pytest.raises(RestoreTargetError, match="lie in one another"):
        guard.require_fit_tablespace(repo, 16400, place, delta=True)


def test_a_file_is_no_folder(repo, tmp_path):
    """Neither for the data nor for a tablespace."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(RestoreTargetError, match="is not a folder"):
        check(repo, tmp_path / "file")
    with pytest.raises(RestoreTargetError, match="is not a folder"):
        guard.require_fit_tablespace(repo, 16400, tmp_path / "file", delta=False)
