"""What PostgreSQL and libpq say when something fails, in the words of the project's error tree.

psycopg2 gives no SQLSTATE for a connection that was not made, so these are told by their text. A server whose
`lc_messages` is not English is then reported as unavailable, with its own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2

from coffer.errors import CofferError, InterruptedRunError
from coffer.errors_postgres import (
    PostgresAuthError,
    PostgresError,
    PostgresHbaError,
    PostgresIncrementalRefusedError,
    PostgresReplicationDeniedError,
    PostgresSettingError,
    PostgresSlotBusyError,
    PostgresSlotLostError,
    PostgresTimelineError,
    PostgresUnavailableError,
    WalGapError,
)

MAX_TEXT = 600  # [characters] of a server's message that are kept


@dataclass(frozen=True, slots=True)
class _Rule:
    """A failure that is recognised: by its words, and by its SQLSTATE (or the first two digits) where it has one."""

    cls: type[CofferError]
    words: str = ""
    states: tuple[str, ...] = ()
    hint: str | None = None

    def fits(self, state: str | None, text: str) -> bool:
        known = not self.states or (state is not None and state.startswith(self.states))
        return known and (not self.words or re.search(self.words, text) is not None)


_NO_SENDER = "Raise max_wal_senders on the server (a restart is needed); a backup takes one, receiving WAL another."
_NO_REPLICA = "Set wal_level = replica and max_wal_senders = 10 in postgresql.conf, and restart the server."
_NO_SLOT_LEFT = (
    "Raise max_replication_slots (a restart is needed), or drop a slot of pg_replication_slots that is unused."
)
_NO_TLS = (
    "Switch TLS on at the server (ssl = on, TLS 1.3), or name sslmode in the connection if the network is trusted."
)
_SLOW = "The receiver was away for longer than wal_sender_timeout. Run again: it goes on from what was saved."
_FULL_SERVER = "Raise max_connections on the server, or wait until other clients have gone."
_GRANT = "Grant the role what the message names; pg_monitor is enough for every check."

# The first that fits counts: the special before the general.
_RULES = (
    # connecting
    _Rule(PostgresHbaError, r"no pg_hba\.conf entry|pg_hba\.conf rejects"),
    _Rule(
        PostgresAuthError,
        r"authentication failed|no password supplied|role .* does not exist|not permitted to log in",
    ),
    _Rule(PostgresReplicationDeniedError, r"replication role to start walsender|denied to start WAL sender"),
    _Rule(PostgresReplicationDeniedError, r"replication role to use replication slots|denied to use replication slots"),
    _Rule(PostgresSettingError, r"exceeds \"?max_wal_senders\"? \(currently 0\)", hint=_NO_REPLICA),
    _Rule(PostgresUnavailableError, r"exceeds \"?max_wal_senders", hint=_NO_SENDER),
    _Rule(PostgresUnavailableError, r"too many (clients|connections)|remaining connection slots", hint=_FULL_SERVER),
    _Rule(
        PostgresSettingError,
        r"does not support SSL|SSL error|certificate verify failed|root certificate file",
        hint=_NO_TLS,
    ),
    _Rule(
        PostgresError, r'FATAL: .*database ".*" does not exist', hint="Name an existing database; 'postgres' is one."
    ),
    # slots and WAL
    _Rule(PostgresSlotBusyError, states=("55006",)),
    _Rule(PostgresSettingError, r"all replication slots are in use", hint=_NO_SLOT_LEFT),
    _Rule(PostgresSettingError, r"replication slots can only be used if", hint=_NO_REPLICA),
    _Rule(PostgresSlotLostError, r"replication slot .* does not exist"),
    _Rule(PostgresSlotLostError, r"can no longer (access|get changes from) replication slot|cannot be advanced"),
    _Rule(WalGapError, r"requested WAL segment .* has already been removed"),
    _Rule(PostgresTimelineError, r"is not in this server's history|is ahead of the WAL flush position"),
    _Rule(PostgresUnavailableError, r"PGRES_COPY_BOTH and no message", hint=_SLOW),
    # native incremental backups: every reason has the same way out
    _Rule(
        PostgresIncrementalRefusedError,
        r"(?i)incremental (base )?backup|backup manifest|WAL summar|manifest (requires|checksum)|UPLOAD_MANIFEST",
    ),
    # the rest, by SQLSTATE
    _Rule(InterruptedRunError, states=("57014",)),
    _Rule(PostgresUnavailableError, states=("08", "53", "57P", "58030")),
    _Rule(PostgresError, states=("42501",), hint=_GRANT),
)


def translate(error: psycopg2.Error, label: str, **details: Any) -> CofferError:
    """Return the error of the tree that says the same.

    Args:
        error: From psycopg2, of any phase.
        label: The cluster, as messages name it.
        **details: Facts for programs, kept with the error.
    """
    state: str | None = error.pgcode
    text = _in_one_line(str(error))
    message = f"postgres {label}: {_without_prefix(text)}"
    if state:
        details["sqlstate"] = state
    for rule in _RULES:
        if rule.fits(state, text):
            return rule.cls(message, hint=rule.hint, **details)
    if state is None and isinstance(
        error, (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.DatabaseError)
    ):
        return PostgresUnavailableError(message, **details)  # no answer of the server: the connection itself failed
    return PostgresError(message, **details)


def _in_one_line(text: str) -> str:
    """Return the message without line breaks; a hostile or broken server cannot make it long."""
    return " ".join(text.split())[:MAX_TEXT]


def _without_prefix(text: str) -> str:
    """Return the server's words as the house writes them: no level, no final period, and no first line of libpq's."""
    bare = re.sub(r"connection to server (at|on socket) .*? failed: ", "", text)
    return re.sub(r"\b(FATAL|ERROR): +", "", bare).rstrip(".") or "no reason given"


@contextmanager
def server_errors(label: str, **details: Any) -> Iterator[None]:
    """Raise what psycopg2 raises inside as the error of the tree that says the same."""
    try:
        yield
    except psycopg2.Error as error:
        raise translate(error, label, **details) from error
