"""How a command is declared: the options that all have, and the run that its function is handed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import click

from coffer.cli.execution import execute
from coffer.cli.outcome import Outcome
from coffer.cli.run import Run
from coffer.errors import UsageError
from coffer.memory import tune_process

Body = Callable[..., Outcome]


class Edge(NamedTuple):
    """What the program's entry tells the command: whether the process is there for this run alone."""

    owns_process: bool


_OUTPUT: tuple[tuple[tuple[str, ...], str], ...] = (
    (("--json", "as_json"), "Write one JSON envelope to standard output (docs/cli.md)."),
    (("--quiet", "-q"), "Write nothing to standard error but warnings and errors."),
    (("--verbose", "-v"), "Write more: every warning, what the store was asked, tracebacks of unexpected errors."),
)
_WHERE: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("--repo", "-r"),
        "LOCATION",
        "The repository's folder.  [env: COFFER_REPOSITORY; else the policy's first location]",
    ),
    (("--location",), "NAME", "A location of the policy, instead of --repo."),
    (("--key-file",), "FILE", "The key file.  [env: COFFER_KEY_FILE]"),
    (
        ("--passphrase-file",),
        "FILE",
        "A file whose first line is the passphrase.  [env: COFFER_PASSPHRASE_FILE; or COFFER_PASSPHRASE itself]",
    ),
)
WHERE_NAMES = ("repo", "location", "key_file", "passphrase_file")


class DeclaredCommand(click.Command):
    """A command of ours; `fails_with` as in `command`."""

    fails_with: int | None = None


def command(
    name: str,
    *,
    parent: str = "",
    opens: bool = True,
    moves_data: bool = False,
    fails_with: int | None = None,
    options: tuple[click.Parameter, ...] = (),
) -> Callable[[Body], click.Command]:
    """Make a command of a function `(run, **parameters) -> Outcome`; its docstring is the command's help.

    Args:
        name: The word on the command line.
        parent: The group's word, for a command within a group.
        opens: Whether it takes the options that say which repository is meant.
        moves_data: Whether it reads or writes much data, so that the process's memory is tuned for it.
        fails_with: The exit code of every failure, also of a command line that cannot be read; see `Run`.
        options: Its own arguments and options.
    """
    full_name = f"{parent} {name}".strip()

    def decorate(body: Body) -> click.Command:
        def callback(as_json: bool, quiet: bool, verbose: bool, **parameters: Any) -> int:
            where = {key: parameters.pop(key, None) for key in WHERE_NAMES}
            run = Run(full_name, as_json=as_json, quiet=quiet, verbose=verbose, where=where)
            run.fails_with = fails_with
            edge = click.get_current_context().find_object(Edge)
            if moves_data and edge is not None and edge.owns_process:
                tune_process()

            def work() -> Outcome:
                _refuse_empty(parameters | where)
                return body(run, **parameters)

            return execute(run, work)

        where = [click.Option(list(flags), metavar=metavar, help=text) for flags, metavar, text in _WHERE if opens]
        output = [click.Option(list(flags), is_flag=True, help=text) for flags, text in _OUTPUT]
        made = DeclaredCommand(name, callback=callback, params=[*options, *where, *output], help=body.__doc__)
        made.fails_with = fails_with
        return made

    return decorate


def _refuse_empty(given: dict[str, Any]) -> None:
    """Refuse empty words: mostly a shell variable that is not set, which would mean the working folder, or everything.

    Raises:
        UsageError: One is empty; nothing was done.
    """
    for parameter in click.get_current_context().command.params:
        value = given.get(parameter.name or "")
        if "" in (value if isinstance(value, tuple) else (value,)):
            word = parameter.opts[0] if isinstance(parameter, click.Option) else (parameter.name or "").upper()
            raise UsageError(f"{word}: is empty", hint="Is a shell variable not set? Leave it out, or give a value.")


def argument(name: str, *, metavar: str, many: bool = False, required: bool = True) -> click.Argument:
    """Return an argument; names stay as the system gave them, bytes that are not UTF-8 as surrogate escapes."""
    return click.Argument([name], metavar=metavar, nargs=-1 if many else 1, required=required)


def option(*flags: str, help: str, metavar: str | None = None, many: bool = False, **more: Any) -> click.Option:  # noqa: A002 - click's own word
    """Return an option with a value, or several where it may be repeated."""
    return click.Option(list(flags), metavar=metavar, multiple=many, help=help, **more)


def flag(*flags: str, help: str) -> click.Option:  # noqa: A002 - click's own word
    """Return an option without a value."""
    return click.Option(list(flags), is_flag=True, help=help)
