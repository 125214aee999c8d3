"""What a restore writes, in which order, and what it leaves alone; of a cluster made by hand, without a server."""

from __future__ import annotations

import errno
import os
import shlex
import stat
import threading

import pytest

from coffer.errors import (
    InterruptedRunError,
    ObjectCorruptError,
    RestoreIncompleteError,
    RestoreSpaceError,
    RestoreTargetError,
    UsageError,
)
from coffer.ids import pack_name
from coffer.postgres.lsn import Lsn, Segment
from coffer.postgres.record import ClusterRecord
from coffer.progress import Progress
from coffer.repository.pack import TYPE_DATA
from coffer.restore.cluster import execute
from coffer.restore.cluster.execute import start_command
from tests.harness.backups import needs_root
from tests.harness.clusters import SmallCluster, label_of
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.wal_maker import SEGMENT

OWN = {"recovery.signal", "backup_label", "pg_wal", "postgresql.auto.conf", "global/pg_control"}


def names_below(folder):
    """Every path below a folder, relative to it; links are not followed."""
    return {os.path.relpath(os.path.join(top, name), folder) for top, a, b in os.walk(folder) for name in (*a, *b)}


def settings_of(target):
    """The lines of postgresql.auto.conf that a restore wrote, in order."""
    text = (target / "postgresql.auto.conf").read_text()
    block = text.split("--- begin")[1].split("--- end")[0]
    return [tuple(line.split(" = ", 1)) for line in block.splitlines()[1:-1]]


def test_the_tree_comes_back_and_what_a_server_needs_beside_it(small, target):
    """Files byte for byte, private; pg_control and the label as saved; a signal, and nothing of ours."""
    result = small.restore(target)
    for path, content in small.files.items():
        if content is not None and os.fsdecode(path) not in OWN:
            assert content == (target / os.fsdecode(path)).read_bytes(), path
    assert small.files[b"global/pg_control"] == (target / "global/pg_control").read_bytes()
    assert label_of(small.facts) == (target / "backup_label").read_bytes()
    assert b"" == (target / "recovery.signal").read_bytes()
    assert 0o700 == stat.S_IMODE(target.stat().st_mode)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in target.rglob("*") if path.is_file()}
    assert [] == [name for name in names_below(target) if "coffer" in name]
    assert (0, ()) == (result.exit_code, result.failures)
    assert small.snapshot.id == result.snapshot.id


def test_what_belonged_to_the_other_server_is_left_out(target):
    """Its pid, its role as a standby, its map of tablespaces: a copy must not take them for its own."""
    strange = {
        b"postmaster.pid": b"1\n", b"postmaster.opts": b"x", b"standby.signal": b"", b"tablespace_map": b"1 /x\n",
        b"backup_manifest": b"{}", b"backup_label.old": b"x",
    }  # fmt: skip
    made = SmallCluster(strange)
    made.restore(target)
    assert set() == {os.fsdecode(name) for name in strange} & names_below(target)


def test_wal_lies_in_pg_wal_as_segments_with_zeros_behind_the_target(small, target):
    """Each segment has its whole size; what the recovery does not need is not there, and each counts as archived."""
    result = small.restore(target)
    names = [Segment(1, number).name(SEGMENT) for number in (1, 2, 3)]
    folder = target / "pg_wal"
    assert sorted([*names, "archive_status"]) == sorted(path.name for path in folder.iterdir())
    found = b"".join((folder / name).read_bytes() for name in names)
    assert small.wal.data == found[: len(small.wal.data)]
    assert set(found[len(small.wal.data) :]) == {0}
    assert 3 * SEGMENT == len(found)
    assert sorted(f"{name}.done" for name in names) == sorted(p.name for p in (folder / "archive_status").iterdir())
    assert (3, small.wal.end - SEGMENT) == (result.stats["wal_segments"], result.stats["wal_bytes"])


def test_only_the_wal_up_to_the_target_is_written(small, target):
    """The snapshot's own end lies in the first segment."""
    small.restore(target, "immediate")
    (segment,) = [path for path in (target / "pg_wal").iterdir() if path.is_file()]
    data = segment.read_bytes()
    end = small.facts.end - SEGMENT
    assert small.wal.data[:end] == data[:end]
    assert set(data[end:]) == {0}


def test_the_settings_make_the_server_stop_there_and_keep_it_to_itself(small, target):
    """No archive, no primary, no other target; the target stands behind the empty ones, as the last one counts."""
    small.restore(target)
    found = settings_of(target)
    expected = {
        "restore_command": "'false'",
        "primary_conninfo": "''",
        "primary_slot_name": "''",
        "archive_mode": "'off'",
        "recovery_target": "''",
        "recovery_target_time": "''",
        "recovery_target_name": "''",
        "recovery_target_xid": "''",
        "recovery_target_lsn": f"'{small.last.start}'",
        "recovery_target_inclusive": "'on'",
        "recovery_target_timeline": "'1'",
        "recovery_target_action": "'promote'",
    }
    assert expected.items() <= dict(found).items()
    names = [name for name, _ in found]
    empties = [names.index(name) for name, value in found if name.startswith("recovery_target") and value == "''"]
    assert names.index("recovery_target_lsn") > max(empties)
    assert "work_mem = '8MB'" in (target / "postgresql.auto.conf").read_text()


def test_options_change_the_settings(small, target):
    """Archiving goes on only if asked for; further settings come last and win."""
    small.restore(target, keep_archiving=True, action="pause", settings={"work_mem": "it's"})
    found = settings_of(target)
    assert "archive_mode" not in dict(found)
    assert "'pause'" == dict(found)["recovery_target_action"]
    assert ("work_mem", "'it''s'") == found[-1]


def test_too_much_wal_is_fetched_by_the_server(small, target):
    """Above the limit the command stands in the settings; without a command it is refused.

    The last two segments are put there all the same: the very last is mostly saved in part, and is not fetched.
    """
    with pytest.raises(UsageError, match="over the limit"):
        small.restore(target, wal_limit_bytes=SEGMENT)
    assert not target.exists()
    small.restore(target, wal_limit_bytes=SEGMENT, restore_command="fetch '%f' \"%p\"")
    found = sorted(path.name for path in (target / "pg_wal").iterdir())
    assert ["000000010000000000000002", "000000010000000000000003", "archive_status"] == found
    assert "'fetch ''%f'' \"%p\"'" == dict(settings_of(target))["restore_command"]


def test_a_configuration_outside_the_folder_is_made_up_for_and_said(target):
    """As on Debian: with what the recovery needs, and local access alone."""
    missing = ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")
    made = SmallCluster()
    made.keep({path: content for path, content in made.files.items() if os.fsdecode(path) not in missing})
    result = made.restore(target)
    assert "max_connections = '321'\n" in (target / "postgresql.conf").read_text()
    assert "local all all peer\n" in (target / "pg_hba.conf").read_text()
    assert "" == (target / "pg_ident.conf").read_text()
    assert ["pg-ext-config"] * 2 == [warning.code for warning in result.warnings]


def test_a_configuration_that_leads_to_the_other_server_is_put_right(target):
    """data_directory in postgresql.conf would start the original: the command line goes before it."""
    lines = b"data_directory = '/var/lib/somewhere'  # here\nhba_file='/nowhere/x'\nexternal_pid_file = '/run/x.pid'\n"
    result = SmallCluster({b"postgresql.conf": lines}).restore(target)
    assert 3 == sum(warning.code == "pg-ext-config" for warning in result.warnings)
    given = result.start_command[result.start_command.index("-o") + 1]
    assert f"-c {shlex.quote(f'data_directory={target}')}" in given
    assert f"-c {shlex.quote(f'hba_file={target}/pg_hba.conf')}" in given
    assert f"-c {shlex.quote(f'external_pid_file={target}/coffer-external.pid')}" in given


# ------------------------------------------------------------------------------------------------ order and faults

STEPS = ("write_histories", "write_wal", "write_manifest")


@pytest.mark.parametrize("step", STEPS)
def test_whatever_fails_leaves_no_pg_control(small, target, monkeypatch, step):
    """So no server starts on what is not whole; the same restore as a delta ends it."""

    def fail(*_args, **_given):
        raise InterruptedRunError("planted")

    monkeypatch.setattr(execute, step, fail)
    with pytest.raises(InterruptedRunError, match="planted"):
        small.restore(target, manifest=True)
    assert (target / "PG_VERSION").exists()
    assert not (target / "global/pg_control").exists()
    monkeypatch.undo()
    small.restore(target, delta=True)
    assert (target / "global/pg_control").exists()
    assert small.files[b"base/5/1259"] == (target / "base/5/1259").read_bytes()


@pytest.mark.parametrize(
    ("number", "kind", "why"),
    [(errno.ENOSPC, RestoreSpaceError, "no space left"), (errno.EROFS, RestoreTargetError, "read-only file system")],
)
def test_what_the_disk_refuses_is_one_error_that_says_how_to_go_on(small, target, monkeypatch, number, kind, why):
    """Whatever call it is that fails; nothing can be started."""

    def fail(*_args, **_given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(execute, "write_wal", fail)
    with pytest.raises(kind, match=why) as caught:
        small.restore(target)
    assert "--delta" in caught.value.hint
    assert not (target / "global/pg_control").exists()


def test_a_stop_ends_it_and_nothing_can_be_started(small, target):
    """The first step that looks ends the run."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        small.restore(target, stop=stop)
    assert not (target / "global/pg_control").exists()


def test_a_delta_takes_pg_control_away_before_anything_else(small, target, monkeypatch):
    """A delta that is killed leaves no cluster behind, not even the old one."""
    small.restore(target)

    def fail(_delta):
        assert not (target / "global/pg_control").exists()
        raise InterruptedRunError("planted")

    monkeypatch.setattr(execute.Delta, "run", fail)
    with pytest.raises(InterruptedRunError, match="planted"):
        small.restore(target, delta=True)
    assert not (target / "global/pg_control").exists()


def spoiled(path):
    """A small cluster of which one file's chunk is damaged in the store."""
    backend = TamperableMemoryBackend()
    made = SmallCluster({b"base/5/9999": bytes(range(250)) * 12_000}, backend=backend)
    manifest = made.repo.manifest(made.snapshot)
    entry = manifest.find(path)
    where = made.repo.reader().locate(next(iter(manifest.expand(entry.content))).chunk_id)
    assert TYPE_DATA == where.type
    backend.flip_bit(pack_name(where.pack_id), where.offset + 3)
    return made


def test_a_damaged_file_keeps_the_cluster_from_being_started_unless_that_is_asked_for(target):
    """The rest is there; who wants to dump what is whole says so, and is told again what is missing."""
    made = spoiled(b"base/5/9999")
    with pytest.raises(RestoreIncompleteError, match="base/5/9999") as caught:
        made.restore(target)
    assert ["base/5/9999"] == caught.value.details["failures"]
    assert not (target / "global/pg_control").exists()
    result = made.restore(target, delta=True, despite_damage=True)
    assert (3, [b"base/5/9999"]) == (result.exit_code, [failure.path for failure in result.failures])
    assert (target / "global/pg_control").exists()


@pytest.mark.parametrize("path", [b"global/pg_control", b"backup_label"])
def test_without_what_every_recovery_needs_nothing_is_written(target, path):
    """A damaged pg_control or label is told before the first file."""
    made = spoiled(path)
    with pytest.raises(ObjectCorruptError):
        made.restore(target)
    assert not target.exists()


def test_a_label_or_control_of_another_backup_is_refused(target):
    """They must be those of the facts that the plan was made with."""
    made = SmallCluster()
    wrong = label_of(made.facts).replace(str(made.facts.start).encode(), b"0/7000028")
    with pytest.raises(ObjectCorruptError, match="begins at 0/7000028"):
        SmallCluster({b"backup_label": wrong}).restore(target)
    with pytest.raises(ObjectCorruptError, match="of another cluster"):
        SmallCluster({b"global/pg_control": bytes(8192)}).restore(target)
    assert not target.exists()


# ------------------------------------------------------------------------------------------------ refusals


def test_a_folder_that_is_not_empty_is_refused(small, target):
    """With the way out that fits: a delta where a cluster is there."""
    target.mkdir(parents=True)
    (target / "mine").write_text("mine")
    with pytest.raises(RestoreTargetError, match="is not empty") as caught:
        small.restore(target)
    assert "--delta" not in caught.value.hint
    (target / "PG_VERSION").write_text("15\n")
    with pytest.raises(RestoreTargetError, match="is not empty") as caught:
        small.restore(target)
    assert "--delta" in caught.value.hint
    assert {"mine", "PG_VERSION"} == names_below(target)


def test_another_word_for_the_end_is_refused(small, target):
    """PostgreSQL knows three."""
    with pytest.raises(UsageError, match="action 'stop'"):
        small.restore(target, action="stop")


def test_progress_and_counts_are_kept(small, target):
    """Files and bytes of the tree, without what was left out."""
    progress = Progress()
    result = small.restore(target, progress=progress)
    assert result.stats["files"] > 5
    assert result.stats["size_bytes"] == result.stats["written_bytes"]
    assert progress.files_done == result.stats["files"]


# ------------------------------------------------------------------------------------------------ owners and commands


@needs_root
def test_root_gives_everything_to_its_owner(target):
    """As on the server, or to whom it is told: also what the restore itself writes."""
    made = SmallCluster()
    made.keep(made.files, owner=(12345, 12346))
    made.restore(target)
    assert {(12345, 12346)} == {(p.lstat().st_uid, p.lstat().st_gid) for p in (target, *target.rglob("*"))}
    made.restore(target, delta=True, owner=(777, 778), manifest=True)
    assert {(777, 778)} == {(p.lstat().st_uid, p.lstat().st_gid) for p in (target, *target.rglob("*"))}


def test_the_command_starts_the_server_as_its_owner(tmp_path):
    """With pg_ctl, waiting as long as the recovery takes, the log in the folder."""
    words = start_command(99, tmp_path, (os.geteuid(), os.getegid()), {})
    at = words.index("pg_ctl")
    assert ("pg_ctl", "-D", str(tmp_path), "-w") == words[at : at + 4]
    assert "start" == words[-1]
    assert str(tmp_path / "coffer-recovery.log") in words
    if os.geteuid() == 0:
        assert ("runuser", "-u", "root", "--") == words[:4]
        assert "--reuid=4294000" in start_command(99, tmp_path, (4294000, 5), {})


def test_an_owner_of_a_snapshot_without_a_version_file_is_the_user(target):
    """Nothing says whose it was."""
    made = SmallCluster()
    made.keep({path: content for path, content in made.files.items() if path != b"PG_VERSION"})
    made.restore(target)
    assert (os.geteuid(), os.getegid()) == (target.stat().st_uid, target.stat().st_gid)


def test_the_record_may_be_missing(target):
    """An old snapshot has none: tablespaces are found in the tree, settings have their defaults."""
    made = SmallCluster(record=ClusterRecord(""))
    made.restore(target)
    assert (target / "global/pg_control").exists()
    assert Lsn(SEGMENT) == made.plan().path.begin
