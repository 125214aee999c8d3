"""A restore that is killed at a system call leaves no cluster, or the whole one; and can be ended by a delta."""

from __future__ import annotations

from tests.harness.programs import run_program


def test_a_kill_at_any_moment_leaves_no_cluster_that_is_not_whole(tmp_path):
    """After kill -9 at some sixty places of a new restore and of a delta: pg_control is there only if all is.

    The same restore, run again as a delta, ends it. Where the disk cannot say that a restore had begun, the folder has
    to be emptied by hand first.
    """
    done = run_program(KILL, str(tmp_path))
    assert 0 == done.returncode, done.stderr
    killed, without, whole = map(int, done.stdout.split())
    assert killed > 50
    assert killed == without + whole
    assert without > 40


KILL = """
    import os, shutil, sys
    from pathlib import Path
    from coffer.postgres.record import ClusterRecord
    from tests.harness.clusters import SmallCluster
    from tests.harness.syscalls import ScriptedCalls, kill_self, scripted

    ROOT = Path(sys.argv[1])
    CALLS = ("open", "mkdir", "rename", "write", "pwrite", "ftruncate", "symlink", "unlink", "rmdir", "fsync")
    INNER = b"pg_tblspc/16400/PG_15_202209061/5/16401"
    made = SmallCluster({INNER: b"t" * 16384}, record=ClusterRecord("15.18", tablespaces={16400: "/srv/fast"}))

    def restore(home, delta):
        where = {"16400": home / "space"}
        made.restore(home / "data", tablespaces=where, delta=delta, workers=1, durable=True, manifest=True)

    def is_whole(home):
        for path, content in made.files.items():
            place = home / "data" / os.fsdecode(path)
            if content and path != b"postgresql.auto.conf" and place.read_bytes() != content:
                return False
        conf = (home / "data/postgresql.auto.conf").read_text()
        return "recovery_target_lsn" in conf and (home / "data/recovery.signal").exists()

    def spoil(home):
        (home / "data/base/5/1259").write_bytes(b"z" * 8192 * 3)
        (home / "data/added").write_text("x")
        (home / "space/PG_15_202209061/5/16401").unlink()

    def killed_at(home, delta, at):
        child = os.fork()
        if child == 0:
            with scripted(ScriptedCalls(kill_self, at), CALLS):
                restore(home, delta)
            os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    kills = without = whole = 0
    for delta in (False, True):
        home = ROOT / f"count-{delta:d}"
        if delta:
            restore(home, False)
            spoil(home)
        with scripted(ScriptedCalls(), CALLS) as counted:
            restore(home, delta)
        assert is_whole(home)
        total = len(counted.made)
        for at in range(0, total, max(1, total // 35)):
            home = ROOT / f"{delta:d}-{at}"
            if delta:
                restore(home, False)
                spoil(home)
            assert killed_at(home, delta, at) == -9
            kills += 1
            if (home / "data/global/pg_control").exists():
                untouched = delta and (home / "data/added").exists()
                assert untouched or is_whole(home), home
                whole += 1
            else:
                without += 1
            try:
                os.setxattr(ROOT, "user.probe", b"")
            except OSError:
                shutil.rmtree(home)
            restore(home, True)
            assert is_whole(home), home
    print(kills, without, whole)
"""
