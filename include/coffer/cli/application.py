"""The commands by name, each loaded when it is called, and how a command line that cannot be read ends."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import click

from coffer import __version__
from coffer.cli.command import Edge
from coffer.cli.envelope import EnvelopeWriter
from coffer.cli.execution import end_without_output
from coffer.cli.faults import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Fault, fault_of_stop, fault_of_usage
from coffer.cli.lazygroup import LazyGroup

# In the order of a first use. The texts are here so that `coffer --help` loads no command; a test compares them.
COMMANDS = {
    "init": "Make a new repository.",
    "backup": "Back up files and folders as one snapshot.",
    "snapshots": "List the snapshots.",
    "ls": "List the files of a snapshot.",
    "find": "Find files in snapshots by their name or path.",
    "diff": "Show what differs between two snapshots.",
    "restore": "Restore files from a snapshot.",
    "check": "Check that everything that is referred to is there.",
    "verify": "Read the stored data and authenticate all of it.",
    "stats": "Show how much is stored, and what deduplication and compression saved.",
    "keys": "Make key files, and show which keys a repository has.",
    "pg": "Back up and restore PostgreSQL clusters.",
    "wal": "Save PostgreSQL's write-ahead log, and bring it back.",
    "config": "Check the policy file, and show what it says.",
}

_HELP = """Encrypted, deduplicated backups.

A snapshot is named by the first digits of its id, or by latest, latest:SOURCE or latest:SOURCE@2026-11-01 (the newest
one finished by the end of that day, UTC).

Exit codes: 0 all well, 1 failed, 2 usage, 3 done but incomplete.
"""


def application() -> click.Group:
    """Return the whole command line."""
    return LazyGroup(
        "coffer",
        COMMANDS,
        "coffer.cli.commands.",
        help=_HELP,
        params=[
            click.Option(
                ["--version"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                help="Show the version.",
                callback=_version,
            )
        ],
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"coffer {__version__}")
        ctx.exit()


def run_application(arguments: Sequence[str], *, owns_process: bool = False) -> int:
    """Run one command line and return its exit code; no exception leaves but that of an exit.

    Args:
        arguments: What follows the program's name.
        owns_process: Whether the process is there for this run alone, so that its memory may be tuned for it.
    """
    if owns_process and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale without a character must not end a listing
    try:
        code = application().main(
            list(arguments), prog_name="coffer", standalone_mode=False, obj=Edge(owns_process=owns_process)
        )
        return code if isinstance(code, int) else EXIT_OK
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.ctx.get_help() + "\n")
        return EXIT_USAGE
    except click.UsageError as error:
        place = error.ctx.command_path if error.ctx else "coffer"
        fault = fault_of_usage(error.format_message(), f"Run '{place} --help' to see what it takes.")
        own_code = getattr(error.ctx and error.ctx.command, "fails_with", None)
        if own_code is not None:
            fault = fault._replace(exit_code=own_code)
        return _refuse(arguments, place.removeprefix("coffer").strip(), fault)
    except (click.Abort, KeyboardInterrupt):
        return _refuse(arguments, "", fault_of_stop())
    except BrokenPipeError:  # the reader of a help page left
        sys.stderr.close()
        return EXIT_FAILED
    except OSError as error:  # a help page: the commands have an edge of their own
        return end_without_output(error)


def _refuse(arguments: Sequence[str], command: str, fault: Fault) -> int:
    """End a run that did not begin; the arguments are not parsed, so `--json` is looked for as it stands."""
    if "--json" in arguments:
        try:
            EnvelopeWriter(sys.stdout, command).finish(fault.exit_code, [], fault)
            sys.stdout.flush()
        except OSError as error:
            end_without_output(error)
    fault.show()
    return fault.exit_code
