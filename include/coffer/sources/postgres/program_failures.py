"""What PostgreSQL's programs say when they fail, in the words of the project's error tree."""

from __future__ import annotations

import re
from collections.abc import Sequence

import psycopg2

from coffer.errors import CofferError
from coffer.errors_postgres import PostgresError, PostgresUnavailableError, PostgresVersionError
from coffer.sources.postgres.failures import MAX_TEXT, translate

_LINES = 6  # of standard error that a message holds
_ERROR = re.compile(r"\b(error|ERROR|FATAL):")
# "pg_dump: error: ", "/usr/bin/psql:<stdin>:12: ERROR:  42P01: "
_PREFIX = re.compile(r"^\S*?(?:pg_\w+|psql(?::<stdin>:\d+)?): (?:error: |(?=ERROR|FATAL|\w))")
# Its last words, where the connection is what failed: `failures` knows them.
_CONNECTION = re.compile(r"connection to server|could not connect|could not translate host name|no password supplied")
_BROKEN = re.compile(r"server closed the connection|terminating connection|connection (not open|reset)|SSL SYSCALL")
_LOCKED = re.compile(r"lock timeout|statement timeout|could not obtain lock")
_RIGHTS = re.compile(r"permission denied|must be (super|owner)|row-level security|insufficient privilege")
_VERSION = re.compile(r"server version mismatch|unsupported version \(")
_COMMAND = re.compile(r"Command was: (.*)", re.DOTALL)

_RIGHTS_HINT = (
    "Run as a superuser of the server: GRANT pg_read_all_data TO <role>, and BYPASSRLS for tables with policies."
)
_VERSION_HINT = "Install client programs that are not older than the server, or name their folder in COFFER_PG_BIN."
_LOCKED_HINT = "Somebody changes or drops tables: run it again when that is done, or leave them out."


def program_failure(name: str, code: int, lines: Sequence[str], label: str, what: str) -> CofferError:
    """Return the error of a program that failed.

    Args:
        name: Of the program.
        code: That it ended with; negative for a signal.
        lines: Its standard error.
        label: The server, as messages name it.
        what: What it was to do, for people.
    """
    said = "\n".join(lines)
    text = _shorten(lines) or (f"ended by signal {-code}" if code < 0 else f"ended with {code}")
    message = f"postgres {label}: {name} of {what}: {text}"
    if _CONNECTION.search(said):
        return translate(psycopg2.OperationalError(text), label)
    if _VERSION.search(said):
        return PostgresVersionError(message, hint=_VERSION_HINT)
    if _LOCKED.search(said):
        return PostgresUnavailableError(message, hint=_LOCKED_HINT)
    if _BROKEN.search(said) or code < 0:
        return PostgresUnavailableError(message)
    if _RIGHTS.search(said):
        return PostgresError(message, hint=_RIGHTS_HINT)
    statement = _COMMAND.search(said)
    details = {"statement": statement[1].strip()[:MAX_TEXT]} if statement else {}
    return PostgresError(message, **details)


def _shorten(lines: Sequence[str]) -> str:
    """Return the lines from the first error on as one: no name of the program, no level, no final period."""
    told = [line for line in lines if line.strip()]
    first = next((at for at, line in enumerate(told) if _ERROR.search(line)), max(len(told) - _LINES, 0))
    kept = [_PREFIX.sub("", line) for line in told[first : first + _LINES]]
    text = " ".join(" ".join(line.split()) for line in kept)
    return re.sub(r"\b(FATAL|ERROR): +", "", text)[:MAX_TEXT].rstrip(".")


def warnings_of(lines: Sequence[str]) -> list[str]:
    """Return what a program warned of though it succeeded: its lines, without its own name."""
    found: list[str] = []
    for line in lines:
        text = _PREFIX.sub("", line).strip()
        if found and re.match(r"(detail|hint): ", text):
            found[-1] += f"; {text}"  # belongs to the warning before it
        elif text:
            found.append(text.removeprefix("warning: "))
    return found
