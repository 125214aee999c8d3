"""`coffer init`: a new repository, and its key."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from coffer.backends.base import Backend
from coffer.backends.folders import FOREIGN_NAMES
from coffer.chunking.cutter import ChunkParams
from coffer.cli.command import argument, command, flag
from coffer.cli.opening import (
    Place,
    ask_passphrase,
    find_place,
    given_key_file,
    given_passphrase,
    head_store,
    key_file_beside,
    open_store,
)
from coffer.cli.outcome import Outcome
from coffer.cli.run import Run
from coffer.cli.text import path_text
from coffer.config.unlocking import policy_unlocker
from coffer.crypto.kek import KeyFileUnlocker, PassphraseUnlocker, Unlocker, write_new_key_file
from coffer.errors import BackendAccessError, BackendLocationError, KeyFileError, RepositoryExistsError, UsageError
from coffer.repository.repository import Repository
from coffer.repository.settings import NAME as SETTINGS_NAME

if TYPE_CHECKING:
    from coffer.config.policy import Policy

_KEEP_KEY = "Keep a copy of it in another place: without it nothing can be restored, by nobody."
_KEEP_PASSPHRASE = "Keep the passphrase in another place as well: without it nothing can be restored, by nobody."  # noqa: S105 - says to keep it


_SAME_DISK = (
    "Note that it lies on the same disk as the repository: who takes that disk can read all, and if it dies the key"
    " dies too."
)


class _Key(NamedTuple):
    """What will open the repository.

    Attributes:
        unlocker: It itself.
        file: The key file, else None.
        is_new: Whether this run made that file.
    """

    unlocker: Unlocker
    file: Path | None = None
    is_new: bool = False


@command(
    "init",
    options=(
        argument("repository", metavar="[REPO]", required=False),
        flag("--passphrase", help="Ask for a passphrase on the terminal, and make no key file."),
    ),
)
def make_repository(run: Run, repository: str | None, passphrase: bool) -> Outcome:
    """Make a new repository.

    REPO is a folder that is new or empty; the same as --repo. It is opened by a key file, which is made where there is
    none: the one of --key-file or COFFER_KEY_FILE, that of the policy for a location of the policy, else REPO.key
    beside the folder. Or by a passphrase: --passphrase-file, COFFER_PASSPHRASE_FILE, COFFER_PASSPHRASE, or
    --passphrase. A passphrase that is blank or shorter than 8 characters is refused.
    """
    if repository is not None:
        if run.where.get("repo") or run.where.get("location"):
            raise UsageError("REPO and --repo or --location: both are given", hint="Give one of them.")
        run.where["repo"] = repository
    place = find_place(run)
    _require_empty(place.folder)
    _require_rights(place.folder, "make the repository there")
    key = _key(run, place, ask=passphrase)
    try:
        made = _create(run, place, key)
    except BaseException:
        _withdraw(key, place)
        raise
    on_same_disk = key.file is not None and share_a_disk(key.file, place.folder)
    result: dict[str, Any] = {
        "repository": path_text(str(place.folder)),
        "repository_id": made.id.hex(),
        "opened_by": key.unlocker.kind,
        "key_file": path_text(str(key.file)) if key.file else None,
        "key_file_is_new": key.is_new,
        "key_on_same_disk": on_same_disk,
    }
    lines = [f"repository {made.id.hex()} was made in {path_text(str(place.folder))}"]
    if key.file is None:
        lines.append(_KEEP_PASSPHRASE)
    else:
        lines += [f"key file: {path_text(str(key.file))}" + (" (new)" if key.is_new else ""), _KEEP_KEY]
    if on_same_disk:
        lines.append(_SAME_DISK)
    return Outcome(result=result, lines=lines)


COMMAND = make_repository


def share_a_disk(one: Path, other: Path) -> bool:
    """Say whether two places are on the same file system."""
    return os.stat(one).st_dev == os.stat(other).st_dev


def _require_empty(folder: Path) -> None:
    """Refuse a folder that holds anything; nothing was changed."""
    try:
        names = set(os.listdir(folder)) - FOREIGN_NAMES
    except FileNotFoundError:
        return
    except OSError:
        return  # opening the store says what is wrong
    if SETTINGS_NAME in names or "keys" in names:
        raise RepositoryExistsError(f"folder {folder}: holds a repository, or the remains of an unfinished init")
    if names - {".tmp"}:
        raise BackendLocationError(
            f"folder {folder}: is not empty", hint="Choose a new or an empty folder. Nothing was changed."
        )


_RIGHTS = ((os.R_OK, "read"), (os.W_OK, "write"), (os.X_OK, "enter"))


def _require_rights(wanted: Path, purpose: str) -> None:
    """Refuse where the folder, or the nearest above it that is there, lacks a right; said before anything is made.

    Raises:
        BackendAccessError: A right is missing; the message names the folder and the rights.
    """
    folder = next(path for path in (wanted, *wanted.parents) if os.path.lexists(path))
    # Of folders above only the entries are made: to list them is not needed.
    needed = _RIGHTS if folder == wanted else _RIGHTS[1:]
    missing = [word for right, word in needed if not os.access(folder, right)]
    if folder.is_dir() and missing:
        rights = " and ".join(missing)
        raise BackendAccessError(
            f"folder {folder}: you have no right to {rights} it",
            hint=f"To {purpose}, user {os.geteuid()} needs the right to {rights} {folder}: give it (chmod, chown), or"
            " choose another folder. On a disk that is mounted read-only nobody has it.",
        )


def _key(run: Run, place: Place, *, ask: bool) -> _Key:
    """Return the key as options, environment and policy say, in this order; a key file is made where there is none."""
    if ask:
        if run.where.get("key_file") or run.where.get("passphrase_file"):
            raise UsageError("--passphrase and a file: both are given", hint="Give one of them.")
        return _Key(_new_passphrase(place))
    named = given_key_file(run.where)
    if named is not None:
        return _key_file(named, place)
    passphrase = given_passphrase(run.where)
    if passphrase is None and "COFFER_PASSPHRASE" in os.environ:
        # Taken as unset it would mean a key file, and whoever set it would have only a passphrase to keep.
        raise KeyFileError("COFFER_PASSPHRASE: is set and empty", hint="Unset it, or set it to several words.")
    if passphrase is not None:
        return _Key(_fit(PassphraseUnlocker(passphrase)))
    if place.policy is None:
        return _key_file(key_file_beside(place.folder), place)
    if place.policy.key_reference.storage == "key_file":
        return _key_file(place.policy.key_reference.key_file, place)
    from_policy = policy_unlocker(place.policy)
    return _Key(_new_passphrase(place) if from_policy is None else _fit(from_policy))


def _fit(unlocker: Unlocker) -> Unlocker:
    """Return it if a new repository may be opened by it; a passphrase may be too weak."""
    if isinstance(unlocker, PassphraseUnlocker):
        unlocker.require_fit_for_new()
    return unlocker


def _key_file(path: Path, place: Place) -> _Key:
    path = Path(os.path.abspath(path))
    inside, folder = os.path.realpath(path), os.path.realpath(place.folder)
    if inside == folder or inside.startswith(folder.rstrip("/") + "/"):
        raise UsageError(
            f"key file {path}: lies inside the repository",
            hint="A key beside the data it opens protects nothing. Name a file elsewhere.",
        )
    if os.path.lexists(path):
        return _Key(KeyFileUnlocker.load(path), path)
    _require_rights(path.parent, f"write the key file {path}")
    return _Key(write_new_key_file(path), path, is_new=True)


def _new_passphrase(place: Place) -> Unlocker:
    if not sys.stdin.isatty():
        raise UsageError(
            "no passphrase is given, and there is no terminal to ask on",
            hint="Give --passphrase-file, or set COFFER_PASSPHRASE_FILE or COFFER_PASSPHRASE.",
        )
    first = ask_passphrase(f"New passphrase of {place.folder}: ")
    unlocker = _fit(PassphraseUnlocker(first))
    if first != ask_passphrase("The same again: "):
        raise UsageError("the two passphrases differ", hint="Run the command again.")
    return unlocker


def _create(run: Run, place: Place, key: _Key) -> Repository:
    store: Backend = open_store(run, place, create=True)
    run.closing.callback(store.close)
    return Repository.create(
        store, key.unlocker, chunking=_chunking(place.policy) if place.policy else None, heads=head_store(place)
    )


def _chunking(policy: Policy) -> ChunkParams:
    """Return how content is cut: what the policy calls block_size is the average, within a quarter and four times."""
    method, block_size_bytes = policy.dedup
    return ChunkParams(
        method=method, min_bytes=block_size_bytes // 4, avg_bytes=block_size_bytes, max_bytes=block_size_bytes * 4
    )


def _withdraw(key: _Key, place: Place) -> None:
    """Remove a fresh key file after a failure, if it is sure that it opens nothing."""
    if key.file is None or not key.is_new:
        return
    try:
        os.lstat(place.folder / SETTINGS_NAME)
    except (FileNotFoundError, NotADirectoryError):
        key.file.unlink(missing_ok=True)
    except OSError:
        pass  # the disk does not answer: coffer.json may be there after all
