"""The whole examination, of real servers: each that is wrong in one way is told so, with a hint."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coffer.sources.postgres.connection import PostgresConnection
from coffer.sources.postgres.diagnosis import Asked, Verdict
from coffer.sources.postgres.doctor import CHECKS, examine
from tests.harness.postgres import free_port, wait_for
from tests.harness.server_facts import sound_server

pytestmark = pytest.mark.postgres
ASKED = Asked("coffer_test", dbnames=("postgres",))


def verdicts(examination):
    """Check -> verdict."""
    return {diagnosis.check: diagnosis.verdict.value for diagnosis in examination.diagnoses}


def worse(examination):
    """Check -> verdict of what is not well."""
    return {check: verdict for check, verdict in verdicts(examination).items() if verdict != "ok"}


def of_check(examination, check):
    """The one diagnosis of a check."""
    (found,) = [diagnosis for diagnosis in examination.diagnoses if diagnosis.check == check]
    return found


def test_a_server_with_defaults_has_one_thing_to_take_care_of(server):
    """A slot may fill its disk: PostgreSQL's default has no limit."""
    found = examine(server.connection(), ASKED)
    assert {"max_slot_wal_keep_size": "warn"} == worse(found)
    assert (Verdict.WARN, server.connection().label) == (found.verdict, found.label)


def test_a_server_that_is_set_up_as_the_documentation_says_is_well(servers):
    """No warning is left."""
    server = servers.start(max_slot_wal_keep_size="1GB")
    assert {} == worse(examine(server.connection(), ASKED))


def test_every_finding_that_is_not_well_says_what_to_do():
    """A hint each, and none where all is well."""
    sound = sound_server(slots={}, database_names=("postgres",))
    for facts in (sound, replace(sound, may_replicate=False, tls="", senders=10, is_standby=True, version=190000)):
        for check in CHECKS:
            found = check(facts, Asked("coffer_test", "native", ("audit",)))
            assert found is None or bool(found.hint) == (found.verdict is not Verdict.OK), found


def test_a_server_that_cannot_be_reached_is_one_finding():
    """No traceback: what failed, and a hint."""
    found = examine(PostgresConnection("127.0.0.1", free_port(), "backup"), ASKED)
    assert {"reachable": "fail"} == verdicts(found)
    assert found.facts is None
    assert found.diagnoses[0].hint


def test_a_wrong_password_is_one_finding(server):
    """The password is nowhere in it."""
    found = examine(server.connection(password="another one"), ASKED)
    assert {"reachable": "fail"} == verdicts(found)
    assert "another one" not in str(found)


def test_a_version_that_is_too_old_is_one_finding(server, monkeypatch):
    """It was reached, and that is all."""
    monkeypatch.setattr("coffer.sources.postgres.server_facts.OLDEST_VERSION", 990000)
    assert {"reachable": "ok", "version": "fail"} == verdicts(examine(server.connection(), ASKED))


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("plain", {"role": "fail", "replication": "fail", "config_files": "warn"}),
        ("outsider", {"replication": "fail", "config_files": "warn"}),
    ],
)
def test_a_role_that_may_not_replicate_is_told_what_it_lacks(server, user, expected):
    """REPLICATION, or a line of pg_hba.conf; and pg_monitor, to see where the server's files are."""
    found = worse(examine(server.connection(user=user), ASKED))
    assert {**expected, "max_slot_wal_keep_size": "warn"} == found


def test_a_database_that_is_not_there_is_told(server):
    """The connection is made to another one."""
    found = examine(server.connection(), Asked("coffer_test", dbnames=("postgres", "nowhere")))
    assert "fail" == worse(found)["databases"]


def test_a_server_without_what_wal_needs_fails(servers):
    """wal_level minimal and no WAL senders: no replication connection either."""
    server = servers.start(wal_level="minimal", max_wal_senders="0", max_replication_slots="0")
    found = worse(examine(server.connection(), ASKED))
    expected = {"wal_level", "max_wal_senders", "max_replication_slots", "replication"}
    assert expected == {check for check, verdict in found.items() if verdict == "fail"}


def test_settings_that_lose_wal_or_pages_are_warned_of(servers):
    """Short timeouts, an archive command that fails, full_page_writes off, a slot's limit that is short."""
    settings = {"archive_mode": "on", "archive_command": "false", "full_page_writes": "off"}
    if servers.installation.major >= 18:
        settings["idle_replication_slot_timeout"] = "60s"
    server = servers.start(wal_sender_timeout="5s", **settings)
    server.sql("SELECT pg_logical_emit_message(false, 'x', 'y')")
    server.sql("SELECT pg_switch_wal()")
    _until_failed(server)
    found = worse(examine(server.connection(), ASKED))
    expected = {"wal_sender_timeout", "archiving", "full_page_writes", "max_slot_wal_keep_size"}
    if servers.installation.major >= 18:
        expected.add("idle_replication_slot_timeout")
    assert dict.fromkeys(expected, "warn") == found


def test_a_cluster_without_checksums_is_warned_of(servers):
    """As initdb makes it before 18, unless told otherwise."""
    server = servers.start("--no-data-checksums" if servers.installation.major >= 18 else "--no-instructions")
    assert "warn" == worse(examine(server.connection(), ASKED))["data_checksums"]


def test_native_is_judged_by_the_server_itself(servers):
    """Below 17 it fails; from 17 on it needs summarize_wal."""
    server = servers.start()
    asked = replace(ASKED, method="native")
    assert "fail" == worse(examine(server.connection(), asked))["native"]
    if servers.installation.major >= 17:
        server.restart(summarize_wal="on")
        assert of_check(examine(server.connection(), asked), "native").verdict is not Verdict.FAIL


def test_tables_that_are_left_out_are_warned_of(servers):
    """An unlogged one, and one that the role may not read."""
    server = servers.start(max_slot_wal_keep_size="1GB")
    server.sql("CREATE UNLOGGED TABLE cart (a int)")
    server.sql("CREATE TABLE hidden (a int)")
    found = examine(server.connection(), ASKED)
    assert {"unlogged_tables": "warn", "proof": "warn"} == worse(found)
    assert "postgres.cart" in of_check(found, "unlogged_tables").found
    server.sql("GRANT pg_read_all_data TO backup")
    assert {"unlogged_tables": "warn"} == worse(examine(server.connection(), ASKED))


def test_a_standby_is_examined_as_one(servers):
    """It is well; replay could break off the proof, and that is said."""
    primary = servers.start()
    standby = servers.start_standby(primary, max_slot_wal_keep_size="1GB")
    assert {"standby": "warn"} == worse(examine(standby.connection(), ASKED))
    assert {} == worse(examine(standby.connection(), replace(ASKED, proves=False)))


def _until_failed(server):
    """Wait until the archiver failed once."""
    wait_for(lambda: server.value("SELECT failed_count FROM pg_stat_archiver"), "a failure of the archiver")
