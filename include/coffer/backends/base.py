"""The store contract: where a repository's objects live.

An object is a name and bytes. It is put once, whole, and never changed (invariant I1); it may be read in ranges, listed
and deleted. Every backend and every wrapper passes the one suite in ``tests/contract``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from coffer.errors import ObjectNameInvalidError

Buffer = bytes | bytearray | memoryview

# 1-4 levels. Lower-case letters and digits keep two names apart on file systems that fold case; no leading dot keeps
# out `..`, hidden files and our own temporaries; no level is empty. [levels of 1-128 characters]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}(?:/[a-z0-9][a-z0-9._-]{0,127}){0,3}")
# A listing prefix is a name cut anywhere, or nothing.
_PREFIX = re.compile(r"(?:[a-z0-9][a-z0-9._-]{0,127}(?:/[a-z0-9][a-z0-9._-]{0,127}){0,3}/?)?")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of one object.

    Attributes:
        name: The object's full name.
        size_bytes: Its length [bytes].
        modified_ns: When the *store* says it was put, by the store's own clock [ns since the Unix epoch].
    """

    name: str
    size_bytes: int
    modified_ns: int


@runtime_checkable
class Backend(Protocol):
    """A flat, write-once object store.

    No object's name is a level of another's (``a`` beside ``a/b``): callers see to that, and a store that keeps levels
    as folders refuses such a put with `ObjectNameInvalidError`.

    Thread safety: every method may be called from several threads at once. Errors are `coffer.errors` only: transient
    ones (`BackendUnavailableError`, `BackendFullError`) may be tried again, the call being idempotent; the rest are
    permanent. Retrying, throttling and metering are wrappers with this same interface; no backend does them itself.
    """

    @property
    def url(self) -> str:
        """Say where the store is, without credentials, for messages."""
        ...

    def put(self, name: str, parts: Sequence[Buffer]) -> None:
        """Store the concatenation of `parts` under a name that is not taken.

        On return the object is durable (file and directory fsynced, or the store's checksum compared). The object is
        seen whole or not at all, whatever happens. `parts` are read during the call only, possibly several times.

        Exactly one of several concurrent puts of one name succeeds.

        Raises:
            ObjectExistsError: The name is taken; the object there is untouched, whatever its content.
            ObjectNameInvalidError, BackendAccessError: Nothing was stored.
            BackendFullError: Nothing was stored under the name.
            BackendUnavailableError: The object may have been stored whole (a lost reply), or not at all.
        """
        ...

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return `length` bytes from `offset` on, or all from there to the end where `length` is None.

        Raises:
            ObjectNotFoundError: No such object.
            ShortReadError: The object ends before ``offset + length``, or before `offset`; no partial data is returned.
            ValueError: `offset` or `length` is negative.
            BackendUnavailableError, BackendAccessError: Nothing was read.
        """
        ...

    def stat(self, name: str) -> ObjectInfo:
        """Return size and time of one object.

        Raises:
            ObjectNotFoundError: No such object.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with `prefix`, once each, sorted by name.

        Temporaries of unfinished puts are never yielded. Objects put or deleted meanwhile may or may not be. A wrong
        prefix is reported by the call; what is found wrong in the store, when the iteration comes to it.

        Raises:
            ObjectNameInvalidError: The prefix, or a name found in the store, is outside the alphabet.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove one object; on return the removal is durable. Removing what is not there is no error (idempotent)."""
        ...

    def close(self) -> None:
        """Release connections and handles; idempotent. No other method may be called afterwards."""
        ...


def validate_name(name: str) -> str:
    """Return `name` if it is in the store's alphabet; used before storing and on every name a store lists.

    Raises:
        ObjectNameInvalidError: It is not.
    """
    if _NAME.fullmatch(name) is None:
        raise ObjectNameInvalidError(
            f"object name {name[:200]!r}: not of the form level/level in [a-z0-9._-]", name=name[:200]
        )
    return name


def validate_prefix(prefix: str) -> str:
    """Return `prefix` if some valid name can start with it.

    Raises:
        ObjectNameInvalidError: None can.
    """
    if _PREFIX.fullmatch(prefix) is None:
        raise ObjectNameInvalidError(f"listing prefix {prefix[:200]!r}: not of the form level/level in [a-z0-9._-]")
    return prefix
