"""A group of commands that imports only the one that is called: a start loads what its command needs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose commands are modules with a `COMMAND` each."""

    def __init__(self, name: str, texts: Mapping[str, str], module_prefix: str, **more: Any) -> None:
        """Name the commands.

        Args:
            name: Of the group.
            texts: Command -> its help in one line, in the order of a first use; so that help loads no command.
            module_prefix: What the name of a command's module begins with; its end is the command's name.
            **more: As `click.Group` takes it.
        """
        super().__init__(name, **more)
        self._texts, self._module_prefix = texts, module_prefix

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        """Return the names."""
        return list(self._texts)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's interface
        """Import a command; None where there is none of this name."""
        if cmd_name not in self._texts:
            return None
        command: click.Command = importlib.import_module(self._module_prefix + cmd_name).COMMAND
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's interface
        """Write the list for the help page."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._texts.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        if args and args[0] not in self._texts and not args[0].startswith("-"):
            raise click.UsageError(f"no such command {args[0]!r}{self._nearest(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def _nearest(self, word: str) -> str:
        import difflib

        near = difflib.get_close_matches(word, self._texts, n=1)
        return f", did you mean {near[0]!r}?" if near else ""
