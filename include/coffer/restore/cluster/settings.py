"""The settings that a recovery needs, and a configuration where the data folder has none of its own.

Source: PostgreSQL's `guc-file.l` (how values are quoted), `xlogrecovery.c` (what a recovery requires).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from coffer.postgres.record import ClusterRecord
from coffer.restore.cluster.plan import StopAt

BEGIN, END = "# --- begin: recovery settings of Coffer ---", "# --- end: recovery settings of Coffer ---"
# One target at most may be set. An empty one takes back what another file says, so these stand before the target.
_TARGETS = (
    "recovery_target",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
)
# A standby refuses to replay where one of these is less than on the server that wrote the WAL.
REPLAY_SETTINGS = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)
# Of a postgresql.conf in the data folder: these lead a copy to the files of the original.
_ABSOLUTE = ("data_directory", "hba_file", "ident_file", "config_file", "external_pid_file")
_BLOCK = re.compile(re.escape(BEGIN) + r"\n.*?" + re.escape(END) + r"\n", re.DOTALL)
_ESCAPES = {"'": "''", "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def quote(value: str) -> str:
    """Return a value as a configuration file has it: in quotes, with what is special escaped."""
    return "'" + "".join(_ESCAPES.get(character, character) for character in value) + "'"


def recovery_settings(
    stop: StopAt, *, action: str, restore_command: str, keep_archiving: bool, more: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Return names and values in the order in which they must stand.

    Args:
        stop: Where the recovery ends.
        action: What the server does there.
        restore_command: How it gets WAL that is not in pg_wal; "false" for none.
        keep_archiving: Whether archive_mode, and the fetching of subscriptions, stay as they were.
        more: Further settings; these win.
    """
    found = [
        ("restore_command", restore_command),
        ("primary_conninfo", ""),
        ("primary_slot_name", ""),
        ("archive_cleanup_command", ""),
        ("recovery_end_command", ""),
        ("recovery_min_apply_delay", "0"),  # of a standby that lags on purpose: each commit would wait for it
    ]
    if not keep_archiving:
        # A copy of a subscriber would fetch from the real publisher, and use up what the original still needs.
        found += [("archive_mode", "off"), ("max_logical_replication_workers", "0")]
    found += [(name, "") for name in _TARGETS if name != stop.setting]
    found += [
        (stop.setting, stop.value),
        ("recovery_target_inclusive", "on" if stop.inclusive else "off"),
        ("recovery_target_timeline", str(stop.timeline)),
        ("recovery_target_action", action),
    ]
    return [*found, *more.items()]


def with_settings(content: str, settings: list[tuple[str, str]]) -> str:
    """Return postgresql.auto.conf with our settings at its end; those of an earlier restore are replaced.

    The last line of a name counts, and this file counts before postgresql.conf.
    """
    rest = _BLOCK.sub("", content)
    if rest and not rest.endswith("\n"):
        rest += "\n"
    lines = [f"{name} = {quote(value)}\n" for name, value in settings]
    return f"{rest}{BEGIN}\n{''.join(lines)}{END}\n"


def minimal_configuration(record: ClusterRecord) -> str:
    """Return a postgresql.conf for a cluster whose own one lay outside its data folder."""
    names = (*REPLAY_SETTINGS, "wal_level", "shared_preload_libraries")
    lines = [f"{name} = {quote(record.settings[name])}\n" for name in names if record.settings.get(name)]
    where = record.settings.get("config_file", "outside the data folder")
    return (
        f"# Written by Coffer: the server's own file was {where.encode('unicode_escape').decode()},\n"
        "# and is not part of a base backup. These are the settings that its recovery needs; put the rest back.\n"
        + "".join(lines)
    )


MINIMAL_ACCESS = """\
# Written by Coffer: the server's own pg_hba.conf was outside the data folder. Only the user of the server itself gets
# in, and others over loopback with a password. Put the original back.
local all all peer
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
"""


def strayed_settings(content: str) -> dict[str, str]:
    """Return what a postgresql.conf says of files elsewhere: name -> value, the last one of each."""
    found = {}
    for line in content.splitlines():
        match = re.match(r"\s*([A-Za-z_]+)\s*(?:=|\s)\s*'?([^'#]*)'?", line)
        if match and match[1].lower() in _ABSOLUTE and match[2].strip():
            found[match[1].lower()] = match[2].strip()
    return found
