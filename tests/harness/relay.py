"""A program of the tests' user, run by a server whose user cannot reach it: handed over by files.

Root's Python may lie where no other user comes, and PostgreSQL does not run as root. So what the server starts is a
shell script that writes down its arguments and waits for the exit code; a thread here runs the program.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

from tests.harness.postgres import Server, unprivileged

_SCRIPT = """#!/bin/sh
ask={folder}/$$
printf '%s\\n' "$PWD" "$@" > $ask.new && mv $ask.new $ask.ask || exit 125
until [ -f $ask.code ]; do sleep 0.01; done
exit "$(cat $ask.code)"
"""


class Relay:
    """Runs a program for a server while the context lasts.

    Attributes:
        script: What the server is to start.
        calls: (arguments, exit code) of each call.
    """

    def __init__(self, server: Server, program: Path) -> None:
        self._folder = server.home / "relay"
        self._program = program
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.script = self._folder / "run"
        self.calls: list[tuple[list[str], int]] = []

    def __enter__(self) -> Relay:
        self._folder.mkdir()
        self._folder.chmod(0o777)
        self.script.write_text(_SCRIPT.format(folder=self._folder), encoding="utf-8")
        self.script.chmod(0o755)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)

    def _serve(self) -> None:
        while not self._ended.wait(0.005):
            for asked in sorted(self._folder.glob("*.ask")):
                folder, *arguments = asked.read_text(encoding="utf-8").splitlines()
                asked.unlink()
                code = self._run(Path(folder), arguments)
                self.calls.append((arguments, code))
                answer = asked.with_suffix(".answer")
                answer.write_text(str(code), encoding="utf-8")
                answer.rename(asked.with_suffix(".code"))

    def _run(self, folder: Path, arguments: list[str]) -> int:
        done = subprocess.run([self._program, *arguments], cwd=folder, capture_output=True, timeout=60, check=False)
        owner = unprivileged()
        for word in arguments:  # what was written is the server's
            if os.geteuid() == 0 and (folder / word).is_file():
                shutil.chown(folder / word, owner.pw_uid, owner.pw_gid)
        return done.returncode
