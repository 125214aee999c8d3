"""From a command's function to an exit code: what is written, and how every error ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from coffer.cli.envelope import EnvelopeWriter
from coffer.cli.faults import (
    EXIT_FAILED,
    EXIT_USAGE,
    Fault,
    fault_of,
    fault_of_output,
    fault_of_stop,
    fault_of_surprise,
    fault_of_usage,
)
from coffer.cli.outcome import Outcome
from coffer.cli.run import Run
from coffer.cli.stopping import handle_signals
from coffer.errors import CofferError


class _Output:
    """Standard output; remembers an error of its own, to tell it from any other OSError."""

    def __init__(self) -> None:
        self.failure: OSError | None = None

    def write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        try:
            sys.stdout.flush()
        except OSError as error:
            self.failure = error
            raise


def execute(run: Run, command: Callable[[], Outcome]) -> int:
    """Call a command's function, write its outcome, and return the exit code.

    No exception leaves this function. What the run opened is closed before the verdict is written.
    """
    out = _Output()
    writer = EnvelopeWriter(out, run.command)
    try:
        exit_code, fault = _call(run, out, writer, command)
        if fault is not None:
            exit_code = fault.exit_code if run.fails_with is None else run.fails_with
        _finish(run, out, writer, exit_code, fault)
    except OSError as error:
        exit_code = end_without_output(error)
        return exit_code if run.fails_with is None else run.fails_with
    return exit_code


def _call(run: Run, out: _Output, writer: EnvelopeWriter, command: Callable[[], Outcome]) -> tuple[int, Fault | None]:
    try:
        with handle_signals(run), run.closing:
            outcome = command()
            _write(run, out, writer, outcome)
            return outcome.exit_code, outcome.fault
    except CofferError as error:
        return EXIT_FAILED, fault_of(error)
    except KeyboardInterrupt:
        return EXIT_FAILED, fault_of_stop()
    except Exception as error:  # the edge of the process: every exception ends as one line here
        if error is out.failure:
            raise
        if isinstance(error, FileNotFoundError) and not _has_working_folder():
            return EXIT_USAGE, fault_of_usage("the working folder is gone", "Change to a folder that exists.")
        _show_traceback(run)
        return EXIT_FAILED, fault_of_surprise(error)


def _has_working_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _write(run: Run, out: _Output, writer: EnvelopeWriter, outcome: Outcome) -> None:
    """Write what the command handed back, rows as they are made."""
    rows, totals = outcome.rows, outcome.totals
    if run.as_json:
        writer.fields(outcome.result)
        if rows is not None:
            writer.rows(rows.key, map(rows.to_json, rows.items))
        if totals is not None:
            writer.fields(totals()[0])
        return
    for line in outcome.lines:
        out.write(f"{line}\n")
    if rows is not None:
        for item in rows.items:
            out.write(f"{rows.to_line(item)}\n")
    if totals is not None:
        for line in totals()[1]:
            out.write(f"{line}\n")


def _finish(run: Run, out: _Output, writer: EnvelopeWriter, exit_code: int, fault: Fault | None) -> None:
    """Write the verdict; `store` is the last field of the result, since making rows reads the store."""
    counts = run.store_counts()
    if run.as_json:
        writer.fields({} if counts is None else {"store": counts})
        writer.finish(exit_code, run.warnings, fault, warnings_count=run.warnings_count)
    out.flush()
    run.close_warnings()
    if run.verbose and counts is not None:
        run.note("store: " + ", ".join(f"{name} {value:,}" for name, value in counts.items()))
    if fault is not None:
        fault.show()


def _show_traceback(run: Run) -> None:
    if run.verbose:
        import traceback

        traceback.print_exc()


def end_without_output(error: OSError) -> int:
    """End where standard output cannot be written. A reader that has left (`| head`) is told nothing.

    The code is not 0 either way: nobody has seen all of the answer.
    """
    null = os.open(os.devnull, os.O_WRONLY)  # or the interpreter would flush, and complain, at exit
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    if not isinstance(error, BrokenPipeError):
        fault_of_output(error).show()
    return EXIT_FAILED
