"""The entry point of `coffer`. Imports next to nothing: the rest is loaded when it is known what is asked for."""

from __future__ import annotations

import os
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
    if arguments is None:
        _open_streams()
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == ["--version"]:
        return _show_version()
    try:
        from coffer.cli.application import run_application

        return run_application(given, owns_process=arguments is None)
    except KeyboardInterrupt:  # before the handlers of signals were there
        sys.stderr.write("coffer: stopped\n")
        return 1


def _show_version() -> int:
    try:
        sys.stdout.write(f"coffer {__version__}\n")
        sys.stdout.flush()
    except OSError as error:
        from coffer.cli.execution import end_without_output

        return end_without_output(error)
    return 0


def _open_streams() -> None:
    """Open the standard streams that are closed onto the null device.

    Or the first files that are opened would get their numbers, and what is written to standard error would go into a
    file of the store. A job without any stream runs in silence. Where standard output alone is closed, what is written
    to it is an error, as it is for any program: a listing that nobody got is no success.
    """
    is_silent = sys.stdout is None and sys.stderr is None
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        if number == 1 and not is_silent:
            os.close(number)
            os.open(os.devnull, os.O_RDONLY)  # gets the same number: it is the lowest that is free
    os.close(number)
    # Never closed: they are the process's own for as long as it runs.
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - see above
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - see above
