"""Whatever ends us, no process and no folder stays."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from coffer.clock import SYSTEM_CLOCK
from coffer.errors import RestoreSpaceError
from coffer.errors_postgres import ScratchServerError
from coffer.recovery import scratch_space
from coffer.recovery.scratch_space import PREFIX, ScratchSpace, require_open, sweep
from tests.harness.postgres import unprivileged, wait_for
from tests.harness.programs import PROJECT

SLEEPER = ["/bin/sh", "-c", "trap '' QUIT INT; echo asleep >&2; while :; do sleep 60 & wait; done"]
PATIENT = ["/bin/sh", "-c", "trap 'exit 7' INT; echo asleep >&2; while :; do sleep 0.1; done"]
ENVIRONMENT = {"PATH": os.environ["PATH"]}
# Makes a space with a program in it, says what it made, and waits.
VICTIM = """
    import json, sys, threading
    from pathlib import Path
    from coffer.clock import SYSTEM_CLOCK
    from coffer.recovery.scratch_space import ScratchSpace
    space = ScratchSpace(Path(sys.argv[1]), SYSTEM_CLOCK)
    space.data.mkdir()
    (space.data / "large").write_bytes(bytes(1 << 20))
    pid = space.run(json.loads(sys.argv[2]), {"PATH": "/usr/bin:/bin"})
    print(json.dumps([str(space.root), str(space.sockets), pid, space._dog.pid]), flush=True)
    threading.Event().wait()
"""


def is_running(pid):
    """Say whether a process is there and no corpse."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def victim(scratch, command):
    """Start a process that holds a space; return (process, root, sockets, pid of its program, pid of the watchdog)."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(VICTIM), str(scratch), json.dumps(command)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        start_new_session=True,
    )
    root, sockets, pid, dog = json.loads(process.stdout.readline())
    return process, Path(root), Path(sockets), pid, dog


@pytest.mark.parametrize("command", [PATIENT, pytest.param(SLEEPER, id="deaf")])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_killed_process_leaves_nothing(scratch, monkeypatch, how, command):
    """Its server is ended, by force if need be, and its folders are removed; the whole group is hit."""
    if command is SLEEPER and how is not signal.SIGKILL:
        command = PATIENT
    process, root, sockets, pid, dog = victim(scratch, command)
    assert (root / "data" / "large").exists()
    os.killpg(process.pid, how)
    process.wait(10)
    process.stdout.close()
    wait_for(lambda: not is_running(pid) and not is_running(dog), "the end of server and watchdog", 40)
    assert not root.exists()
    assert not sockets.exists()


def test_a_server_dies_with_its_watchdog(scratch):
    """Both we and the watchdog are killed: the kernel ends the server, and the next space removes the folder."""
    process, root, _, pid, dog = victim(scratch, PATIENT)
    os.kill(dog, signal.SIGKILL)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    wait_for(lambda: not is_running(pid), "the server's end")
    assert root.exists()
    with ScratchSpace(scratch, SYSTEM_CLOCK) as space:
        assert not root.exists()
        assert space.root.exists()


def test_only_what_nobody_holds_is_swept(scratch):
    """A living space stays, and so do folders that only look like one."""
    foreign = scratch / f"{PREFIX}foreign"
    foreign.mkdir()
    with ScratchSpace(scratch, SYSTEM_CLOCK) as space:
        assert [] == sweep(scratch)
        assert space.root.exists()
    assert foreign.exists()
    foreign.rmdir()


def test_a_link_in_place_of_the_mark_is_not_followed(scratch):
    """Somebody plants it to have another folder's lock taken."""
    planted = scratch / f"{PREFIX}planted"
    planted.mkdir()
    target = scratch / "target"
    target.write_text("")
    (planted / "coffer-scratch.lock").symlink_to(target)
    assert [] == sweep(scratch)
    (planted / "coffer-scratch.lock").unlink()
    planted.rmdir()
    target.unlink()


def test_a_dead_space_is_swept(scratch):
    """Its mark can be locked."""
    dead = scratch / f"{PREFIX}dead"
    (dead / "data").mkdir(parents=True)
    (dead / "coffer-scratch.lock").write_text("")
    assert [dead] == sweep(scratch)
    assert not dead.exists()


def test_the_mark_is_locked_before_it_has_its_name(scratch):
    """Else another run could sweep a space while it is being made."""
    with ScratchSpace(scratch, SYSTEM_CLOCK) as space:
        descriptor = os.open(space.root / "coffer-scratch.lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


def test_nobody_else_gets_to_the_server_or_writes_into_its_folder(scratch):
    """The socket's folder belongs to the server's user alone, the space itself to us; the path fits an address."""
    with ScratchSpace(scratch, SYSTEM_CLOCK) as space:
        found = space.sockets.stat()
        assert (0o700, unprivileged().pw_uid) == (found.st_mode & 0o777, found.st_uid)
        assert os.geteuid() == space.root.stat().st_uid
        assert not space.root.stat().st_mode & 0o066
        assert len(os.fsencode(space.sockets / ".s.PGSQL.5432.lock")) < 107


def test_a_long_path_gets_its_socket_elsewhere(scratch):
    """And that folder is removed too."""
    deep = scratch / ("d" * 90)
    deep.mkdir()
    with ScratchSpace(deep, SYSTEM_CLOCK) as space:
        assert space.root not in space.sockets.parents
        assert len(os.fsencode(space.sockets / ".s.PGSQL.5432.lock")) < 107
    assert not space.sockets.exists()
    deep.rmdir()


def test_a_server_is_stopped_in_order_and_its_folder_stays(scratch):
    """Its exit code is known; a second time there is nothing to do."""
    with ScratchSpace(scratch, SYSTEM_CLOCK) as space:
        pid = space.run(PATIENT, ENVIRONMENT)
        wait_for(lambda: space.log_tail() == ["asleep"], "its first words")
        assert not space.has_ended()
        space.stop_server()
        assert (True, 7) == (space.has_ended(), space.exit_code)
        assert not is_running(pid)
        assert space.root.exists()
        space.stop_server()
    assert not space.root.exists()


def test_a_server_that_ends_by_itself_is_noticed(scratch):
    """With its code and its words."""
    with ScratchSpace(scratch, SYSTEM_CLOCK) as space:
        space.run(["/bin/sh", "-c", "echo one; echo two >&2; exit 3"], ENVIRONMENT)
        wait_for(space.has_ended, "its end")
        assert (3, ["one", "two"]) == (space.exit_code, space.log_tail())


def test_a_server_that_ends_at_once_is_noticed(scratch):
    """Also where its start and its end are heard of in one breath."""
    with ScratchSpace(scratch, SYSTEM_CLOCK) as space:
        real = space._await

        def late(word, patience_s):
            threading.Event().wait(0.6)
            return real(word, patience_s)

        space._await = late
        space.run(["/bin/false"], ENVIRONMENT)
        assert (True, 1) == (space.has_ended(), space.exit_code)


def test_a_program_that_cannot_be_started_is_said_at_once(scratch):
    """With the system's words."""
    with ScratchSpace(scratch, SYSTEM_CLOCK) as space, pytest.raises(ScratchServerError, match="No such file"):
        space.run(["/nowhere/postgres"], ENVIRONMENT)


def test_a_server_runs_as_a_harmless_user(scratch):
    """Never as root."""
    with ScratchSpace(scratch, SYSTEM_CLOCK) as space:
        space.run(["/bin/sh", "-c", "id -u; id -G"], ENVIRONMENT)
        wait_for(space.has_ended, "its end")
        user = unprivileged()
        assert str(user.pw_uid) == space.log_tail()[0]
        assert "0" not in space.log_tail()[1].split()


def test_closing_twice_is_harmless(scratch):
    """As after an error on the way."""
    space = ScratchSpace(scratch, SYSTEM_CLOCK)
    space.close()
    space.close()
    assert not space.root.exists()


def test_too_little_room_is_refused_with_both_sizes(scratch):
    """More than any disk has."""
    with ScratchSpace(scratch, SYSTEM_CLOCK) as space:
        space.require_room(1)
        with pytest.raises(RestoreSpaceError, match="are needed"):
            space.require_room(1 << 62)


def test_a_folder_that_is_not_there_is_refused(scratch):
    """The option is named."""
    with pytest.raises(ScratchServerError, match="cannot be used") as caught:
        ScratchSpace(scratch / "missing", SYSTEM_CLOCK)
    assert "--scratch" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_a_folder_closed_to_the_servers_user_is_refused(scratch):
    """Before hours of restoring; nothing is left."""
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ScratchServerError, match=f"the folder {closed} is closed to user"):
        ScratchSpace(closed, SYSTEM_CLOCK)
    assert [] == list(closed.iterdir())
    closed.rmdir()
    require_open(closed, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_without_a_harmless_user_root_is_refused(monkeypatch):
    """PostgreSQL does not run as root, and we do not try."""

    def nobody(name):
        raise KeyError(name)

    monkeypatch.setattr(scratch_space.pwd, "getpwnam", nobody)
    with pytest.raises(ScratchServerError, match="neither a user"):
        scratch_space.server_user()
