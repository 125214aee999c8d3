"""`coffer config`: what the policy says, and every mistake in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coffer.cli.command import argument, command
from coffer.cli.faults import EXIT_OK, EXIT_USAGE, fault_of
from coffer.cli.outcome import Outcome
from coffer.cli.paths import user_path
from coffer.cli.run import Run
from coffer.cli.text import count_of, escape, path_text, table
from coffer.errors import PolicyInvalidError
from coffer.units import format_duration, format_rate, format_size

if TYPE_CHECKING:
    from coffer.config.databases import DatabaseCluster
    from coffer.config.filetree import FileTreeSource
    from coffer.config.policy import Policy

_FILE = argument("file", metavar="[FILE]", required=False)


@command("check", parent="config", opens=False, options=(_FILE,))
def check_config(run: Run, file: str | None) -> Outcome:  # noqa: ARG001 - every command is handed its run
    """Check the policy file.

    Shows every mistake at once, each with its line, its key, its value, what is allowed, and the known key or word that
    was probably meant; and what is right but has no effect in this version. FILE is the one that COFFER_POLICY names,
    else config/coffer.yaml.
    """
    from coffer.config import check_policy, format_mistakes, load_policy, policy_notes

    path = _policy_file(file)
    mistakes = check_policy(path)
    notes = [] if mistakes else list(policy_notes(load_policy(path)))
    shown = path_text(str(path))
    result: dict[str, Any] = {
        "file": shown,
        "mistakes": [mistake.to_dict() for mistake in mistakes],
        "notes": notes,
    }
    if not mistakes:
        return Outcome(result=result, lines=[*(f"note: {escape(note)}" for note in notes), f"{shown}: no mistake"])
    lines = [escape(line) for line in format_mistakes(mistakes, shown).split("\n")]
    error = PolicyInvalidError(
        f"policy {path}: {count_of(len(mistakes), 'mistake')}", hint="docs/configuration.md explains every key."
    )
    return Outcome(result=result, lines=lines, exit_code=EXIT_USAGE, fault=fault_of(error))


@command("show", parent="config", opens=False, options=(_FILE,))
def show_config(run: Run, file: str | None) -> Outcome:  # noqa: ARG001 - every command is handed its run
    """Show what the policy comes to, with all defaults and absolute paths.

    It holds no secret; what it names may be one.
    """
    from coffer.config import load_policy

    path = _policy_file(file)
    policy = load_policy(path)
    result = _facts(policy)
    result["file"] = path_text(str(path))
    return Outcome(result=result, lines=_lines(result), exit_code=EXIT_OK)


COMMAND = click.Group(
    "config", commands=[check_config, show_config], help="Check the policy file, and show what it says."
)


def _policy_file(file: str | None) -> Path:
    from coffer.config import find_policy

    return user_path(file).absolute() if file else find_policy()


def _facts(policy: Policy) -> dict[str, Any]:
    key, performance, dedup = policy.key_reference, policy.performance, policy.dedup
    return {
        "timezone": policy.timezone,
        "sources": [_source_facts(policy, source) for source in policy.sources],
        "databases": [_database_facts(policy, cluster) for cluster in policy.clusters],
        "locations": [
            {
                "name": location.name,
                "path": path_text(str(location.path)),
                "retention_s": location.retention_s,
                "frequency": str(location.frequency),
            }
            for location in policy.locations
        ],
        "key": {
            "storage": key.storage,
            "key_file": path_text(str(key.key_file)),
            "passphrase_env": key.passphrase_env,
            "passphrase_file": path_text(str(key.passphrase_file)) if key.passphrase_file else None,
        },
        "state_dir": path_text(str(policy.state_dir)),
        "window": str(policy.window),
        "performance": performance._asdict(),
        "deduplication": dedup._asdict(),
    }


def _source_facts(policy: Policy, source: FileTreeSource) -> dict[str, Any]:
    return {
        "name": source.name,
        "paths": [path_text(str(path)) for path in source.paths],
        "include": list(source.include),
        "exclude": list(source.exclude),
        "one_file_system": source.one_file_system,
        "exclude_caches": source.exclude_caches,
        "tags": list(source.tags),
        "schedule": policy.schedule_of(source),
        "locations": [location.name for location in policy.locations_of(source)],
    }


def _database_facts(policy: Policy, cluster: DatabaseCluster) -> dict[str, Any]:
    server = cluster.server
    return {
        "source": cluster.source,
        "names": list(cluster.names),
        "server": f"{server.host}:{server.port}" if server.host is not None else None,
        "connection": cluster.connection,
        "slot": cluster.slot,
        "method": server.method,
        "locations": [location.name for location in policy.locations_of(server)],
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    key, performance = facts["key"], facts["performance"]
    references = {"key_file": "key_file", "passphrase": "passphrase_file"}
    where = key[references.get(key["storage"], "key_file")] or key["passphrase_env"] or "asked on the terminal"
    limit = performance["io_limit_bytes_per_s"]
    sources = [
        (s["name"], s["schedule"], ", ".join(s["locations"]), ", ".join(map(str, s["paths"]))) for s in facts["sources"]
    ]
    databases = [
        (", ".join(d["names"]), d["server"] or f"connection {d['connection']}", d["method"], ", ".join(d["locations"]))
        for d in facts["databases"]
    ]
    locations = [(p["name"], p["frequency"], format_duration(p["retention_s"]), p["path"]) for p in facts["locations"]]
    window = f"{facts['window']} ({facts['timezone']})"
    workers, level = performance["max_workers"], performance["compression_level"] or "off"
    return [
        f"policy {facts['file']}",
        "",
        *table(("source", "schedule", "locations", "paths"), sources, "llll"),
        "",
        *([*table(("databases", "server", "method", "locations"), databases, "llll"), ""] if databases else []),
        *table(("location", "frequency", "kept for", "folder"), locations, "llll"),
        "",
        f"key: {key['storage']}, {where}",
        f"window: {window}, one run takes at most {format_duration(performance['max_duration_s'])}",
        f"workers: {workers}, I/O limit: {format_rate(limit) if limit else 'none'}",
        f"pack size: {format_size(performance['pack_size_bytes'])}, compression level: {level}",
    ]
