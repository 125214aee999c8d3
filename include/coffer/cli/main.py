"""The entry point of `coffer`. Imports next to nothing: the rest is loaded when it is known what is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from coffer import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows the program's name; that of the process where omitted.

    Returns:
        int: The exit code: 0 all well, 1 failed, 2 usage, 3 done but incomplete.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == ["--version"]:
        sys.stdout.write(f"coffer {__version__}\n")
        return 0
    try:
        from coffer.cli.application import run_application

        return run_application(given, owns_process=arguments is None)
    except KeyboardInterrupt:  # before the handlers of signals were there
        sys.stderr.write("coffer: stopped\n")
        return 1
