"""`coffer pg`: PostgreSQL clusters. Each command is loaded when it is called."""

from __future__ import annotations

from coffer.cli.lazygroup import LazyGroup

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


COMMAND = LazyGroup("pg", COMMANDS, "coffer.cli.commands.pg_", help="Back up and restore PostgreSQL clusters.")
