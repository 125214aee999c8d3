"""The line that a restored server runs for each WAL segment that it does not have.

Source: PostgreSQL documentation, "Recovering Using a Continuous Archive Backup", restore_command: the exit code is 0 if
and only if the file was brought; a code above 125 ends recovery; any other says that the archive has no such file.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

MARK = ".coming"  # behind a segment's name: it will lie in the spool in a moment
_WAITS = 500  # of 10 ms, for a segment that is marked; then it is brought all the same: who should do so was killed
SPOOL_NAME = "coffer-spool"  # beside the segments; PostgreSQL passes over names that are no segment's


def restore_command(
    source: str,
    *,
    spool: str | Path | None = None,
    options: Mapping[str, str | Path] | None = None,
    program: tuple[str, ...] = (),
) -> str:
    """Return a value for `restore_command`: a segment that lies in the spool is moved, else `coffer` brings it.

    Moving costs no start of Python. `coffer wal fetch` starts what fills the spool ahead of the server; what is about
    to come is waited for.

    Args:
        source: Name of the source.
        spool: A folder on the file system of the data folder; below its pg_wal where omitted. Made when it is needed.
        options: More options of `coffer wal fetch` with their values, such as {"--repo": ..., "--key-file": ...}. No
            secret: the line can be read by every user of the database.
        program: How `coffer` is started; the one of this process where omitted.
    """
    folder = str(spool) if spool is not None else f"pg_wal/{SPOOL_NAME}"
    words = list(program or (_own_program(),))
    words += ["wal", "fetch", "%f", "%p", "--source", source, "--spool", folder]
    for name, value in (options or {}).items():
        words += [name, str(value)]
    line = " ".join(word if word in ("%f", "%p") else shlex.quote(word.replace("%", "%%")) for word in words)
    spooled = shlex.quote(folder.replace("%", "%%")) + "/%f"
    # A segment that another recovery left unread is the same file: nothing in the archive ever changes.
    take = f"mv {spooled} %p 2>/dev/null"
    instead = f"{{ {take} && exit; exec {line}; }}"  # once more: it may have come between the two looks
    wait = f"[ $n -lt {_WAITS} ] && [ -e {spooled}{MARK} ] || {instead}; n=$((n+1)); sleep 0.01"
    return f"n=0; until {take}; do {wait}; done"


def _own_program() -> str:
    """Return the `coffer` that was installed beside this process's Python; the server's PATH may have none."""
    beside = Path(sys.executable).with_name("coffer")
    return str(beside) if beside.is_file() else "coffer"
