"""A process that outlives ours by a moment: it ends a scratch server and removes its folders, however we ended.

Run as a program, with nothing but the standard library. It reads orders, one JSON object a line, from standard input:
first {"folders": [...], "parent": pid}; then {"start": {...}} runs a server as a child of this process, and {"stop":
signal} ends it. The end of standard input, another parent, or a signal mean that all is over. It answers {"started":
pid} or {"failed": errno}, and {"exited": code}, on standard output.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
from typing import Any

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_LOOK_S = 0.2  # between two looks at child and parent [s]
_PATIENCE_S = 10.0  # for a server to end at SIGQUIT [s]
_SWEEPS = 50  # of a folder into which a dying process still writes


def _open_private(path: str, flags: int) -> int:
    """Open for whoever runs this alone: a server's log holds rows."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


class Watchdog:
    """Its state: the folders, the server, and whether it is over."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.parent = 0
        self.server: subprocess.Popen[bytes] | None = None
        self.is_over = False
        self._pending = b""
        self._prctl = ctypes.CDLL(None).prctl

    def run(self) -> None:
        """Follow orders until it is over; then end the server and remove the folders."""
        try:
            while not self.is_over:
                ready, _, _ = select.select([0], [], [], _LOOK_S)
                if ready:
                    self._read()
                if self.server is not None and (code := self.server.poll()) is not None:
                    self.server = None
                    self._say({"exited": code})
                if self.parent and os.getppid() != self.parent:
                    self.is_over = True
        finally:
            self.end_server(signal.SIGQUIT)
            for folder in self.folders:
                remove(folder)

    def _read(self) -> None:
        data = os.read(0, 1 << 16)
        self.is_over = self.is_over or not data
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if "folders" in order:
            self.folders, self.parent = order["folders"], order["parent"]
        elif "start" in order:
            self._start(**order["start"])
        elif "stop" in order:
            self.end_server(order["stop"])

    def _start(self, command: list[str], environment: dict[str, str], log: str, user: list[int] | None) -> None:
        """Run a server that dies with this process."""
        as_user: dict[str, Any] = {}
        if user is not None:
            as_user = {"user": user[0], "group": user[1], "extra_groups": []}
        try:
            with open(log, "ab", opener=_open_private) as output:
                self.server = subprocess.Popen(  # noqa: S603 - the order's words, no shell
                    command,
                    env=environment,
                    cwd="/",
                    umask=0o077,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    preexec_fn=self._mark_child,  # noqa: PLW1509 - this process has one thread
                    **as_user,
                )
        except (OSError, subprocess.SubprocessError) as error:
            self._say({"failed": getattr(error, "errno", None) or 0})
        else:
            self._say({"started": self.server.pid})

    def _mark_child(self) -> None:
        self._prctl(_DEATH_SIGNAL, signal.SIGQUIT)  # behind the change of user, which would take it back

    def end_server(self, how: int) -> None:
        """End the server and wait for it: first as asked, then by force."""
        if self.server is None:
            return
        for number, wait_s in ((how, _PATIENCE_S), (signal.SIGQUIT, _PATIENCE_S), (signal.SIGKILL, None)):
            self.server.send_signal(number)
            try:
                code = self.server.wait(wait_s)
            except subprocess.TimeoutExpired:
                continue
            self.server = None
            self._say({"exited": code})
            return

    def _say(self, what: dict[str, int]) -> None:
        try:
            os.write(1, json.dumps(what).encode() + b"\n")
        except OSError:  # nobody listens any more
            self.is_over = True


def remove(folder: str) -> None:
    """Remove a folder, also while the last processes of a server still put files into it."""
    for _ in range(_SWEEPS):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
        select.select([], [], [], 0.1)


def main() -> None:
    """Be the watchdog."""
    dog = Watchdog()

    def end(number: int, frame: object) -> None:  # noqa: ARG001 - as signal wants it
        dog.is_over = True

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, end)
    dog.run()


if __name__ == "__main__":
    main()
