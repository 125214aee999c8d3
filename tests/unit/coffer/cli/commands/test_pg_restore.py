"""`coffer pg restore`: how a moment and places are named, and how the end is told; of a cluster made by hand."""

from __future__ import annotations

import os
import shlex

import pytest

from coffer.backends.local import LocalBackend
from coffer.crypto.kek import KeyFileUnlocker
from coffer.postgres.lsn import Lsn
from coffer.postgres.record import ClusterRecord
from coffer.repository.repository import Repository
from tests.harness.backups import needs_root
from tests.harness.clusters import SmallCluster, keep_snapshot

INNER = b"pg_tblspc/16400/PG_15_202209061/5/16401"


@pytest.fixture
def cluster(repo):
    """A cluster in the repository that the command line uses, with one tablespace."""
    opened = Repository.open(LocalBackend(repo), KeyFileUnlocker.load(repo.with_name("repo.key")))
    record = ClusterRecord("15.18 (Debian)", tablespaces={16400: "/srv/fast"})
    yield SmallCluster({INNER: b"t" * 16384}, record=record, repo=opened)
    opened.close()


@pytest.fixture
def restore(coffer, cluster, tmp_path):
    """A function that restores with the tablespace in its place, and with more options."""

    def run(*options):
        return coffer(
            "pg", "restore", "-t", tmp_path / "data", "--tablespace", f"16400={tmp_path}/space", "--no-sync", *options
        )

    return run


def test_a_restore_says_what_it_did_and_how_to_go_on(restore, cluster, tmp_path):
    """The plan, the counts, and at the end exactly the command that starts the server."""
    ended = restore("--source", "main", "--to", "latest")
    assert (0, "") == (ended.code, ended.err)
    lines = ended.out.splitlines()
    assert "cluster:   main, PostgreSQL 15.18 (Debian)" == lines[0]
    assert f"target:    latest: the end of the saved WAL, {cluster.wal.end}, timeline 1" in lines
    assert f"tablespace 16400: /srv/fast -> {tmp_path}/space" in lines
    assert f"restored:  {tmp_path}/data" in lines
    assert "start it with:" == lines[-2]
    words = shlex.split(lines[-1])
    assert ["-D", str(tmp_path / "data")] == words[words.index("-D") : words.index("-D") + 2]
    assert "start" == words[-1]
    assert b"t" * 16384 == (tmp_path / "space/PG_15_202209061/5/16401").read_bytes()


def test_the_same_as_json(restore, cluster, tmp_path):
    """Against the schema, with what a program needs to go on."""
    result = restore("--snapshot", cluster.snapshot.id, "--to", "immediate", "--json").result
    assert ("main", "immediate", False) == (result["source"], result["target"], result["dry_run"])
    recovery = result["recovery"]
    assert ("recovery_target_lsn", True, 1) == (recovery["setting"], recovery["inclusive"], recovery["timeline"])
    assert cluster.facts.start < Lsn.parse(recovery["value"]) < cluster.facts.end
    assert str(cluster.facts.end) == result["wal_end"]
    assert {"16400": f"{tmp_path}/space"} == result["tablespaces"]
    assert result["start_command"].endswith(" start")
    assert 1 == result["stats"]["wal_segments"]


def test_a_dry_run_writes_nothing(restore, tmp_path):
    """It says what would be done, and refuses what would be refused."""
    ended = restore("--dry-run")
    assert (0, "nothing was written") == (ended.code, ended.out.splitlines()[-1])
    assert not (tmp_path / "data").exists()
    assert restore("--dry-run", "--json").result["dry_run"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine").write_text("x")
    code, line, _ = restore("--dry-run").fault()
    assert (1, f"target {tmp_path}/data: is not empty") == (code, line)


@pytest.mark.parametrize(
    ("target", "code", "why"),
    [
        ("yesterday", 2, "target 'yesterday': not of a known kind"),
        ("time:noon", 2, "target 'time:noon': not a time"),
        ("lsn:0/7000000", 1, "cluster 'main': lsn:0/7000000 cannot be restored: the saved WAL does not reach it"),
        ("lsn:0/1", 1, "cluster 'main': lsn:0/1 cannot be restored: no snapshot ended before it"),
        ("name:nothing", 1, "cluster 'main': name:nothing cannot be restored: no such restore point follows"),
    ],
)
def test_a_moment_that_cannot_be_had_is_one_line_and_a_hint(restore, tmp_path, target, code, why):
    """Before anything is written."""
    found, line, hint = restore("--to", target).fault()
    assert (code, True) == (found, line.startswith(why)), line
    assert hint
    assert not (tmp_path / "data").exists()


def test_a_time_without_a_zone_is_said_to_be_utc(restore):
    """Among the notes of the plan; this cluster's one transaction is of midnight, the 1st of November."""
    ended = restore("--to", "time:2026-10-31T23:00", "--dry-run")
    assert "was taken as UTC" in ended.err + ended.out or "no snapshot ended before it" in ended.err


def test_more_than_one_cluster_must_be_told_apart(coffer, repo, cluster, tmp_path):
    """With one, nothing need be said; a name that there is none of is told with those that there are."""
    keep_snapshot(cluster.repo, cluster.files, cluster.facts, source="other")
    code, line, hint = coffer("pg", "restore", "-t", tmp_path / "data").fault()
    assert (2, "no cluster is named") == (code, line)
    assert "main, other" in hint
    code, line, hint = coffer("pg", "restore", "-t", tmp_path / "data", "--source", "third").fault()
    assert (2, "source 'third': has no snapshot") == (code, line)
    assert "main, other" in hint


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--tablespace", "16400"), "--tablespace '16400': not of the form OID=DIR or OLDPATH=DIR"),
        (("--tablespace", "=x"), "--tablespace '=x': not of the form OID=DIR or OLDPATH=DIR"),
        (("--tablespace", "16400=/x", "--tablespace", "16400=/y"), "--tablespace 16400: is given twice"),
        (("--owner", "nobody-of-this-name"), "--owner 'nobody-of-this-name': there is no such user"),
        (("--exclusive",), "target 'latest': nothing can be left out at it"),
    ],
)
def test_options_that_mean_nothing_are_refused(coffer, cluster, tmp_path, options, why):
    """As usage, before anything is written."""
    code, line, _ = coffer("pg", "restore", "-t", tmp_path / "data", *options).fault()
    assert (2, why) == (code, line)


def test_a_tablespace_needs_a_place(coffer, cluster, tmp_path):
    """The hint has the options; --tablespaces-below serves for all."""
    code, line, hint = coffer("pg", "restore", "-t", tmp_path / "data").fault()
    assert (1, "tablespace 16400, which was /srv/fast on the server, has no place in the restore") == (code, line)
    assert "--tablespaces-below" in hint
    ended = coffer("pg", "restore", "-t", tmp_path / "data", "--tablespaces-below", tmp_path / "all", "--no-sync")
    assert 0 == ended.code, ended.err
    assert ["PG_15_202209061"] == os.listdir(tmp_path / "all/16400")


def test_a_delta_says_how_much_it_wrote(restore, tmp_path):
    """Pages that were compared and written, files that were removed."""
    assert 0 == restore().code
    (tmp_path / "data/base/5/1259").write_bytes(b"z" * 8192 * 5)
    (tmp_path / "data/strange").write_text("x")
    ended = restore("--delta")
    assert 0 == ended.code, ended.err
    (line,) = [line for line in ended.out.splitlines() if line.startswith("delta:")]
    assert "5 written" in line
    assert "removed" in line


def test_much_wal_is_fetched_by_the_server_with_the_options_of_this_run(restore, repo, tmp_path):
    """The command names the repository and the key by absolute paths; that the server must read them is a warning."""
    key = repo.with_name("repo.key")
    ended = restore("--wal-limit", "1MiB", "--repo", repo, "--key-file", key)
    assert 0 == ended.code
    assert "must be able to read" in ended.err
    conf = (tmp_path / "data/postgresql.auto.conf").read_text()
    (line,) = [line for line in conf.splitlines() if line.startswith("restore_command")]
    assert f"--repo {repo}" in line
    assert f"--key-file {key}" in line
    assert "wal fetch %f %p --source main" in line


@needs_root
def test_root_may_give_the_files_to_a_user(restore, tmp_path):
    """By name; PostgreSQL starts only a folder of its own user."""
    assert 0 == restore("--owner", "nobody").code
    assert 65534 == (tmp_path / "data/global/pg_control").stat().st_uid
