"""`coffer pg`: PostgreSQL clusters. Each command is loaded when it is called."""

from __future__ import annotations

import importlib

import click

# In the order of a first use. The texts are here so that `coffer pg --help` loads no command; a test compares them.
COMMANDS = {
    "doctor": "Check a server's settings for backups, one by one.",
    "backup": "Back up a cluster as one complete snapshot.",
    "points": "List the points in time that can be restored.",
    "restore": "Restore a cluster to a point in time.",
    "drill": "Restore a cluster into a scratch server and prove its content.",
    "extract": "Get a database or a table out of a physical backup.",
    "dump": "Back up databases logically, table by table.",
    "load": "Restore a logical backup into a database.",
}


class _Commands(click.Group):
    """The group; imports the command that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's interface
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"coffer.cli.commands.pg_{cmd_name}")
        command: click.Command = module.COMMAND
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's interface
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


COMMAND = _Commands("pg", help="Back up and restore PostgreSQL clusters.")
