"""A whole Airflow as `make up` starts it, on a free port of this machine, and a client of its API."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.harness.airflow_home import PROJECT

READY_WITHIN_S = 240
STOPPED_WITHIN_S = 60


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


def until(what: str, condition: Callable[[], Any], within_s: float = 120) -> Any:
    """Return what a condition becomes once it is true."""
    limit_s = time.monotonic() + within_s
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < limit_s, f"not within {within_s} s: {what}"
        pause.wait(0.3)
    return value


def up_command(home: Path, port: int | None = None) -> list[str]:
    """Return the command that starts an Airflow in a folder."""
    more = [] if port is None else ["--port", str(port)]
    return [sys.executable, "scripts/airflow_up.py", "--home", str(home), *more]


def up_environment(policy: Path) -> dict[str, str]:
    """Return the environment of a user: none of the tests' own Airflow settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return {**kept, "COFFER_POLICY": str(policy)}


class Server:
    """One that runs.

    Attributes:
        process: The program `scripts/airflow_up.py`.
        said: What it wrote.
    """

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log
        self._token = ""

    @property
    def said(self) -> str:
        """What it wrote so far."""
        return self._log.read_text()

    def fact(self, name: str) -> str:
        """Return a value of the lines that it prints when it is ready: URL, user, password."""
        found = re.search(rf"^  {name} +(\S+)", self.said, re.MULTILINE)
        assert found is not None, self.said
        return found[1]

    def call(self, method: str, path: str, body: object = None, *, token: bool = True) -> tuple[int, Any]:
        """Call the API; return status and answer."""
        if token and not self._token:
            asked = {"username": self.fact("user"), "password": self.fact("password")}
            self._token = self.call("POST", "/auth/token", asked, token=False)[1]["access_token"]
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.fact("URL") + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def start_run(self, dag_id: str, **params: Any) -> str:
        """Switch a DAG on, trigger a run and return its id."""
        self.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})
        status, run = self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": params})
        assert status == 200, run
        return str(run["dag_run_id"])

    def run_path(self, dag_id: str, run_id: str) -> str:
        """Return the API's path of a run."""
        return f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}"

    def finished(self, dag_id: str, run_id: str) -> str | None:
        """Return the final state of a run, or None while it goes on."""
        state = self.call("GET", self.run_path(dag_id, run_id))[1]["state"]
        return state if state in ("success", "failed") else None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOPPED_WITHIN_S)


@contextmanager
def server(home: Path, policy: Path, log: Path) -> Iterator[Server]:
    """Start one, hand it over when it is ready, and end it."""
    with log.open("w") as out:
        process = subprocess.Popen(
            up_command(home, free_port()),
            cwd=PROJECT,
            env=up_environment(policy),
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    started = Server(process, log)
    try:
        until("ready", lambda: "Ctrl-C stops everything" in started.said or process.poll() is not None, READY_WITHIN_S)
        assert process.poll() is None, started.said
        yield started
    finally:
        if process.poll() is None:
            try:
                started.stop()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def processes_of(home: Path) -> list[int]:
    """Return the processes whose environment or command line names a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(home) in text:
                found.append(int(entry.name))
    return found
