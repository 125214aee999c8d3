"""Run a piece of Python as a program of its own, from the project's folder."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def run_program(program: str, *arguments: str, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a program in a new Python and return how it ended.

    Args:
        program: The source; may be indented as a whole.
        *arguments: Its `sys.argv[1:]`.
        wrapper: A command that is to run it (`unshare --mount`).
    """
    command = [*wrapper, sys.executable, "-c", textwrap.dedent(program), *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
