"""From options, environment and policy to an open repository.

Each is asked in turn, the nearest first, for the location and for the key:

- location: --repo, --location, COFFER_REPOSITORY, the policy's first location;
- key: --key-file or --passphrase-file, COFFER_KEY_FILE, COFFER_PASSPHRASE_FILE, COFFER_PASSPHRASE; then, for a location
  of the policy, what the policy refers to; for another one, the key file that `coffer init` put beside it; and last the
  terminal, where someone sits at it.

A passphrase is never an argument: those can be read by every user of the machine.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coffer.backends.base import Backend
from coffer.backends.factory import open_backend, parse_local_location
from coffer.backends.metering import MeteringBackend
from coffer.backends.retry import DEFAULT_RETRY_POLICY, RetryBackend
from coffer.cli.paths import user_path
from coffer.cli.run import Run
from coffer.config.unlocking import policy_unlocker, read_passphrase_file
from coffer.crypto.kek import KIND_PASSPHRASE, KeyFileUnlocker, PassphraseUnlocker, Unlocker
from coffer.errors import BackendLocationError, PolicyInvalidError, UsageError
from coffer.repository.heads import HeadStore
from coffer.repository.repository import Repository
from coffer.repository.settings import read_settings

if TYPE_CHECKING:
    from coffer.config.policy import Policy

_NO_KEY_HINT = (
    "Give --key-file or set COFFER_KEY_FILE; for a passphrase, --passphrase-file, COFFER_PASSPHRASE_FILE or"
    " COFFER_PASSPHRASE, or run it on a terminal."
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a repository is.

    Attributes:
        location: A folder, or file:///folder.
        policy: The policy that named it, else None.
    """

    location: str | Path
    policy: Policy | None = None

    @property
    def folder(self) -> Path:
        """The folder on this machine."""
        return Path(os.path.abspath(parse_local_location(self.location)))


def find_place(run: Run) -> Place:
    """Return the location that is meant.

    Raises:
        UsageError: None is named anywhere, or the policy has none of that name.
        PolicyInvalidError: The policy was asked and has mistakes.
    """
    where = run.where
    if where.get("repo") and where.get("location"):
        raise UsageError("--repo and --location: both are given", hint="Give one of them.")
    if where.get("location"):
        policy = run.load_policy()
        try:
            return Place(policy.location(where["location"]).path, policy)
        except KeyError:
            names = ", ".join(location.name for location in policy.locations)
            raise UsageError(
                f"location {where['location']!r}: the policy has {names}", hint="Give one of these."
            ) from None
    given = where.get("repo") or os.environ.get("COFFER_REPOSITORY")
    if given == "":
        # Taken as unset it would mean the policy's repository, and a backup or restore would go to another one unasked.
        raise UsageError("COFFER_REPOSITORY: is set and empty", hint="Unset it, or give --repo.")
    if given:
        return Place(given)
    if not _has_policy():
        raise UsageError(
            "no repository is named", hint="Give --repo, or set COFFER_REPOSITORY, or write a policy (COFFER_POLICY)."
        )
    policy = run.load_policy()
    return Place(policy.locations[0].path, policy)


def _has_policy() -> bool:
    from coffer.config.loading import find_policy

    return bool(os.environ.get("COFFER_POLICY")) or find_policy().is_file()


def open_store(run: Run, place: Place, *, create: bool = False) -> Backend:
    """Open the store at a place, with its wrappers: retry around throttle around metering.

    A stop by a signal ends every wait at once.

    Raises:
        BackendLocationError, BackendAccessError: It cannot be opened.
    """
    run.meter = MeteringBackend(open_backend(place.location, create=create))
    store: Backend = run.meter
    limit = run.io_limit_bytes_per_s
    if limit is None and run.policy is not None:
        limit = run.policy.performance.io_limit_bytes_per_s
    if limit is not None:
        from coffer.backends.throttle import ThrottledBackend, TokenBucket

        bucket = TokenBucket(limit, sleep=run.stop.wait)
        store = ThrottledBackend(store, write=bucket, read=bucket)
    return RetryBackend(store, DEFAULT_RETRY_POLICY, sleep=run.stop.wait)


def open_repository(run: Run) -> Repository:
    """Open the repository that is meant.

    Raises:
        UsageError: It is not said which, or with what key.
        CofferError: It cannot be opened.
    """
    place = find_place(run)
    try:
        store = open_store(run, place)
    except BackendLocationError as error:
        if _is_a_location_of_the_policy(run, place):
            error.hint = f"The policy has a location of that name: give --location {place.location} instead of --repo."
        raise
    try:
        return Repository.open(store, unlocker_of(run, place, store), heads=head_store(place))
    except BaseException:
        store.close()
        raise


def _is_a_location_of_the_policy(run: Run, place: Place) -> bool:
    """Say whether a folder that cannot be opened was written as a word that is the name of one of the policy's."""
    if place.policy is not None or "/" in str(place.location) or not _has_policy():
        return False
    try:
        return any(location.name == place.location for location in run.load_policy().locations)
    except PolicyInvalidError:
        return False  # a broken policy is not what the user asked about


def unlocker_of(run: Run, place: Place, store: Backend) -> Unlocker:
    """Return what opens the repository at a place: as given, as implied by the place, or as typed in.

    Raises:
        KeyFileError: The key file or passphrase file cannot be used.
        NotARepositoryError: There is no repository to ask a passphrase for.
        UsageError: Nothing is given, and nobody can be asked.
    """
    return given_unlocker(run.where) or _implied_unlocker(place) or _ask(store, place)


def head_store(place: Place) -> HeadStore:
    """Return where the newest snapshots are remembered: COFFER_STATE_DIR, else the policy's state folder."""
    if place.policy is not None and not os.environ.get("COFFER_STATE_DIR"):
        return HeadStore(place.policy.state_dir / "heads")
    return HeadStore.default()


def given_key_file(where: dict[str, Any]) -> Path | None:
    """Return the key file that an option or, without any, the environment names."""
    if where.get("key_file") and where.get("passphrase_file"):
        raise UsageError("--key-file and --passphrase-file: both are given", hint="Give one of them.")
    if where.get("passphrase_file"):
        return None
    named = where.get("key_file") or os.environ.get("COFFER_KEY_FILE")
    return user_path(named) if named else None


def given_passphrase(where: dict[str, Any]) -> str | None:
    """Return the passphrase that an option or the environment gives."""
    named = where.get("passphrase_file") or os.environ.get("COFFER_PASSPHRASE_FILE")
    if named:
        return read_passphrase_file(user_path(named))
    return os.environ.get("COFFER_PASSPHRASE") or None


def given_unlocker(where: dict[str, Any]) -> Unlocker | None:
    """Return what opens the repository, as options or environment give it, or None.

    Raises:
        KeyFileError: The file named cannot be used.
    """
    key_file = given_key_file(where)
    if key_file is not None:
        return KeyFileUnlocker.load(key_file)
    passphrase = given_passphrase(where)
    return PassphraseUnlocker(passphrase) if passphrase is not None else None


def key_file_beside(folder: Path) -> Path:
    """Return where `coffer init` puts the key of a repository: beside the folder, never inside."""
    return folder.with_name(folder.name + ".key")


def _implied_unlocker(place: Place) -> Unlocker | None:
    if place.policy is not None:
        return policy_unlocker(place.policy)
    beside = key_file_beside(place.folder)
    return KeyFileUnlocker.load(beside) if beside.is_file() else None


def _ask(store: Backend, place: Place) -> Unlocker:
    """Ask on the terminal for the passphrase of a repository that is opened by one."""
    kind = read_settings(store).unlock_kind
    if kind != KIND_PASSPHRASE:
        raise UsageError(f"{store.url}: no key file is named", hint=_NO_KEY_HINT)
    if not sys.stdin.isatty():
        raise UsageError(f"{store.url}: no passphrase is given", hint=_NO_KEY_HINT)
    return PassphraseUnlocker(ask_passphrase(f"Passphrase of {place.folder}: "))


def ask_passphrase(prompt: str) -> str:
    """Ask on the terminal, without echo."""
    from getpass import getpass

    from coffer.cli.text import escape

    return getpass(escape(prompt), stream=sys.stderr)
