"""The local store when a writer is killed, at any system call or in the middle of its data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from coffer.backends.local import LocalBackend
from coffer.errors import BackendUnavailableError, ObjectNotFoundError
from tests.harness.programs import PROJECT, run_program
from tests.harness.syscalls import kill_self

PARTS = [b"one", b"two" * 3000, b"three"]
WHOLE = b"".join(PARTS)


@pytest.fixture
def store(tmp_path):
    backend = LocalBackend(tmp_path / "store", create=True)
    yield backend
    backend.close()


def _check_whole_or_absent(store: LocalBackend, name: str) -> bool:
    """Assert that the object is there whole, listed and read-only, or not at all; return whether it is there."""
    listed = [info.name for info in store.list()]
    try:
        data = store.get(name)
    except ObjectNotFoundError:
        assert [] == listed
        return False
    assert WHOLE == data
    assert [name] == listed
    return True


class TestKilled:
    KILL_AT_EVERY_CALL = """
        import os, sys
        from pathlib import Path
        from coffer.backends.local import LocalBackend
        from tests.harness.syscalls import ScriptedCalls, kill_self, scripted

        root, parts = Path(sys.argv[1]), [b"one", b"two" * 3000, b"three"]
        counting = LocalBackend(root / "count", create=True)
        with scripted(ScriptedCalls()) as counted:
            counting.put("packs/ab/1", parts)
        for at in range(len(counted.made)):
            for after in (False, True):
                store = LocalBackend(root / f"{at}-{after:d}", create=True)
                child = os.fork()
                if child == 0:
                    with scripted(ScriptedCalls(kill_self, at, after=after)):
                        store.put("packs/ab/1", parts)
                    os._exit(1)
                _, status = os.waitpid(child, 0)
                assert os.waitstatus_to_exitcode(status) == -9, status
                store.close()
        print(len(counted.made))
    """

    def test_kill_at_every_call_of_a_put_leaves_a_whole_object_or_none(self, tmp_path):
        """After kill -9 before and after each system call: whole or absent, and the put can be done again."""
        done = run_program(self.KILL_AT_EVERY_CALL, str(tmp_path))
        assert 0 == done.returncode, done.stderr
        points = int(done.stdout)
        assert points > 10
        outcomes = []

        for at in range(points):
            for after in (0, 1):
                store = LocalBackend(tmp_path / f"{at}-{after}")
                outcomes.append(_check_whole_or_absent(store, "packs/ab/1"))
                if not outcomes[-1]:
                    store.put("packs/ab/1", PARTS)
                assert _check_whole_or_absent(store, "packs/ab/1")
                store.close()

        print(f"kill -9 at {2 * points} moments of a put: {sum(outcomes)} whole, {outcomes.count(False)} absent")
        # Once there, always there: the object appears at one moment and does not go again.
        assert sorted(outcomes) == outcomes
        assert {False, True} == set(outcomes)

    BLOCKED_WRITER = """
        import sys
        from pathlib import Path
        from coffer.backends.local import LocalBackend

        def parts():
            yield b"x" * (9 << 20)
            print("half", flush=True)
            sys.stdin.read()

        LocalBackend(Path(sys.argv[1]), create=True).put("packs/ab/1", parts())
    """

    @pytest.fixture
    def writer(self, tmp_path):
        """Another process in the middle of a put of 9 MiB and more."""
        command = [sys.executable, "-c", textwrap.dedent(self.BLOCKED_WRITER), str(tmp_path / "store")]
        process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert "half\n" == process.stdout.readline()
        yield process
        process.kill()
        process.communicate(timeout=60)

    @staticmethod
    def _temporaries(root: Path, *, age_s: int = 0) -> list[Path]:
        found = list((root / ".tmp").iterdir())
        for path in found:
            if age_s:
                os.utime(path, (time.time() - age_s,) * 2)
        return found

    def test_half_a_put_is_not_seen_by_others(self, writer, store):
        """While another process writes, and after it was killed, its object is not listed, not found, not taken."""
        for _ in range(2):
            assert [] == list(store.list())
            with pytest.raises(ObjectNotFoundError):
                store.get("packs/ab/1")
            writer.kill()
            assert -signal.SIGKILL == writer.wait(timeout=60)

        store.put("packs/ab/1", PARTS)
        assert WHOLE == store.get("packs/ab/1")

    def test_a_killed_writers_temporary_is_swept_when_it_is_old(self, writer, store):
        """The first put of a later run removes what is older than six hours, and only then."""
        writer.kill()
        writer.wait(timeout=60)
        assert [9 << 20] == [path.stat().st_size for path in self._temporaries(store._root)]
        store.put("packs/ab/2", PARTS)
        (leftover,) = self._temporaries(store._root, age_s=6 * 3600 + 60)
        store.put("packs/ab/3", PARTS)
        assert leftover.exists()

        later = LocalBackend(store._root)
        assert [] == list(later.list("packs/cd/"))
        assert leftover.exists()
        later.put("packs/ab/4", PARTS)

        assert [] == self._temporaries(store._root)
        later.close()

    def test_a_live_writers_temporary_is_never_swept(self, writer, store):
        """However old it looks, what is still locked stays; its writer comes to its end and has its object."""
        (held,) = self._temporaries(store._root, age_s=30 * 24 * 3600)

        store.put("packs/ab/2", PARTS)

        assert held.exists()
        writer.communicate(timeout=60)
        assert 0 == writer.returncode
        assert ["packs/ab/1", "packs/ab/2"] == [info.name for info in store.list()]

    def test_a_writer_whose_temporary_was_removed_fails_as_transient(self, store):
        """Should a live writer's temporary be removed after all, its put can be tried again."""

        def parts():
            yield b"x" * (5 << 20)
            for path in self._temporaries(store._root):
                path.unlink()
            yield b"y"

        with pytest.raises(BackendUnavailableError, match="ENOENT"):
            store.put("packs/ab/1", parts())

        assert [] == list(store.list())


def test_kill_self_kills():
    """The harness's kill is a real one."""
    child = os.fork()
    if child == 0:
        kill_self("")
        os._exit(0)

    assert -signal.SIGKILL == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
