"""`coffer keys`: key files, and the wrapped keys of a repository."""

from __future__ import annotations

from typing import Any

import click

from coffer.cli.command import argument, command
from coffer.cli.faults import EXIT_FAILED, Fault, fault_of
from coffer.cli.opening import find_place, open_store, unlocker_of
from coffer.cli.outcome import Outcome
from coffer.cli.paths import user_path
from coffer.cli.run import Run
from coffer.cli.text import path_text, table
from coffer.crypto.kek import write_new_key_file
from coffer.errors import KeyFileError, ObjectCorruptError, WrongKeyError
from coffer.repository.keys import WrappedKey, survey_keys
from coffer.repository.settings import read_settings

_KEEP = "Keep a copy of it in another place: without it nothing can be restored, by nobody."


@command("new", parent="keys", opens=False, options=(argument("file", metavar="FILE"),))
def new_key_file(run: Run, file: str) -> Outcome:  # noqa: ARG001 - every command is handed its run
    """Make a key file, for a repository that is to be made.

    FILE must not exist. 'coffer init --key-file FILE' then makes a repository that it opens.
    """
    path = user_path(file).absolute()
    if not path.parent.is_dir():
        # A misspelt mount point made anew would put the key on the system's own disk.
        raise KeyFileError(f"key file {path}: its folder does not exist", hint="Make the folder, or mount its disk.")
    write_new_key_file(path)
    return Outcome(
        result={"key_file": path_text(str(path))}, lines=[f"key file {path_text(str(path))} was made", _KEEP]
    )


@command("show", parent="keys")
def show_keys(run: Run) -> Outcome:
    """Show the keys that a repository has, and which of them the given key opens.

    Shows kinds and numbers, never a key. Ends with 1 if the given key opens none, or one is damaged.
    """
    place = find_place(run)
    store = open_store(run, place)
    run.closing.callback(store.close)
    unlocker = unlocker_of(run, place, store)
    settings = read_settings(store)
    found = survey_keys(store, settings, unlocker)
    result: dict[str, Any] = {
        "repository_id": settings.repository_id.hex(),
        "opened_by": settings.unlock_kind,
        "keys": [_fields(key) for key in found],
    }
    rows = [
        (key.name, key.kind, key.number or "", key.damage or ("opens" if key.opens else "does not open"))
        for key in found
    ]
    lines = [
        f"repository {settings.repository_id.hex()}, opened by a {settings.unlock_kind}",
        *table(("object", "kind", "epoch", "with the key given"), rows, "llrl"),
    ]
    fault = _fault(found)
    return Outcome(result=result, lines=lines, fault=fault, exit_code=EXIT_FAILED if fault else 0)


COMMAND = click.Group(
    "keys",
    commands=[new_key_file, show_keys],
    help="Make key files, and show which keys a repository has.",
)


def _fields(key: WrappedKey) -> dict[str, Any]:
    return {
        "object": key.name,
        "kind": key.kind or None,
        "epoch": key.number if key.kind == "root" else None,
        "opens": key.opens,
        "damage": key.damage or None,
    }


def _fault(found: list[WrappedKey]) -> Fault | None:
    damaged = [key.damage for key in found if key.damage]
    if damaged:
        return fault_of(ObjectCorruptError(damaged[0]))
    if not any(key.opens for key in found):
        return fault_of(WrongKeyError("the key or passphrase given does not open this repository"))
    return None
