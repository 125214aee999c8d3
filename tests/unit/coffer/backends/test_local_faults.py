"""The local store when the system fails at any of its calls, or the process is killed there."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from coffer.backends.local import LocalBackend
from coffer.errors import (
    BackendAccessError,
    BackendFullError,
    BackendLocationError,
    BackendUnavailableError,
    CofferError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from tests.harness.syscalls import ScriptedCalls, fail_with, kill_self, scripted

PROJECT = Path(__file__).resolve().parents[4]
PARTS = [b"one", b"two" * 3000, b"three"]
WHOLE = b"".join(PARTS)

ERROR_OF = {
    errno.ENOSPC: BackendFullError,
    errno.EDQUOT: BackendFullError,
    errno.EFBIG: BackendFullError,
    errno.EROFS: BackendAccessError,
    errno.EACCES: BackendAccessError,
    errno.EPERM: BackendAccessError,
    errno.EXDEV: BackendLocationError,
    errno.EIO: BackendUnavailableError,
    errno.ESTALE: BackendUnavailableError,
    errno.ENOTCONN: BackendUnavailableError,
    errno.ETIMEDOUT: BackendUnavailableError,
    errno.EMFILE: BackendUnavailableError,
}


@pytest.fixture
def store(tmp_path):
    backend = LocalBackend(tmp_path / "store", create=True)
    yield backend
    backend.close()


class _AllStale(ScriptedCalls):
    def wrap(self, name, real):
        return lambda *_, **__: fail_with(errno.ESTALE)(name)


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


class TestEveryCallFails:
    @pytest.mark.parametrize("number", ERROR_OF, ids=errno.errorcode.get)
    @pytest.mark.parametrize("after", [False, True], ids=["without effect", "after its effect"])
    def test_a_put_fails_cleanly_whichever_call_fails(self, tmp_path, number, after):
        """At every system call of a put: a typed error or success, never half an object, and the next put works."""
        counting = LocalBackend(tmp_path / "count", create=True)
        with scripted(ScriptedCalls()) as counted:
            counting.put("packs/ab/1", PARTS)
        counting.close()
        assert {"open", "mkdir", "writev", "fsync", "link", "unlink"} <= set(counted.made)

        for at in range(len(counted.made)):
            store = LocalBackend(tmp_path / f"at{at}", create=True)
            failure = None
            with scripted(ScriptedCalls(fail_with(number), at, after=after)):
                try:
                    store.put("packs/ab/1", PARTS)
                except CofferError as error:
                    failure = error
            is_there = _check_whole_or_absent(store, "packs/ab/1")
            if failure is None or isinstance(failure, ObjectExistsError):
                assert is_there
            elif not isinstance(failure, BackendUnavailableError) and not after:
                assert not is_there, f"{failure} at {counted.made[at]}, yet the object is there"
            if is_there:
                with pytest.raises(ObjectExistsError):
                    store.put("packs/ab/1", PARTS)
            else:
                store.put("packs/ab/1", PARTS)
            assert _check_whole_or_absent(store, "packs/ab/1")
            store.close()

    @pytest.mark.parametrize(("number", "kind"), ERROR_OF.items(), ids=[errno.errorcode[key] for key in ERROR_OF])
    @pytest.mark.parametrize("name", ["writev", "fsync"])
    def test_each_errno_of_writing_has_its_error(self, store, number, kind, name):
        """Full, refused and unanswered are told apart, the message names object and errno, nothing is stored."""
        store.put("packs/ab/0", [])
        with (
            scripted(ScriptedCalls(fail_with(number), 0), (name,)),
            pytest.raises(kind, match=rf"'packs/ab/1'.*{errno.errorcode[number]}") as caught,
        ):
            store.put("packs/ab/1", PARTS)

        assert number == caught.value.details["errno"]
        assert caught.value.hint
        assert ["packs/ab/0"] == [info.name for info in store.list()]
        assert [] == os.listdir(store._root / ".tmp")

    @pytest.mark.parametrize(
        ("act", "what"),
        [
            (lambda store: store.get("packs/ab/1"), "read"),
            (lambda store: store.get("packs/ab/1", 1, 2), "read"),
            (lambda store: store.stat("packs/ab/1"), "looked up"),
            (lambda store: list(store.list("packs/ab/")), "listed"),
            (lambda store: store.delete("packs/ab/1"), "deleted"),
        ],
        ids=["get", "ranged get", "stat", "list", "delete"],
    )
    def test_reads_and_deletes_fail_cleanly_whichever_call_fails(self, store, act, what):
        """EIO at any call of a read, listing or delete is 'unavailable' (and never 'not found'); the next try works."""
        store.put("packs/ab/1", PARTS)
        with scripted(ScriptedCalls()) as counted:
            act(store)
        assert counted.made
        messages = []

        for at in range(len(counted.made)):
            store._handles.clear()
            store.delete("packs/ab/1")
            store.put("packs/ab/1", PARTS)
            with scripted(ScriptedCalls(fail_with(errno.EIO), at)):
                try:
                    act(store)
                except BackendUnavailableError as error:
                    messages.append(str(error))
            act(store)
        assert messages
        assert all(f"cannot be {what}" in message for message in messages)

    def test_a_put_is_durable_before_it_is_seen_and_before_it_returns(self, store):
        """The order of calls: new folder, its parent synced; data, file synced; name given, folder synced."""
        with scripted(ScriptedCalls()) as first:
            store.put("packs/ab/1", PARTS)
        with scripted(ScriptedCalls()) as second:
            store.put("packs/ab/2", PARTS)

        lasting = ("mkdir", "writev", "fsync", "link")
        made, found = ["mkdir", "fsync"], ["writev", "fsync", "link", "fsync"]
        assert made * 3 + found == [call for call in first.made if call in lasting]
        assert found == [call for call in second.made if call in lasting]

    def test_a_folder_made_by_another_is_synced_once(self, store):
        """Its maker may have been killed before it came to that."""
        store.put("packs/ab/1", PARTS)
        other = LocalBackend(store._root)

        synced = []
        for number in (2, 3):
            with scripted(ScriptedCalls(), ("fsync",)) as calls:
                other.put(f"packs/ab/{number}", PARTS)
            synced.append(len(calls.made))

        assert [2 + 3, 2] == synced
        other.close()

    def test_who_is_told_that_a_name_is_taken_may_rely_on_it(self, store):
        """The folder is synced before 'exists' is said: the winner may not have come to it yet."""
        store.put("packs/ab/1", PARTS)
        with scripted(ScriptedCalls(), ("fsync", "writev")) as calls, pytest.raises(ObjectExistsError):
            store.put("packs/ab/1", PARTS)

        assert ["fsync"] == calls.made

    def test_a_folder_that_could_not_be_synced_leaves_it_open(self, store):
        """After the name was given, a failed fsync of the folder is 'unavailable', whatever its errno says."""
        store.put("packs/ab/0", [])
        with (
            scripted(ScriptedCalls(fail_with(errno.ENOSPC), 1), ("fsync",)),
            pytest.raises(BackendUnavailableError, match="could not be synced"),
        ):
            store.put("packs/ab/1", PARTS)

        assert WHOLE == store.get("packs/ab/1")

    def test_a_file_of_another_length_is_not_published(self, store, monkeypatch):
        """Where the system says it wrote what the file does not have, the object is not given its name."""
        monkeypatch.setattr(os, "writev", lambda fd, views: sum(view.nbytes for view in views))

        with pytest.raises(BackendUnavailableError, match=f"{len(WHOLE)} bytes were written, the file has 0"):
            store.put("packs/ab/1", PARTS)

        assert [] == list(store.list())

    def test_a_root_that_does_not_answer_is_unavailable(self, store):
        """A stale network mount (ESTALE everywhere) is neither 'removed' nor 'not found'."""
        for call in (lambda: store.put("a/b", []), lambda: store.get("a/b"), lambda: list(store.list())):
            with scripted(_AllStale(), ("open", "fstat")), pytest.raises(BackendUnavailableError, match="ESTALE"):
                call()


def _run(program: str, *arguments: str, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """Run a program in a new Python from the project's folder."""
    command = [*wrapper, sys.executable, "-c", textwrap.dedent(program), *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)


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
        done = _run(self.KILL_AT_EVERY_CALL, str(tmp_path))
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


class TestRealLimits:
    def test_a_limit_on_file_size_is_a_full_store(self, tmp_path):
        """RLIMIT_FSIZE, as set by `ulimit -f`, ends a put as 'full', with a hint at limits; nothing is left."""
        program = """
            import resource, sys
            from pathlib import Path
            from coffer.backends.local import LocalBackend
            from coffer.errors import BackendFullError

            store = LocalBackend(Path(sys.argv[1]), create=True)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
            try:
                store.put("packs/ab/1", [b"x" * (3 << 20)])
            except BackendFullError as error:
                print(error, error.hint)
            print([info.name for info in store.list()])
            store.put("packs/ab/2", [b"x"])
        """
        assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] in (resource.RLIM_INFINITY, -1)

        done = _run(program, str(tmp_path / "store"))

        assert 0 == done.returncode, done.stderr
        assert "EFBIG" in done.stdout
        assert "ulimit -f" in done.stdout
        assert "\n[]\n" in done.stdout
        assert [] == os.listdir(tmp_path / "store/.tmp")

    def test_a_folder_without_permission_is_an_access_error(self, tmp_path):
        """A user who may not write or read the store (here nobody, or oneself after chmod) is told so."""
        program = """
            import os, sys
            from pathlib import Path
            from coffer.backends.local import LocalBackend
            from coffer.errors import BackendAccessError

            root = Path(sys.argv[1])
            store = LocalBackend(root, create=True)
            store.put("packs/ab/1", [b"x"])
            store.put("index/1", [b"x"])
            (root / "packs/ab/1").chmod(0)
            (root / "packs/ab").chmod(0o555)
            (root / "packs").chmod(0o555)
            (root / "index").chmod(0)
            (root / ".tmp").chmod(0o555)
            root.chmod(0o555)
            if os.geteuid() == 0:
                os.setgroups([]), os.setgid(65534), os.setuid(65534)
            for call in (
                lambda: store.put("packs/ab/2", [b"x"]),
                lambda: store.put("snapshots/2", [b"x"]),
                lambda: store.get("packs/ab/1"),
                lambda: store.get("packs/ab/1", 0, 1),
                lambda: store.delete("packs/ab/1"),
                lambda: store.stat("index/1"),
                lambda: list(store.list("index/")),
                lambda: LocalBackend(root / "index"),
                lambda: LocalBackend(root / "new", create=True),
            ):
                try:
                    call()
                    print("no error")
                except BackendAccessError as error:
                    print("refused")
            print(store.stat("packs/ab/1").size_bytes)
        """
        tmp_path.chmod(0o755)

        done = _run(program, str(tmp_path / "store"))
        for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]:
            path.chmod(0o700)

        assert 0 == done.returncode, done.stderr
        assert ["refused"] * 9 + ["1"] == done.stdout.split("\n")[:-1]

    @pytest.fixture
    def namespace(self):
        """A command prefix that gives a program its own mounts."""
        unshare = shutil.which("unshare") or "unshare-is-missing"
        mine = (unshare, "--mount") if os.geteuid() == 0 else (unshare, "--mount", "--map-root-user")
        if (
            unshare == "unshare-is-missing"
            or subprocess.run([*mine, "true"], capture_output=True, check=False).returncode != 0
        ):
            pytest.skip("this machine lets nobody mount; simulated by TestEveryCallFails on every machine")
        return mine

    def test_a_full_disk_is_a_full_store_and_works_again_with_space(self, tmp_path, namespace):
        """On a real disk of 8 MiB: what fits is kept, what does not leaves nothing, after a delete it goes on."""
        program = """
            import os, subprocess, sys
            from pathlib import Path
            from coffer.backends.local import LocalBackend
            from coffer.errors import BackendFullError

            root = Path(sys.argv[1])
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(root)], check=True)
            store, stored = LocalBackend(root), 0
            data = os.urandom(3 << 20)
            try:
                for number in range(10):
                    store.put(f"packs/ab/{number}", [data[: 1 << 20], data[1 << 20 :]])
                    stored += 1
            except BackendFullError as error:
                print(stored, "ENOSPC" in str(error), error.hint != "")
            print([info.name for info in store.list()], os.listdir(root / ".tmp"))
            print(all(store.get(info.name) == data for info in store.list()))
            store.delete("packs/ab/0")
            store.put("packs/ab/9", [data])
            print([info.name for info in store.list()])
        """
        done = _run(program, str(tmp_path), wrapper=namespace)

        assert 0 == done.returncode, done.stderr
        assert [
            "2 True True",
            "['packs/ab/0', 'packs/ab/1'] []",
            "True",
            "['packs/ab/1', 'packs/ab/9']",
        ] == done.stdout.splitlines()

    def test_a_disk_mounted_read_only_can_be_read(self, tmp_path, namespace):
        """On a real read-only mount puts and deletes are refused, and everything else works."""
        program = """
            import subprocess, sys
            from pathlib import Path
            from coffer.backends.local import LocalBackend
            from coffer.errors import BackendAccessError

            root = Path(sys.argv[1])
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(root)], check=True)
            LocalBackend(root).put("packs/ab/1", [b"x"])
            subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
            store = LocalBackend(root, create=True)
            for call in (
                lambda: store.put("packs/ab/2", [b"x"]),
                lambda: store.put("index/2", [b"x"]),
                lambda: store.delete("packs/ab/1"),
                lambda: LocalBackend(root / "new", create=True),
            ):
                try:
                    call()
                    print("no error")
                except BackendAccessError as error:
                    print("EROFS" in str(error))
            print(store.get("packs/ab/1"), store.get("packs/ab/1", 0, 1), [info.name for info in store.list()])
        """
        done = _run(program, str(tmp_path), wrapper=namespace)

        assert 0 == done.returncode, done.stderr
        assert ["True"] * 4 + ["b'x' b'x' ['packs/ab/1']"] == done.stdout.splitlines()

    def test_a_disk_unmounted_during_a_run_does_not_become_a_backup_on_the_root_disk(self, tmp_path, namespace):
        """After a lazy unmount the run goes on on the disk it began on; the empty folder left behind stays empty."""
        program = """
            import os, subprocess, sys
            from pathlib import Path
            from coffer.backends.local import LocalBackend

            root = Path(sys.argv[1])
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(root)], check=True)
            store = LocalBackend(root, create=True)
            store.put("packs/ab/1", [b"x"])
            print("busy" if subprocess.run(["umount", str(root)], capture_output=True).returncode else "gone")
            subprocess.run(["umount", "--lazy", str(root)], check=True)
            store.put("packs/ab/2", [b"y"])
            print(os.listdir(root), store.get("packs/ab/2"))
        """
        done = _run(program, str(tmp_path), wrapper=namespace)

        assert 0 == done.returncode, done.stderr
        assert ["busy", "[] b'y'"] == done.stdout.splitlines()
        assert [] == os.listdir(tmp_path)


def test_kill_self_kills():
    """The harness's kill is a real one."""
    child = os.fork()
    if child == 0:
        kill_self("")
        os._exit(0)

    assert -signal.SIGKILL == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
