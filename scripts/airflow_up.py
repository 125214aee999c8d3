"""Start a whole Airflow on 127.0.0.1: api-server, scheduler, dag-processor and triggerer, until Ctrl-C or SIGTERM.

Owns: the folder of this Airflow (var/airflow: database, secrets, logs) and the four programs. Refuses: to be a
production set-up; it is one machine, one user, SQLite.

Safe to repeat: the database, the secrets and the password are made once. One at a time: a lock in the folder. All
programs are gone when this one ends, whatever they started: orphans become its children (a "subreaper"), and it ends
them.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from coffer.errors import CofferError
from coffer_airflow.local_airflow import base_settings, password_file, server_settings

ROOT = Path(__file__).resolve().parent.parent
USER = "admin"
SERVER, SCHEDULER = "api-server", "scheduler"
COMPONENTS = {
    SERVER: ["api-server"],
    # Logs are read from the folder: their servers would listen on all addresses.
    SCHEDULER: ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
HEALTH = {"metadatabase", "scheduler", "dag_processor", "triggerer"}
READY_WITHIN_S = 240
# A task that is asked to end needs up to 5 s for its checkpoint, and the scheduler as long again; then the api-server
# has 10 s. What is left after that is asked once more, and killed.
TASKS_S, STOP_S, TERM_S = 20, 10, 5
FIRST_PORT, PORTS = 8080, 20
TAIL_LINES = 20
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>


class UpError(Exception):
    """What keeps Airflow from running: a message and a hint for people."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def main() -> int:
    """Run until a signal comes or a program dies.

    Returns:
        int: 0 after Ctrl-C or SIGTERM, 1 if Airflow could not run.
    """
    arguments = _arguments()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: threading.Thread(target=stop.set, daemon=True).start())
    try:
        with _lock(arguments.home), contextlib.ExitStack() as closing:
            _run(arguments, stop, closing)
    except (UpError, CofferError) as error:
        print(f"up: {error}\nHINT: {error.hint}", file=sys.stderr)
        return 1
    print("up: stopped", flush=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Start a whole Airflow on 127.0.0.1.")
    parser.add_argument("--home", type=Path, default=ROOT / "var" / "airflow", help="folder of this Airflow")
    parser.add_argument("--port", type=int, help=f"of the UI; without it, {FIRST_PORT} or the next free one")
    arguments = parser.parse_args()
    arguments.home = arguments.home.absolute()
    return arguments


def _run(arguments: argparse.Namespace, stop: threading.Event, closing: contextlib.ExitStack) -> None:
    from coffer.config.loading import load_policy

    started_s = time.monotonic()
    policy = load_policy()
    port = _port(arguments.port)
    settings = base_settings(arguments.home, ROOT)
    settings |= server_settings(arguments.home, port=port, parallelism=max(4, policy.performance.max_workers))
    environment = {**os.environ, **settings}
    password = password_file(arguments.home)
    make_repository(policy.locations[0].name, policy.locations[0].path)
    group = Group(arguments.home / "logs", environment)
    closing.callback(group.end)
    print(f"up: preparing the database in {arguments.home}", flush=True)
    group.run_to_end("prepare", [sys.executable, str(ROOT / "scripts" / "airflow_prepare.py"), str(password)], stop)
    if stop.is_set():
        return
    print("up: starting " + ", ".join(COMPONENTS), flush=True)
    for name, words in COMPONENTS.items():
        group.start(name, [sys.executable, "-m", "airflow", *words])
    url = settings["AIRFLOW__API__BASE_URL"]
    if not wait_until_healthy(url, group, stop):
        return
    seconds = round(time.monotonic() - started_s)
    print(f"\nAirflow is ready after {seconds} s\n\n  URL       {url}\n  user      {USER}")
    print(f"  password  {password.read_text(encoding='ascii')}   (kept in {password})")
    print(
        f"  logs      {arguments.home / 'logs'}\n\nDAGs are switched off at first: switch one on in the UI, and it runs"
    )
    print("by its schedule. Ctrl-C stops everything.\n", flush=True)
    while not stop.wait(0.5):
        group.require_alive()
    print("\nup: stopping (running backups store a checkpoint)", flush=True)


def make_repository(name: str, folder: Path) -> None:
    """Make the policy's first repository where there is none; where that is not possible, say how it is made."""
    if (folder / "coffer.json").exists():
        return
    command = [
        sys.executable,
        "-c",
        "import sys; from coffer.cli.main import main; sys.exit(main())",
        "init",
        "--location",
        name,
    ]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    for line in (done.stdout + done.stderr).splitlines():
        print(f"up: {line}")
    if done.returncode:
        print(f"up: the repository {folder} is not there yet; make it with: coffer init --location {name}", flush=True)


# ------------------------------------------------------------------------------------------------ port and lock


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    """Hold the folder for the length of a `with` block.

    Raises:
        UpError: Another one runs on it.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UpError(
                f"an Airflow is running on {home} already (process {file.read().strip() or 'unknown'})",
                "Use it, or stop it with Ctrl-C where it was started.",
            ) from None
        _write_pid(file)
        yield


def _write_pid(file: TextIO) -> None:
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()


def _port(wanted: int | None) -> int:
    """Return a port that nobody listens on.

    Raises:
        UpError: The one that is wanted is taken, or all that are tried are.
    """
    candidates = [wanted] if wanted else range(FIRST_PORT, FIRST_PORT + PORTS)
    for port in candidates:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn binds
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port != candidates[0]:
                print(f"up: port {candidates[0]} is taken, using {port}")
            return port
    taken = f"port {wanted} is" if wanted else f"ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1} are all"
    raise UpError(f"{taken} taken", "Name a free one with --port, or stop what listens there.")


# ------------------------------------------------------------------------------------------------ health


def wait_until_healthy(url: str, group: Group, stop: threading.Event) -> bool:
    """Wait until all parts say that they are healthy; return False where a stop came first.

    Raises:
        UpError: A program ended, or not all were healthy in time.
    """
    limit_s = time.monotonic() + READY_WITHIN_S
    ill = HEALTH
    while time.monotonic() < limit_s:
        if stop.wait(0.5):
            return False
        group.require_alive()
        ill = unhealthy(url)
        if not ill:
            return True
    raise UpError(
        f"not healthy after {READY_WITHIN_S} s: {', '.join(sorted(ill))}\n{group.tails()}", f"Look into {group.folder}."
    )


def unhealthy(url: str) -> set[str]:
    """Return the parts that do not say that they are healthy; all of them while the API does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:
            said = json.load(answer)
    except (OSError, ValueError):
        return set(HEALTH)
    return {name for name in HEALTH if (said.get(name) or {}).get("status") != "healthy"}


# ------------------------------------------------------------------------------------------------ programs


class Group:
    """The programs of this Airflow, each with a log file of its own.

    Args:
        folder: For the logs.
        environment: Of every program.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        _prctl(_PR_SET_CHILD_SUBREAPER)

    def start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """Start one; the log of its last start is kept as NAME.log.1."""
        log = self.folder / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with log.open("wb") as out:
            # A session of its own: Ctrl-C reaches this program alone, which then ends the others in order.
            program = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no thread runs at this time
            )
        self._programs[name] = program
        return program

    def run_to_end(self, name: str, command: list[str], stop: threading.Event) -> None:
        """Run one that ends by itself.

        Raises:
            UpError: It failed.
        """
        program = self.start(name, command)
        while program.poll() is None and not stop.wait(0.1):
            pass
        if program.poll() is not None:
            del self._programs[name]
            if program.returncode:
                raise self._ended(name, program.returncode)

    def require_alive(self) -> None:
        """Raise UpError if a program ended."""
        for name, program in self._programs.items():
            code = program.poll()
            if code is not None:
                raise self._ended(name, code)

    def end(self) -> None:
        """End all programs and all that they started: asked first, told at last.

        The api-server goes last: a task that was asked to end reports its state to it, and goes on at the next start.
        """
        server = self._programs.get(SERVER)
        for name, program in self._programs.items():
            if name != SERVER:
                _send(program.pid, signal.SIGTERM)
        for pid in self._tasks():
            _send(pid, signal.SIGTERM)
        self._gone_within(TASKS_S, but=server)
        if server is not None:
            _send(server.pid, signal.SIGTERM)
        if not self._gone_within(STOP_S):
            for number in (signal.SIGTERM, signal.SIGKILL):
                for pid in _descendants(os.getpid()):
                    _send(pid, number)
                if self._gone_within(TERM_S):
                    return

    def _tasks(self) -> list[int]:
        """Return the tasks at work: what the scheduler's executor processes have started."""
        scheduler = self._programs.get(SCHEDULER)
        if scheduler is None:
            return []
        executors = _children().get(scheduler.pid, [])
        return [pid for executor in executors for pid in _descendants(executor)]

    def tails(self) -> str:
        """Return the last lines of all logs."""
        return "\n".join(self._tail(name) for name in self._programs)

    def _ended(self, name: str, code: int) -> UpError:
        return UpError(f"{name} ended with {code}; its last lines:\n{self._tail(name)}", f"Look into {self.folder}.")

    def _tail(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"  {name}: {line}" for line in lines)

    def _gone_within(self, seconds: float, *, but: subprocess.Popen[bytes] | None = None) -> bool:
        """Wait until nothing is left but, perhaps, one program and what it started; say whether that came."""
        limit_s = time.monotonic() + seconds
        while time.monotonic() < limit_s:
            for program in self._programs.values():
                program.poll()
            _reap(set() if but is None else {but.pid})
            spared = set() if but is None else {but.pid, *_descendants(but.pid)}
            if not set(_descendants(os.getpid())) - spared:
                return True
            time.sleep(0.1)
        return False


def _reap(spared: set[int]) -> None:
    """Take the exit codes of adopted orphans; those of the programs are Popen's, asked for before."""
    for pid in _children(dead=True).get(os.getpid(), []):
        if pid not in spared:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _descendants(pid: int) -> list[int]:
    """Return the processes below one that still run."""
    children = _children()
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _children(*, dead: bool = False) -> dict[int, list[int]]:
    """Return parent -> children of all processes that run, or of those that ended and wait to be reaped, by /proc."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # "pid (name) state ppid ...": the name may hold anything, the last parenthesis ends it
                fields = Path("/proc", entry, "stat").read_text(errors="replace").rpartition(")")[2].split()
                if (fields[0] == "Z") == dead:
                    children.setdefault(int(fields[1]), []).append(int(entry))
    return children


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _die_with_parent() -> None:
    """In the child, before its program begins: SIGTERM when this program is killed without a chance to end it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int = 1) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
