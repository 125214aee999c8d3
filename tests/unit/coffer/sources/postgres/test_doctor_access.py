"""The way to the server: each check both ways."""

from __future__ import annotations

import pytest

from coffer.errors_postgres import PostgresHbaError, PostgresReplicationDeniedError
from coffer.sources.postgres.diagnosis import Asked, Verdict
from coffer.sources.postgres.doctor_access import (
    check_databases,
    check_replication,
    check_role,
    check_tls,
    check_version,
)
from tests.harness.server_facts import sound_server

ASKED = Asked("coffer_primary", dbnames=("postgres", "audit"))


def test_a_version_that_was_not_tried_is_a_warning():
    """18 is the newest that was; a newer one may well work, and must be proved."""
    assert Verdict.OK is check_version(sound_server(version=180006), ASKED).verdict
    assert Verdict.WARN is check_version(sound_server(version=190000, version_text="19.0"), ASKED).verdict


@pytest.mark.parametrize(
    ("tls", "local", "expected"),
    [
        ("TLSv1.3", False, "ok"),
        ("TLSv1.2", False, "fail"),
        ("", False, "fail"),
        ("", True, "ok"),
        ("TLSv1.2", True, "ok"),
    ],
)
def test_what_leaves_the_machine_takes_the_newest_tls(tls, local, expected):
    """Only on this machine may a connection have an older TLS, or none."""
    assert expected == check_tls(sound_server(tls=tls, is_local=local), ASKED).verdict.value


def test_a_role_needs_replication_and_no_more():
    """Without it no backup; a superuser works, and is more than is needed. The hint names the role."""
    without = check_role(sound_server(may_replicate=False), ASKED)
    assert (Verdict.FAIL, 'As a superuser of the server: ALTER ROLE "backup" REPLICATION;') == (
        without.verdict,
        without.hint,
    )
    assert Verdict.WARN is check_role(sound_server(is_superuser=True), ASKED).verdict
    assert Verdict.OK is check_role(sound_server(), ASKED).verdict


def test_a_replication_connection_has_a_line_of_its_own_in_pg_hba():
    """Where it is missing the hint is that line, for a socket without an address."""
    assert Verdict.OK is check_replication(sound_server(), ASKED).verdict
    refused = check_replication(sound_server(identity=PostgresHbaError("no entry")), ASKED)
    assert (Verdict.FAIL, True) == (
        refused.verdict,
        refused.hint.endswith("host replication backup <address of this machine>/32 scram-sha-256"),
    )
    by_socket = sound_server(identity=PostgresHbaError("no entry"), label="/run/postgresql:5432")
    assert check_replication(by_socket, ASKED).hint.endswith("local replication backup scram-sha-256")


def test_another_refusal_of_replication_keeps_its_own_hint():
    """What the error tree says of it."""
    error = PostgresReplicationDeniedError("postgres db1:5432: no")
    found = check_replication(sound_server(identity=error), ASKED)
    assert (Verdict.FAIL, "postgres db1:5432: no", error.hint) == (found.verdict, found.found, found.hint)


def test_a_database_that_is_not_there_is_told_with_those_that_are():
    """A name of the policy that the server does not have is mostly the wrong server."""
    assert Verdict.OK is check_databases(sound_server(), ASKED).verdict
    found = check_databases(sound_server(database_names=("postgres",)), ASKED)
    assert (Verdict.FAIL, "there is no database audit") == (found.verdict, found.found)
    assert "It has postgres." in found.hint
