"""Mistakes that join several keys: a name that names nothing, a folder within a folder, a run outside its window.

Works on the plain data and not on the models, so that one bad value does not hide what is wrong elsewhere: what has not
the form it should have is passed over here, and is a mistake of its own already.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import time
from itertools import combinations, product
from pathlib import Path as FilePath
from typing import Any, NamedTuple, get_args

from coffer.config.base import PolicyModel
from coffer.config.cron import parse_cron
from coffer.config.databases import (
    KEYS_OF_EACH_NAME,
    DatabaseSchedule,
    DatabaseServer,
    default_connection,
    default_slot,
    server_address,
)
from coffer.config.document import Path
from coffer.config.filetree import FilesystemBackup
from coffer.config.local import LocalBackup
from coffer.config.monitoring import AlertConfig
from coffer.config.performance import Scheduling
from coffer.config.repository import RepositorySettings
from coffer.config.values import Severity
from coffer.units import parse_window


class Finding(NamedTuple):
    """A mistake that joins several keys.

    Attributes:
        path: The key that it is shown at.
        problem: What is wrong.
        allowed: What is allowed.
        candidates: Names of which one was perhaps meant.
    """

    path: Path
    problem: str
    allowed: str
    candidates: tuple[str, ...] = ()


def _default(model: type[PolicyModel], key: str) -> Any:
    """Return a key's default as it would be written in the file."""
    return model.model_fields[key].default


def find_conflicts(data: dict[str, Any], project_folder: FilePath) -> list[Finding]:
    """Return the mistakes that join several keys, in no order.

    Args:
        data: The policy as plain data; may hold any mistake.
        project_folder: What relative paths count from, absolute.
    """
    checks: tuple[Callable[[_Reading], Iterator[Finding]], ...] = (
        _names_twice,
        _sources_named_like_databases,
        _unknown_locations,
        _unknown_sync_sources,
        _unknown_databases,
        _overlapping_locations,
        _sources_and_locations,
        _secrets_in_locations,
        _key_reference,
        _passwords_named_twice,
        _one_cluster_two_ways,
        _levels_that_differ,
        _incremental_without_full,
        _schedules_outside_window,
        _alerts_without_channel,
    )
    reading = _Reading(data, project_folder)
    return [finding for check in checks for finding in check(reading)]


class _Reading:
    """The plain data, read with patience: what has the wrong form is as if it were not there."""

    def __init__(self, data: dict[str, Any], project_folder: FilePath) -> None:
        self.data = data
        self._project_folder = project_folder

    def at(self, *path: str | int, default: object = None) -> Any:
        """Return the value at a path, the default if there is none."""
        value: Any = self.data
        for part in path:
            if not isinstance(value, dict) or part not in value:
                return default
            value = value[part]
        return value

    def items(self, *path: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield index and value of the mappings in the list at a path."""
        value = self.at(*path)
        yield from ((index, item) for index, item in enumerate(_list(value)) if isinstance(item, dict))

    def locations(self) -> dict[str, str]:
        """Return the real paths of the local locations by name."""
        raw = self.at("local_backup", "locations", default=_default(LocalBackup, "locations"))
        entries = raw.items() if isinstance(raw, dict) else ()
        return {
            name: self.real(entry["path"])
            for name, entry in entries
            if isinstance(entry, dict) and _is_path(entry.get("path"))
        }

    def location_names(self) -> tuple[str, ...]:
        """Return the names of the local locations, those with mistakes too."""
        raw = self.at("local_backup", "locations", default=_default(LocalBackup, "locations"))
        return tuple(raw) if isinstance(raw, dict) else ()

    def database_names(self) -> tuple[str, ...]:
        """Return the names of the databases."""
        return tuple(name for name in _list(self.at("databases")) if isinstance(name, str))

    def servers(self) -> dict[str, dict[str, Any]]:
        """Return the entries of the databases' servers by name."""
        raw = self.at("database_servers")
        entries = raw.items() if isinstance(raw, dict) else ()
        return {name: entry for name, entry in entries if isinstance(entry, dict)}

    def source_paths(self) -> Iterator[tuple[Path, dict[str, Any], str]]:
        """Yield path in the document, source and real path of everything that is backed up."""
        for index, source in self.items("sources"):
            for number, text in enumerate(_list(source.get("paths"))):
                if _is_path(text):
                    yield ("sources", index, "paths", number), source, self.real(text)

    def real(self, text: str) -> str:
        """Return a path as the file system has it now, links followed, as far as it exists."""
        return os.path.realpath(os.path.join(self._project_folder, os.path.expanduser(text)))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.strip() != "" and "\0" not in value


def _within(inner: str, outer: str) -> bool:
    """Tell whether a real path is another one or lies below it."""
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


# ------------------------------------------------------------------------------------------------ names


def _names_twice(reading: _Reading) -> Iterator[Finding]:
    for path in (("sources",), ("sync_procedures", "schedule"), ("partial_recovery", "procedures")):
        first: dict[str, int] = {}
        for index, item in reading.items(*path):
            name = item.get("name")
            if not isinstance(name, str):
                continue
            if name in first:
                problem = f"{'.'.join(path)}[{first[name]}] has the same name"
                yield Finding((*path, index, "name"), problem, "a name of its own")
            first.setdefault(name, index)


def _sources_named_like_databases(reading: _Reading) -> Iterator[Finding]:
    """Find sources with the name of a database: their snapshots would be one chain."""
    databases = reading.database_names()
    for index, source in reading.items("sources"):
        if source.get("name") in databases:
            yield Finding(("sources", index, "name"), "a database has the same name", "a name of its own")


def _unknown_databases(reading: _Reading) -> Iterator[Finding]:
    known = reading.database_names()
    for name in reading.servers():
        if name not in known:
            names = f"a name under databases: {', '.join(known)}" if known else "a name under databases; there is none"
            yield Finding(("database_servers", name), "there is no such name under databases", names, known)


def _unknown_names(path: Path, names: object, known: tuple[str, ...], what: str) -> Iterator[Finding]:
    for number, name in enumerate(_list(names)):
        if isinstance(name, str) and name not in known:
            allowed = f"a name under {what}: {', '.join(known)}" if known else f"a name under {what}; there is none yet"
            yield Finding((*path, number), f"there is no such name under {what}", allowed, known)


def _unknown_locations(reading: _Reading) -> Iterator[Finding]:
    known = reading.location_names()
    for index, source in reading.items("sources"):
        path: Path = ("sources", index, "locations")
        yield from _unknown_names(path, source.get("locations"), known, "local_backup.locations")
    for name, server in reading.servers().items():
        of_server: Path = ("database_servers", name, "locations")
        yield from _unknown_names(of_server, server.get("locations"), known, "local_backup.locations")


def _unknown_sync_sources(reading: _Reading) -> Iterator[Finding]:
    names = (source.get("name") for _, source in reading.items("sources"))
    known = tuple(dict.fromkeys(name for name in names if isinstance(name, str)))
    for index, procedure in reading.items("sync_procedures", "schedule"):
        path: Path = ("sync_procedures", "schedule", index, "sources")
        yield from _unknown_names(path, procedure.get("sources"), known, "sources")


# ------------------------------------------------------------------------------------------------ folders


def _overlapping_locations(reading: _Reading) -> Iterator[Finding]:
    for (first, first_path), (second, second_path) in combinations(reading.locations().items(), 2):
        if _within(first_path, second_path) or _within(second_path, first_path):
            yield Finding(
                ("local_backup", "locations", second, "path"),
                f"the same folder as location {first}, or one within the other",
                "a folder of its own for each location",
            )


def _sources_and_locations(reading: _Reading) -> Iterator[Finding]:
    locations = reading.locations()
    for path, source, source_path in reading.source_paths():
        for name, location_path in locations.items():
            if _within(source_path, location_path):
                problem = f"lies within location {name}: a repository is not backed up into itself"
                yield Finding(path, problem, "a path outside every location")
            elif _within(location_path, source_path) and not _excluded(source, source_path, location_path):
                inner = os.path.relpath(location_path, source_path)
                problem = f"holds location {name}: a repository is not backed up into itself"
                yield Finding(path, problem, f'a path without a location in it, or exclude: ["/{inner}/"]')


def _excluded(source: dict[str, Any], source_path: str, inner_path: str) -> bool:
    """Tell whether a source's patterns leave out a folder below its path."""
    patterns = [pattern for pattern in _list(source.get("exclude")) if isinstance(pattern, str)]
    if not patterns:
        return False
    # Imported here: needed only where a location lies within a source, and every start would pay for it.
    from pathspec import GitIgnoreSpec

    try:
        spec = GitIgnoreSpec.from_lines(patterns)
    except ValueError:
        return False  # a pattern that is none is a mistake of its own
    return spec.match_file(os.path.relpath(inner_path, source_path) + "/")


def _secrets_in_locations(reading: _Reading) -> Iterator[Finding]:
    keys = ("key_file", "passphrase_file", "state_dir")
    for key, (name, location_path) in product(keys, reading.locations().items()):
        text = reading.at("repository", key, default=_default(RepositorySettings, key))
        if _is_path(text) and _within(reading.real(text), location_path):
            why = "must not lie in the repository" if key == "state_dir" else "must not be stored with what it opens"
            yield Finding(
                ("repository", key), f"lies within location {name}: it {why}", "a path outside every location"
            )


# ------------------------------------------------------------------------------------ values that belong together


def _key_reference(reading: _Reading) -> Iterator[Finding]:
    given = [key for key in ("passphrase_env", "passphrase_file") if reading.at("repository", key) is not None]
    by_passphrase = reading.at("encryption", "at_rest", "key_storage") == "passphrase"
    if by_passphrase and len(given) != 1:
        problem = "no passphrase is named" if not given else "two passphrases are named"
        allowed = "one of repository.passphrase_env and repository.passphrase_file"
        yield Finding(("encryption", "at_rest", "key_storage"), problem, allowed)
    if given and not by_passphrase:
        path = ("repository", given[0])
        yield Finding(path, "it is named but not used", "together with encryption.at_rest.key_storage: passphrase")


def _passwords_named_twice(reading: _Reading) -> Iterator[Finding]:
    for name, server in reading.servers().items():
        if server.get("password_env") is not None and server.get("password_file") is not None:
            path = ("database_servers", name, "password_file")
            yield Finding(path, "two passwords are named", "one of password_env and password_file")


def _one_cluster_two_ways(reading: _Reading) -> Iterator[Finding]:
    """Find names on one server that would have it backed up in two ways, though they share one chain of snapshots."""
    servers = reading.servers()
    seen: dict[tuple[str, ...], str] = {}
    for name in reading.database_names():
        server = servers.get(name, {})
        host, connection = server.get("host"), server.get("connection")
        if not isinstance(host, str | None) or not isinstance(connection, str | None):
            continue  # a mistake of its own
        address = server_address(host, server.get("port", _default(DatabaseServer, "port")), connection)
        first = name if address is None else seen.setdefault(address, name)
        if first == name:
            continue
        for key in server.keys() & DatabaseServer.model_fields.keys() - KEYS_OF_EACH_NAME - {"host", "port"}:
            if server[key] != _of_cluster(first, servers[first], key):
                problem = f"differs from database_servers.{first}.{key}, and both are one server"
                yield Finding(("database_servers", name, key), problem, "the same in both, or only in the first")


def _of_cluster(name: str, server: dict[str, Any], key: str) -> Any:
    """Return what a key of a server comes to, as it would be written in the file."""
    made = {"slot": default_slot(name), "connection": default_connection(name)}
    return server.get(key, made.get(key, _default(DatabaseServer, key)))


def _levels_that_differ(reading: _Reading) -> Iterator[Finding]:
    local = reading.at("local_backup", "compression", "level")
    general_path = ("performance_config", "compression", "level")
    general = reading.at(*general_path)
    if local is not None and general is not None and local != general:
        yield Finding(
            general_path, "differs from local_backup.compression.level", "the same level in both, or only one of them"
        )


def _incremental_without_full(reading: _Reading) -> Iterator[Finding]:
    types = _list(reading.at("backup_types"))
    if "incremental" in types and "full" not in types:
        yield Finding(
            ("backup_types",), "an incremental backup without a full one to build on", "[full, incremental] or [full]"
        )


def _schedules(reading: _Reading) -> Iterator[tuple[Path, object]]:
    """Yield path and text of the schedules that are in use, by default or as given."""
    if reading.at("filesystem_backup", "schedule") is not None or _list(reading.at("sources")):
        path = ("filesystem_backup", "schedule")
        yield path, reading.at(*path, default=_default(FilesystemBackup, "schedule"))
    for kind in ("full", "incremental"):
        if reading.at("schedule", kind) is not None or _list(reading.at("databases")):
            yield ("schedule", kind), reading.at("schedule", kind, default=_default(DatabaseSchedule, kind))
    for index, source in reading.items("sources"):
        yield ("sources", index, "schedule"), source.get("schedule")


def _schedules_outside_window(reading: _Reading) -> Iterator[Finding]:
    scheduling = ("performance_config", "scheduling", "backup_window")
    window_text = reading.at(*scheduling, default=_default(Scheduling, "backup_window"))
    for path, cron_text in _schedules(reading):
        if not isinstance(window_text, str) or not isinstance(cron_text, str):
            continue
        try:
            window, cron = parse_window(window_text), parse_cron(cron_text)
        except ValueError:
            continue  # a mistake of its own
        for hour, minute in cron.times_of_day():
            if not window.contains(time(hour, minute)):
                problem = f"it runs at {hour:02}:{minute:02}, outside the backup window {window}"
                yield Finding(path, problem, f"times within {'.'.join(scheduling)}")
                break


def _alerts_without_channel(reading: _Reading) -> Iterator[Finding]:
    channels = [channel for _, channel in reading.items("alert_config", "channels")]
    if not channels:
        return  # alerts are still kept in the repository
    heard = {word for channel in channels for word in _list(channel.get("priority", ["all"])) if isinstance(word, str)}
    triggers = reading.at("alert_config", "triggers", default=_default(AlertConfig, "triggers"))
    for name, trigger in triggers.items() if isinstance(triggers, dict) else ():
        severity = trigger.get("severity") if isinstance(trigger, dict) else None
        if severity in get_args(Severity) and severity not in heard and "all" not in heard:
            path = ("alert_config", "triggers", name, "severity")
            yield Finding(
                path, "no channel takes alerts of this severity", "a severity that a channel's priority names"
            )
