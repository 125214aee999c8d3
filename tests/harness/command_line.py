"""The command line as tests drive it: in this process, or as the real program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema

from tests.harness.programs import PROJECT

SCHEMA = PROJECT / "docs" / "json-schema" / "envelope.json"
PROGRAM = Path(sys.executable).with_name("coffer")


class Ended(NamedTuple):
    """How a run ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def envelope(self) -> dict[str, Any]:
        """The one JSON envelope of standard output, held against its schema."""
        found: dict[str, Any] = json.loads(self.out)
        errors = [f"{error.json_path}: {error.message}" for error in validator().iter_errors(found)]
        assert errors == [], errors
        return found

    @property
    def result(self) -> dict[str, Any]:
        """The command's own part of the envelope."""
        found: dict[str, Any] = self.envelope["result"]
        return found

    def fault(self) -> tuple[int, str, str]:
        """Return (exit code, the line of the error, the line of the hint); nothing else may be on the screen."""
        lines = self.err.splitlines()
        assert len(lines) == 2, self.err
        assert lines[0].startswith("coffer: "), self.err
        assert lines[1].startswith("HINT: "), self.err
        assert "Traceback" not in self.err
        return self.code, lines[0].removeprefix("coffer: "), lines[1].removeprefix("HINT: ")


@cache
def validator() -> Any:
    """The schema's validator (JSON Schema, draft 2020-12)."""
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def run_program(
    *arguments: str | Path,
    wrapper: tuple[str, ...] = (),
    stdin: str | None = None,
    environment: dict[str, str] | None = None,
    preexec: Any = None,
) -> Ended:
    """Run the real program to its end, with the environment of this process and more."""
    done = subprocess.run(
        [*wrapper, str(PROGRAM), *map(str, arguments)],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(environment or {})},
        preexec_fn=preexec,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def _hear_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def start_program(*arguments: str | Path, **more: Any) -> subprocess.Popen[str]:
    """Start the real program; its three streams are pipes unless `more` says otherwise.

    It hears signals also where the tests were started in the background, with some of them ignored.
    """
    given = {
        "preexec_fn": _hear_signals,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    streams = {**given, **more}
    return subprocess.Popen([str(PROGRAM), *map(str, arguments)], text=True, **streams)
