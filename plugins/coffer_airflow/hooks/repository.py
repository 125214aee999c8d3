"""From an Airflow connection, or the policy, to an open repository.

Where the repository is, and what opens it, are asked for apart, the nearest first:

- where: the location that the task names, the connection's folder or location, the policy's first location;
- key: the connection's passphrase or key file, then what the policy refers to.

The connection `coffer_default` need not exist; any other one that a task names must.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from coffer.backends.base import Backend
from coffer.backends.factory import open_backend
from coffer.backends.retry import DEFAULT_RETRY_POLICY, RetryBackend
from coffer.backends.throttle import ThrottledBackend, TokenBucket
from coffer.config.loading import find_policy, load_policy
from coffer.config.unlocking import policy_unlocker, read_passphrase_file
from coffer.crypto.kek import KeyFileUnlocker, PassphraseUnlocker, Unlocker
from coffer.errors import CofferError, UsageError
from coffer.repository.heads import HeadStore
from coffer.repository.repository import Repository
from coffer_airflow.provider import CONNECTION_TYPE

if TYPE_CHECKING:
    from coffer.config.policy import Location, Policy

DEFAULT_CONN_ID = "coffer_default"


class RepositoryHook(BaseHook):
    """Opens the repository that a connection or the policy names.

    Args:
        coffer_conn_id: The connection. `coffer_default` may be absent: then the policy says it all.
        location: Name of a location of the policy; it goes before what the connection says of the place.
    """

    conn_name_attr = "coffer_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONNECTION_TYPE
    hook_name = "Coffer repository"

    def __init__(self, coffer_conn_id: str = DEFAULT_CONN_ID, *, location: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.coffer_conn_id = coffer_conn_id
        self._location = location or None

    # ----------------------------------------------------------------------------------------------- opening

    def get_conn(self) -> Repository:
        """Return the open repository; the caller closes it.

        Raises:
            UsageError: It is not said which one is meant or what opens it, or it is said twice.
            PolicyInvalidError: The policy was asked and has mistakes.
            CofferError: It cannot be opened.
        """
        return self._open(threading.Event())

    @contextmanager
    def opened(self, stop: threading.Event) -> Iterator[Repository]:
        """Open the repository for the length of a `with` block; errors as in `get_conn`.

        Args:
            stop: Once set, every wait for the store (between tries, for a rate limit) ends at once.
        """
        repository = self._open(stop)
        try:
            yield repository
        finally:
            repository.close()

    def test_connection(self) -> tuple[bool, str]:
        """Open the repository and count its snapshots, for the button in the connection's form."""
        try:
            with self.opened(threading.Event()) as repository:
                return True, f"{repository.backend.url}: opened, {len(repository.snapshots())} snapshots"
        except CofferError as error:
            return False, f"{error}. HINT: {error.hint}"

    @cached_property
    def policy(self) -> Policy | None:
        """The policy, or None where there is none and COFFER_POLICY names none.

        Raises:
            PolicyInvalidError: It has mistakes.
        """
        return load_policy() if find_policy().is_file() or os.environ.get("COFFER_POLICY") else None

    def required_policy(self) -> Policy:
        """Return the policy.

        Raises:
            UsageError: There is none.
        """
        if self.policy is None:
            raise UsageError("no policy file", hint="Write config/coffer.yaml, or name a policy by COFFER_POLICY.")
        return self.policy

    @property
    def place(self) -> str:
        """Where the repository is, for people: a location's name, or a folder."""
        where = self._where()
        return where if isinstance(where, str) else where.name

    # ----------------------------------------------------------------------------------------------- where, and key

    @cached_property
    def _connection(self) -> Connection | None:
        try:
            return self.get_connection(self.coffer_conn_id)
        except AirflowNotFoundException:
            if self.coffer_conn_id == DEFAULT_CONN_ID:
                return None
            raise UsageError(
                f"connection {self.coffer_conn_id!r}: does not exist",
                hint=f"Make it under Admin > Connections (type {CONNECTION_TYPE}), or leave the task's coffer_conn_id"
                f" at {DEFAULT_CONN_ID}.",
            ) from None

    def _extra(self, name: str) -> str | None:
        return self._connection.extra_dejson.get(name) or None if self._connection is not None else None

    def _where(self) -> str | Location:
        """Return the folder of the connection, or a location of the policy."""
        named = self._extra("location")
        folder = self._connection.host or None if self._connection is not None else None
        if folder is not None and named is not None:
            raise UsageError(
                f"connection {self.coffer_conn_id!r}: names a folder and a location of the policy",
                hint="Keep one of them.",
            )
        if self._location is None and folder is not None:
            if "://" not in folder and not os.path.isabs(os.path.expanduser(folder)):
                raise UsageError(
                    f"connection {self.coffer_conn_id!r}: folder {folder!r} is relative",
                    hint="Give it from / on: it would count from wherever a worker was started.",
                )
            return folder
        return self._policy_location(self._location or named)

    def _policy_location(self, name: str | None) -> Location:
        policy = self.required_policy()
        if name is None:
            return policy.locations[0]
        try:
            return policy.location(name)
        except KeyError:
            names = ", ".join(location.name for location in policy.locations)
            raise UsageError(f"location {name!r}: the policy has {names}", hint="Give one of these.") from None

    def _unlocker(self) -> Unlocker:
        """Return what opens the repository; a passphrase is masked in all logs from here on."""
        key_file = self._extra("key_file")
        passphrase = self._connection.password if self._connection is not None else None
        if key_file and passphrase:
            raise UsageError(
                f"connection {self.coffer_conn_id!r}: has a passphrase and a key file", hint="Keep one of them."
            )
        if key_file:
            return KeyFileUnlocker.load(Path(key_file).expanduser())
        if passphrase:
            mask_secret(passphrase)
            return PassphraseUnlocker(passphrase)
        if self.policy is not None:
            _mask_passphrase_of(self.policy)
            unlocker = policy_unlocker(self.policy)
            if unlocker is not None:
                return unlocker
        raise UsageError(
            "no key is named",
            hint=f"Give the connection {self.coffer_conn_id!r} a passphrase or a key file, or name one in the policy.",
        )

    # ----------------------------------------------------------------------------------------------- the store

    def _open(self, stop: threading.Event) -> Repository:
        where = self._where()
        unlocker = self._unlocker()
        store = self._store(where if isinstance(where, str) else where.path, stop)
        try:
            return Repository.open(store, unlocker, heads=self._heads())
        except BaseException:
            store.close()
            raise

    def _store(self, folder: str | Path, stop: threading.Event) -> Backend:
        """Open the store with its wrappers: retry around throttle."""
        store = open_backend(folder)
        limit = self.policy.performance.io_limit_bytes_per_s if self.policy is not None else None
        if limit is not None:
            bucket = TokenBucket(limit, sleep=stop.wait)
            store = ThrottledBackend(store, write=bucket, read=bucket)
        return RetryBackend(store, DEFAULT_RETRY_POLICY, sleep=stop.wait)

    def _heads(self) -> HeadStore:
        return HeadStore.default() if self.policy is None else HeadStore(self.policy.state_dir / "heads")


def _mask_passphrase_of(policy: Policy) -> None:
    """Have Airflow mask the policy's passphrase; nothing logs it, and this holds if something ever should."""
    reference = policy.key_reference
    if reference.storage != "passphrase":
        return
    if reference.passphrase_file is not None:
        mask_secret(read_passphrase_file(reference.passphrase_file))
    elif reference.passphrase_env and os.environ.get(reference.passphrase_env):
        mask_secret(os.environ[reference.passphrase_env])
