"""Real servers, written to all the time, restored to every kind of moment, started, and compared with the book."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.clock import SYSTEM_CLOCK
from coffer.errors import RestoreTargetError
from coffer.errors_postgres import RestorePointError
from coffer.postgres.facts import ClusterFacts, Method
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_archive import WalArchive
from coffer.repository.repository import Repository
from coffer.restore.cluster import (
    ClusterRestoreOptions,
    parse_target,
    plan_cluster_restore,
    restore_cluster,
    restore_points,
)
from coffer.restore.cluster.tablespaces import links_of
from coffer.sources.postgres.backup import backup_cluster
from coffer.sources.postgres.spec import ClusterOptions, ClusterSource
from coffer.sources.postgres.wal_receiver import drain
from tests.harness.bookkeeping import TABLES, Bookkeeper, expected_state, state_of
from tests.harness.keyrings import make_unlocker
from tests.harness.postgres import unprivileged, wait_for

pytestmark = pytest.mark.postgres

SLOT = "coffer_main"
FAR = "CREATE TABLE far AS SELECT n, md5(n::text) AS body FROM generate_series(1, 3000) n"
FAR_STATE = "SELECT count(*), md5(string_agg(body, ',' ORDER BY n)) FROM far"


def new_repository():
    """A repository in memory, by the system's clock: the servers go by it too."""
    return Repository.create(MemoryBackend(), make_unlocker(), clock=SYSTEM_CLOCK)


def back_up(repo, server, method):
    """Take a snapshot of a server."""
    source = ClusterSource("main", server.connection(), SLOT)
    return backup_cluster(repo, source, options=ClusterOptions(method=method, workers=2)).snapshot


def save_wal(repo, server):
    """Bring all WAL that there is into the repository."""
    return drain(repo, "main", server.connection(), slot=SLOT)


class Course:
    """A server with a full and a delta snapshot, restore points, and writes all the time; all WAL is saved."""

    def __init__(self, servers):
        self.servers, self.restored = servers, []
        self.server = servers.start()
        self.archive = self.server.home / "archive"
        own_folder(self.archive)
        self.server.sql("ALTER SYSTEM SET archive_mode = 'on'")
        self.server.sql(f"ALTER SYSTEM SET archive_command = 'cp %p {self.archive}/%f'")
        self.server.restart()
        self.repo = new_repository()
        self.space = self.server.home / "space"
        own_folder(self.space)
        self.server.sql(f"CREATE TABLESPACE outer_space LOCATION '{self.space}'")
        self.server.sql(TABLES)
        self.server.sql(f"{FAR.replace('far AS', 'far TABLESPACE outer_space AS')}")
        self.server.sql("CREATE UNLOGGED TABLE passing AS SELECT generate_series(1, 1000) AS n")
        self.server.sql("SELECT lo_from_bytea(4711, 'a large object')")
        with Bookkeeper(self.server) as book:
            self.book = book
            book.go_on(40)
            self.before_full = book.count
            self.full = back_up(self.repo, self.server, Method.FULL)
            self.after_full = book.count + 1
            self.early = book.go_on(30)
            book.mark("it's the first")
            book.go_on(30)
            self.delta = back_up(self.repo, self.server, Method.DELTA)
            self.late = book.go_on(60)
            book.mark("the second")
            book.go_on(20)
        self.far = self.server.sql(FAR_STATE)
        save_wal(self.repo, self.server)

    def plan(self, text, **given):
        """Plan a restore."""
        snapshot = given.pop("snapshot", None)
        return plan_cluster_restore(self.repo, "main", parse_target(text, **given), snapshot=snapshot)

    def empty(self):
        """Return a server without a data folder; it is closed when the test ends."""
        self.restored.append(self.servers.empty())
        return self.restored[-1]

    def restore(self, plan, **options):
        """Restore into a new server's folder, start it, and wait until it has recovered."""
        server = self.empty()
        options.setdefault("tablespaces_below", server.home / "spaces")
        restore_cluster(
            self.repo, plan, server.data, options=ClusterRestoreOptions(workers=2, durable=False, **options)
        )
        server.start()
        server.wait_recovered()
        return server


def own_folder(path):
    """Make a folder of the server's user."""
    path.mkdir()
    shutil.chown(path, unprivileged().pw_uid, unprivileged().pw_gid)


@pytest.fixture(scope="session")
def made_course(servers):
    """Made once for each version; nobody changes it."""
    return Course(servers)


@pytest.fixture
def course(made_course):
    """The course; what was restored from it is closed afterwards."""
    yield made_course
    while made_course.restored:
        made_course.restored.pop().close()


def must_be(server, number, course=None):
    """Compare a restored server with the book after so many transactions."""
    assert expected_state(number) == state_of(server)
    if course is not None:
        assert course.far == server.sql(FAR_STATE)
        assert b"a large object" == bytes(server.value("SELECT lo_get(4711)"))
        assert 0 == server.value("SELECT count(*) FROM passing")
    server.sql("INSERT INTO book VALUES (0, 'it takes writes')")


# ------------------------------------------------------------------------------------------------ moments


def test_latest_has_the_last_transaction(course):
    """Nothing that was saved is missing, nothing else is there."""
    server = course.restore(course.plan("latest"))
    must_be(server, course.book.count, course)


@pytest.mark.parametrize("which", ["early", "late"])
def test_an_lsn_has_what_was_there_when_the_server_said_it(course, which):
    """To the very transaction, from the full snapshot and from the delta one."""
    kept = getattr(course, which)
    plan = course.plan(f"lsn:{kept.lsn}", inclusive=False)
    assert {"early": course.full, "late": course.delta}[which].id == plan.snapshot.id
    must_be(course.restore(plan), kept.number, course)


@pytest.mark.parametrize("which", ["early", "late"])
def test_a_time_has_what_was_committed_until_then(course, which):
    """To the very transaction, although others were committed some milliseconds later."""
    kept = getattr(course, which)
    plan = course.plan(f"time:{kept.at.isoformat()}")
    assert {"early": course.full, "late": course.delta}[which].id == plan.snapshot.id
    must_be(course.restore(plan), kept.number, course)


@pytest.mark.parametrize("name", ["it's the first", "the second"])
def test_a_name_has_what_was_there_at_the_restore_point(course, name):
    """Also where the name has a quote in it."""
    must_be(course.restore(course.plan(f"name:{name}")), course.book.points[name], course)


@pytest.mark.parametrize("inclusive", [True, False])
def test_a_transaction_is_the_last_that_is_there_or_the_first_that_is_not(course, inclusive):
    """As recovery_target_inclusive says."""
    kept = course.late
    plan = course.plan(f"xid:{kept.xid}", inclusive=inclusive)
    must_be(course.restore(plan), kept.number - (not inclusive), course)


@pytest.mark.parametrize("which", ["full", "delta"])
def test_immediate_is_a_moment_within_the_backup(course, which):
    """Every transaction until some moment while the snapshot was taken, and no later one."""
    snapshot = getattr(course, which)
    server = course.restore(course.plan("immediate", snapshot=snapshot.id))
    number = server.value("SELECT count(*) FROM book")
    if which == "full":
        assert course.before_full <= number <= course.after_full
    must_be(server, number, course)


def test_the_full_snapshot_leads_as_far_as_the_delta_one(course):
    """Over all WAL since: the same content."""
    must_be(course.restore(course.plan("latest", snapshot=course.full.id)), course.book.count, course)


def test_the_end_of_the_saved_wal_can_be_named_as_an_lsn(course):
    """PostgreSQL itself would say that its recovery ended before the target."""
    end = restore_points(course.repo, "main")[-1].path.reach.end
    must_be(course.restore(course.plan(f"lsn:{end}")), course.book.count, course)


def test_a_restored_server_archives_nothing_and_says_so(course):
    """Its configuration has the archive of the original; nothing arrives there."""
    server = course.restore(course.plan("latest"))
    before = sorted(os.listdir(course.archive))
    server.sql("CREATE TABLE more AS SELECT generate_series(1, 1000)")
    server.sql("SELECT pg_switch_wal()")
    server.sql("CHECKPOINT")
    assert ("off", "", "") == tuple(
        server.value(f"SHOW {name}") for name in ("archive_mode", "primary_conninfo", "primary_slot_name")
    )
    assert str(course.archive) in server.value("SELECT setting FROM pg_file_settings WHERE name = 'archive_command'")
    server.stop()
    assert before == sorted(os.listdir(course.archive))


def test_other_targets_in_its_configuration_do_not_count(course):
    """PostgreSQL takes one target; a left-over one in postgresql.conf neither stops it nor takes ours away."""
    server = course.empty()
    plan = course.plan(f"lsn:{course.early.lsn}", inclusive=False)
    options = ClusterRestoreOptions(workers=2, durable=False, tablespaces_below=server.home / "spaces")
    restore_cluster(course.repo, plan, server.data, options=options)
    with (server.data / "postgresql.conf").open("a") as file:
        file.write("recovery_target_time = '2020-01-01 00:00:00+00'\nrecovery_target_xid = '7'\n")
        file.write("restore_command = 'true'\nrecovery_target_action = 'shutdown'\n")
    server.start()
    server.wait_recovered()
    must_be(server, course.early.number, course)


def test_a_server_may_fetch_its_wal_by_itself(course):
    """Where there is more than fits into pg_wal beforehand: the restore_command that was given brings it."""
    first = course.restore(course.plan("immediate"))
    first.stop()
    store = first.home / "store"
    own_folder(store)
    filled = course.empty()
    options = {"workers": 2, "durable": False, "tablespaces_below": filled.home / "spaces"}
    plan = course.plan("latest")
    restore_cluster(course.repo, plan, filled.data, options=ClusterRestoreOptions(**options))
    for path in (filled.data / "pg_wal").iterdir():
        if path.is_file():
            shutil.copy(path, store / path.name)
            shutil.chown(store / path.name, unprivileged().pw_uid, unprivileged().pw_gid)
    server = course.restore(plan, wal_limit_bytes=1, restore_command=f"cp '{store}/%f' \"%p\"")
    must_be(server, course.book.count, course)


def test_pause_lets_one_look_before_it_is_opened(course):
    """The server answers questions at the target, and is opened by hand."""
    server = course.empty()
    plan = course.plan(f"xid:{course.late.xid}")
    options = ClusterRestoreOptions(workers=2, durable=False, tablespaces_below=server.home / "spaces", action="pause")
    restore_cluster(course.repo, plan, server.data, options=options)
    server.start()
    wait_for(lambda: server.value("SELECT pg_get_wal_replay_pause_state()") == "paused", "the pause")
    assert expected_state(course.late.number) == state_of(server)
    server.sql("SELECT pg_wal_replay_resume()")
    server.wait_recovered()
    must_be(server, course.late.number)


# ------------------------------------------------------------------------------------------------ the folder


def test_pg_verifybackup_finds_the_folder_whole(course):
    """With the manifest that is written on request: every file, every checksum, and the WAL of the backup."""
    server = course.empty()
    options = ClusterRestoreOptions(workers=2, durable=True, tablespaces_below=server.home / "spaces", manifest=True)
    restore_cluster(course.repo, course.plan("latest"), server.data, options=options)
    done = server.program("pg_verifybackup", server.data)
    assert (0, "backup successfully verified\n") == (done.returncode, done.stdout), done.stderr
    victim = next(path for path in (server.data / "base").rglob("1259"))
    with victim.open("r+b") as file:
        file.seek(100)
        file.write(b"x")
    assert "checksum mismatch" in server.program("pg_verifybackup", server.data).stderr


def test_tablespaces_go_where_they_are_told(course):
    """By OID, by their old place; the links lead there, and the old place is not touched."""
    (oid, place), = course.plan("latest").record.tablespaces.items()  # fmt: skip
    assert str(course.space) == place
    before = sorted(os.listdir(course.space))
    for key in (str(oid), place):
        server = course.empty()
        folder = server.home / "elsewhere" / "deep"
        options = ClusterRestoreOptions(workers=2, durable=False, tablespaces={key: folder})
        result = restore_cluster(course.repo, course.plan("latest"), server.data, options=options)
        assert {oid: folder} == dict(result.tablespaces)
        assert str(folder) == os.readlink(server.data / "pg_tblspc" / str(oid))
        server.start()
        server.wait_recovered()
        must_be(server, course.book.count, course)
    assert before == sorted(os.listdir(course.space))


def test_a_cluster_whose_configuration_was_elsewhere_starts_with_what_was_made_up(course):
    """As on Debian; only where it listens is put in by the test."""
    server = course.empty()
    options = {"tablespaces_below": server.home / "spaces", "exclude": ("/*.conf", "!/postgresql.auto.conf")}
    given = ClusterRestoreOptions(workers=2, durable=False, **options)
    result = restore_cluster(course.repo, course.plan("latest"), server.data, options=given)
    assert {"pg-ext-config"} == {warning.code for warning in result.warnings}
    with (server.data / "postgresql.conf").open("a") as file:
        file.write("include = 'harness.conf'\n")
    server.start()
    server.wait_recovered()
    must_be(server, course.book.count, course)


def test_without_pg_control_no_server_starts(course):
    """What an aborted restore leaves is no cluster; see test_execute for the moments at which it may be aborted."""
    server = course.empty()
    options = ClusterRestoreOptions(workers=2, durable=False, tablespaces_below=server.home / "spaces")
    restore_cluster(course.repo, course.plan("latest"), server.data, options=options)
    (server.data / "global/pg_control").unlink()
    done = server.program("postgres", "-D", server.data, "-p", str(server.port))
    assert done.returncode != 0
    assert "pg_control" in done.stderr


# ------------------------------------------------------------------------------------------------ delta


def delta_into(server):
    there = {str(oid): folder for oid, folder in links_of(server.data).items()}  # it must be told where they are
    return ClusterRestoreOptions(workers=2, durable=False, delta=True, tablespaces=there)


def test_a_delta_writes_only_pages_that_differ(course):
    """Over a server that went its own way: the content is that of the moment, most pages were never written."""
    server = course.restore(course.plan("latest"))
    server.sql("CREATE TABLE strange AS SELECT generate_series(1, 50000) AS n")
    server.sql("UPDATE far SET body = 'changed' WHERE n % 100 = 0")
    server.sql("DROP TABLE accounts")
    server.sql("CREATE DATABASE another")
    server.stop()
    (server.data / "left behind").write_text("by somebody")
    plan = course.plan(f"xid:{course.late.xid}")
    options = delta_into(server)
    stats = restore_cluster(course.repo, plan, server.data, options=options).stats
    assert not (server.data / "left behind").exists()
    assert stats["files_removed"] > 200  # of the other database alone
    assert 0 < stats["pages_written"] < stats["pages_compared"] / 3
    server.start()
    server.wait_recovered()
    must_be(server, course.late.number, course)
    assert [] == server.sql("SELECT 1 FROM pg_database WHERE datname = 'another'")


def test_a_delta_over_a_running_server_is_refused(course):
    """By its pid, whose process works in the folder; the server does not notice."""
    server = course.restore(course.plan("immediate"))
    options = ClusterRestoreOptions(workers=2, durable=False, delta=True)
    with pytest.raises(RestoreTargetError, match="a server runs in it"):
        restore_cluster(course.repo, course.plan("latest"), server.data, options=options)
    (server.data / "postmaster.pid").rename(server.home / "hidden")
    with pytest.raises(RestoreTargetError, match="works in it"):
        restore_cluster(course.repo, course.plan("latest"), server.data, options=options)
    (server.home / "hidden").rename(server.data / "postmaster.pid")
    assert 1 == server.value("SELECT 1")
    server.stop()


def test_a_delta_after_a_crash_is_not_refused(course):
    """The pid file that a killed server leaves names nobody who lives."""
    server = course.restore(course.plan("immediate"))
    server.stop(signal.SIGKILL)
    assert (server.data / "postmaster.pid").exists()
    options = delta_into(server)

    def restored():
        try:  # its children take a moment to notice that it is gone
            return restore_cluster(course.repo, course.plan("latest"), server.data, options=options)
        except RestoreTargetError:
            return None

    wait_for(restored, "the last process of the server")
    server.start()
    server.wait_recovered()
    must_be(server, course.book.count, course)


def test_another_cluster_is_not_overwritten(course, servers):
    """A delta into the folder of a server that was made by itself."""
    other = servers.start("-k")
    other.stop()
    before = Path(other.data / "global/pg_control").read_bytes()
    own = int.from_bytes(before[:8], "little")
    facts = ClusterFacts.of(course.full)
    if own == facts.system_id:  # the harness copies one cluster: make this one another
        changed = (own + 1).to_bytes(8, "little") + before[8:]
        Path(other.data / "global/pg_control").write_bytes(changed)
    options = ClusterRestoreOptions(workers=2, durable=False, delta=True, tablespaces_below=other.home / "x")
    with pytest.raises(RestoreTargetError, match="holds cluster"):
        restore_cluster(course.repo, course.plan("latest"), other.data, options=options)
    assert (other.data / "base/1").is_dir()


# ------------------------------------------------------------------------------------------------ what is missing


def test_a_range_of_wal_that_is_missing_is_named_before_anything_is_written(servers):
    """What lies before it can be restored; nothing is restored over it."""
    server = servers.start()
    server.sql(TABLES)
    repo = new_repository()
    with Bookkeeper(server) as book:
        book.go_on(10)
        back_up(repo, server, Method.FULL)
        kept = book.go_on(20)
        save_wal(repo, server)
        book.go_on(20)
        save_wal(repo, server)
        book.go_on(20)
    save_wal(repo, server)
    ranges = WalArchive(repo, "main").ranges()
    lost = next(ref for ref in ranges if ref.start > kept.lsn)
    assert lost is not ranges[-1]
    repo.backend.delete(lost.name)
    with pytest.raises(RestorePointError, match=f"WAL {lost.start}..{lost.end} of timeline 1 is missing"):
        plan_cluster_restore(repo, "main", parse_target("latest"))
    with pytest.raises(RestorePointError, match="is missing"):
        plan_cluster_restore(repo, "main", parse_target(f"lsn:{Lsn(lost.end + 8)}"))
    plan = plan_cluster_restore(repo, "main", parse_target(f"lsn:{kept.lsn}", inclusive=False))
    restored = servers.empty()
    restore_cluster(repo, plan, restored.data, options=ClusterRestoreOptions(workers=2, durable=False))
    restored.start()
    restored.wait_recovered()
    must_be(restored, kept.number)


# ------------------------------------------------------------------------------------------------ standby, timelines


def test_a_snapshot_of_a_standby_restores_as_a_server_of_its_own(servers):
    """It asks no primary, and goes on by itself."""
    primary = servers.start()
    primary.sql(TABLES)
    standby = servers.start_standby(primary, hot_standby_feedback="on")
    repo = new_repository()
    with Bookkeeper(primary) as book:
        book.go_on(20)
        back_up(repo, standby, Method.FULL)
        kept = book.go_on(40)
    end = primary.value("SELECT pg_current_wal_lsn()")
    wait_for(lambda: standby.value("SELECT pg_last_wal_receive_lsn() >= %s::pg_lsn", [end]), "the standby")
    save_wal(repo, standby)
    for target, number in (("latest", book.count), (f"xid:{kept.xid}", kept.number)):
        restored = servers.empty()
        plan = plan_cluster_restore(repo, "main", parse_target(target))
        assert plan.facts.from_standby
        restore_cluster(repo, plan, restored.data, options=ClusterRestoreOptions(workers=2, durable=False))
        assert not (restored.data / "standby.signal").exists()
        restored.start()
        restored.wait_recovered()
        must_be(restored, number)
        assert "" == restored.value("SHOW primary_conninfo")


def test_a_promotion_is_followed_and_the_old_timeline_can_still_be_reached(servers):
    """From a snapshot before it, over the switch in the middle of a segment, to the end; and to a moment before it."""
    primary = servers.start()
    primary.sql(TABLES)
    standby = servers.start_standby(primary)
    repo = new_repository()
    standby.sql("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
    with Bookkeeper(primary) as book:
        book.go_on(20)
        back_up(repo, primary, Method.FULL)
        kept = book.go_on(30)
    first = list(book.kept)
    save_wal(repo, primary)
    end = primary.value("SELECT pg_current_wal_lsn()")
    wait_for(lambda: standby.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [end]), "the standby")
    primary.stop()
    standby.sql("SELECT pg_promote()")
    standby.wait_recovered()
    after = Bookkeeper(standby)
    after.kept = first
    with after:
        after.go_on(30)
    save_wal(repo, standby)
    for target, timeline, number in (("latest", 2, after.count), (f"xid:{kept.xid}", 1, kept.number)):
        plan = plan_cluster_restore(repo, "main", parse_target(target))
        assert timeline == plan.stop.timeline
        restored = servers.empty()
        restore_cluster(repo, plan, restored.data, options=ClusterRestoreOptions(workers=2, durable=False))
        restored.start()
        restored.wait_recovered()
        must_be(restored, number)
        restored.sql("CHECKPOINT")
        assert 3 == restored.value("SELECT timeline_id FROM pg_control_checkpoint()")
