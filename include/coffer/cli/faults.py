"""How a run that failed says so: one line `coffer: ...`, one `HINT: ...`, and an exit code."""

from __future__ import annotations

import sys
from typing import NamedTuple

from coffer.cli.text import escape
from coffer.errors import CofferError, PolicyInvalidError, UsageError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INCOMPLETE = 3
EXIT_FATAL = 126  # of a command that a server runs: any code up to 125 means to it that the archive has no such file


class Fault(NamedTuple):
    """Why a run failed.

    Attributes:
        code: Of the error (docs/errors.md); `internal` for an exception that is none of ours.
        message: Object, cause, value; escaped; may have several lines.
        hint: What to do about it.
        exit_code: 1 or 2.
    """

    code: str
    message: str
    hint: str
    exit_code: int = EXIT_FAILED

    def fields(self) -> dict[str, str]:
        """Return what the envelope says of it."""
        return {"code": self.code, "message": self.message, "hint": self.hint}

    def show(self) -> None:
        """Write it to standard error."""
        sys.stderr.write(f"coffer: {self.message}\n" + (f"HINT: {self.hint}\n" if self.hint else ""))
        sys.stderr.flush()


def fault_of(error: CofferError) -> Fault:
    """Return the fault that one of our errors is. What it names is escaped: a path may hold anything."""
    # Only the policy's mistakes come in several lines, and their values are made printable where they are read.
    lines = str(error).split("\n") if isinstance(error, PolicyInvalidError) else [str(error)]
    exit_code = EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED
    return Fault(error.code, "\n".join(map(escape, lines)), escape(error.hint), exit_code)


def fault_of_usage(message: str, hint: str) -> Fault:
    """Return the fault of a command line that cannot be read."""
    text = message[:1].lower() + message[1:].rstrip(".")
    return Fault(UsageError.code, escape(text), hint, EXIT_USAGE)


def fault_of_stop() -> Fault:
    """Return the fault of a run that a signal ended where nothing was to be kept."""
    return Fault("interrupted", "stopped", "Nothing was changed by it. Run the command again.")


def fault_of_surprise(error: Exception) -> Fault:
    """Return the fault of an exception that should not have come this far."""
    return Fault(
        "internal",
        f"unexpected error: {type(error).__name__}: {escape(str(error)[:500])}",
        "This is a mistake in Coffer. Run again with --verbose for the details, and report them.",
    )


def fault_of_output(error: OSError) -> Fault:
    """Return the fault of an output that could not be written."""
    return Fault("output", f"output cannot be written: {error.strerror}", "Is the disk that the output goes to full?")
