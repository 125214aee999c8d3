"""Run one command and say what it cost: wall time, CPU time, peak memory, and the bytes it read below a folder.

CPU is user plus system time of the command and of all its waited-for descendants, from the kernel's own accounts
(`wait4`). Peak memory is `ru_maxrss`: the largest process of the tree, not their sum; for a pipeline that is its
largest program. Linux counts the memory of the *forking* process into that figure, so commands are started by a small
interpreter of their own (`launch`), whose few MiB are the floor of the figure.

What the rest of the machine did meanwhile is recorded as well (all CPU time of the machine less the command's own): a
figure measured beside other work can be told from one measured alone.

Bytes read come from a separate, untimed run under strace: every `read`, `pread64`, `readv`, `preadv` and
`copy_file_range` of the process tree on a file below the folder is summed. So no tool is asked about itself, and all
are asked the same; a `mmap` of such a file is counted with its whole length.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# The first numbers of a strace line: `read(3</store/packs/ab>, ...) = 4096`; with -f a pid stands in front.
_READ = re.compile(r"\b(?:read|pread64|readv|preadv2?|copy_file_range)\(\d+<(?P<path>[^>]*)>.*= (?P<size>\d+)$")
_MMAP = re.compile(r"\bmmap\([^,]+, (?P<size>\d+), [^,]+, [^,]+, \d+<(?P<path>[^>]*)>")
# With -f, a call that another thread interrupts is printed in two lines, joined again by pid.
_UNFINISHED = re.compile(r"^(?P<pid>\d+)\s+(?P<call>.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(?P<pid>\d+)\s+<\.\.\. \w+ resumed>(?P<rest>.*)$")

_LAUNCHER = """
import json, os, subprocess, sys, time
def machine():
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, softirq = map(int, stat.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
spec = json.load(sys.stdin)
with open(spec["log"], "wb") as log:
    busy, start = machine(), time.perf_counter()
    null = subprocess.DEVNULL
    child = subprocess.Popen(spec["command"], cwd=spec["cwd"], env=spec["env"], stdin=null, stdout=log, stderr=log)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    cpu = usage.ru_utime + usage.ru_stime
    others = max(0.0, machine() - busy - cpu)
json.dump([os.waitstatus_to_exitcode(status), wall, cpu, usage.ru_maxrss, others], sys.stdout)
"""


class CommandError(Exception):
    """A measured command ended with an exit code that its tool does not call success."""


@dataclass(frozen=True)
class Command:
    """What to run: arguments, environment additions, working directory, and the exit codes that mean success."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: Path = Path("/")
    good_exits: tuple[int, ...] = (0,)

    def environment(self) -> dict[str, str]:
        """Return the whole environment: this process's own with the additions."""
        return {**os.environ, **dict(self.env)}


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Attributes:
        wall_s: wall time in [seconds].
        cpu_s: user plus system time of the process tree in [seconds].
        peak_bytes: resident memory of its largest process in [bytes].
        others_cpu_s: CPU time that the rest of the machine (the kernel's write-back too) used meanwhile, in [seconds].
        output: what the tool printed, both streams.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    others_cpu_s: float
    output: str


def launch(command: Command) -> Cost:
    """Run `command` to its end and return its cost. File system buffers are written out before, not after.

    Raises:
        CommandError: its exit code is none of `good_exits`; the message ends with its last lines.
    """
    os.sync()
    with tempfile.NamedTemporaryFile(prefix="coffer-bench-") as log:
        spec = {"command": command.argv, "cwd": str(command.cwd), "env": command.environment(), "log": log.name}
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER],
            input=json.dumps(spec),
            capture_output=True,
            text=True,
            check=True,
        )
        output = Path(log.name).read_text(errors="replace")
    exit_code, wall_s, cpu_s, peak_kib, others_cpu_s = json.loads(done.stdout)
    check_exit(command, exit_code, output)
    return Cost(wall_s=wall_s, cpu_s=cpu_s, peak_bytes=peak_kib * 1024, others_cpu_s=others_cpu_s, output=output)


def check_exit(command: Command, exit_code: int, output: str) -> None:
    """Raise `CommandError` when `exit_code` is not one of the command's good ones."""
    if exit_code not in command.good_exits:
        tail = "\n".join(output.splitlines()[-15:])
        raise CommandError(f"{' '.join(command.argv)} failed: exit {exit_code}\n{tail}")


def bytes_read_below(command: Command, *folders: Path) -> tuple[int, ...]:
    """Run `command` under strace and return how many bytes it read from files below each of `folders`.

    Raises:
        CommandError: strace is missing, or the command failed under it.
    """
    with tempfile.NamedTemporaryFile(prefix="coffer-bench-", suffix=".strace") as trace:
        calls = "trace=read,pread64,readv,preadv,preadv2,mmap,copy_file_range"
        strace = ("strace", "-f", "-y", "-qq", "-s", "0", "-e", calls, "-e", "signal=none", "-o", trace.name)
        done = subprocess.run(
            [*strace, *command.argv],
            cwd=command.cwd,
            env=command.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        check_exit(command, done.returncode, done.stderr.decode(errors="replace"))
        text = Path(trace.name).read_text(errors="replace")
    return tuple(sum_reads(text, folder) for folder in folders)


def sum_reads(trace: str, folder: Path) -> int:
    """Return the sum of bytes that the calls of a strace output took from files below `folder`."""
    total = 0
    pending: dict[str, str] = {}
    below = f"{folder}/"
    for line in trace.splitlines():
        if begun := _UNFINISHED.match(line):
            pending[begun["pid"]] = begun["call"]
            continue
        whole = line
        if resumed := _RESUMED.match(line):
            whole = pending.pop(resumed["pid"], "") + resumed["rest"]
        hit = _READ.search(whole) or _MMAP.search(whole)
        if hit is not None and hit["path"].startswith(below):
            total += int(hit["size"])
    return total


def stored_bytes(folder: Path) -> int:
    """Return the sum of the lengths of all files below `folder`: not disk blocks, so that file systems agree."""
    total = 0
    for where, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(where, name)).st_size for name in names)
    return total
