"""What PostgreSQL's programs say becomes an error of the tree."""

import pytest

from coffer.errors_postgres import (
    PostgresAuthError,
    PostgresError,
    PostgresHbaError,
    PostgresUnavailableError,
    PostgresVersionError,
)
from coffer.sources.postgres.program_failures import program_failure, warnings_of

FAILURES = [
    (
        [
            "pg_dump: error: query failed: ERROR:  permission denied for table secret",
            "pg_dump: detail: Query was: LOCK",
        ],
        PostgresError,
    ),
    (["pg_dump: error: aborting because of server version mismatch"], PostgresVersionError),
    (
        ['pg_dump: error: connection to server at "h", port 1 failed: FATAL:  password authentication failed for x'],
        PostgresAuthError,
    ),
    (
        ['psql: error: connection to server at "h" failed: FATAL:  no pg_hba.conf entry for host "h"'],
        PostgresHbaError,
    ),
    (["psql: error: connection to server at 127.0.0.1 failed: Connection refused"], PostgresUnavailableError),
    (["psql:<stdin>:9: ERROR:  canceling statement due to lock timeout"], PostgresUnavailableError),
    (["pg_dump: error: server closed the connection unexpectedly"], PostgresUnavailableError),
    (['psql:<stdin>:9: ERROR:  query would be affected by row-level security policy for table "t"'], PostgresError),
    (["pg_dump: error: something new"], PostgresError),
]


@pytest.mark.parametrize(("lines", "expected"), FAILURES)
def test_a_failure_is_told_by_its_words(lines, expected):
    """The class says whether to try again; the message holds the program's words and the server, not the level."""
    error = program_failure("pg_dump", 1, lines, "db:5432", "database 'x'")
    assert expected is type(error)
    assert "db:5432" in error.message
    assert "ERROR:" not in error.message
    assert "FATAL:" not in error.message


def test_a_program_that_was_killed_is_worth_another_try():
    """A signal, and nothing said: the message tells which."""
    error = program_failure("psql", -9, [], "db:1", "table t")
    assert (PostgresUnavailableError, "postgres db:1: psql of table t: ended by signal 9") == (
        type(error),
        error.message,
    )


def test_a_statement_that_failed_is_named():
    """pg_restore tells the entry and the command; both are in the message, the command in the details as well."""
    lines = [
        "pg_restore: while PROCESSING TOC:",
        "pg_restore: from TOC entry 215; 1259 16400 TABLE accounts owner",
        'pg_restore: error: could not execute query: ERROR:  type "app.mood" does not exist',
        "Command was: CREATE TABLE app.accounts (",
        "    m app.mood",
        ");",
    ]
    error = program_failure("pg_restore", 1, lines, "db:1", "the pre-data section")
    assert 'type "app.mood" does not exist Command was: CREATE TABLE app.accounts ( m app.mood );' in error.message
    assert error.details["statement"].startswith("CREATE TABLE app.accounts")


def test_a_long_complaint_is_cut():
    """Whatever the server says, a message stays readable."""
    error = program_failure("pg_dump", 1, ["pg_dump: error: " + "x" * 100_000], "db:1", "y")
    assert len(error.message) < 1000


def test_warnings_are_joined_with_their_details():
    """A hint belongs to the warning before it; the program's name is left out."""
    lines = [
        "pg_dump: warning: there are circular foreign-key constraints on this table:",
        "pg_dump: detail: a",
        "pg_dump: hint: Consider something.",
        "pg_dump: warning: another",
        "",
    ]
    expected = [
        "there are circular foreign-key constraints on this table:; detail: a; hint: Consider something.",
        "another",
    ]
    assert expected == warnings_of(lines)
