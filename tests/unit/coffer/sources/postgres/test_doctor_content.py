"""What a backup would hold and leave out: each check both ways."""

from __future__ import annotations

import pytest

from coffer.sources.postgres.diagnosis import Asked, Verdict
from coffer.sources.postgres.doctor_content import (
    check_block_size,
    check_checksums,
    check_config_files,
    check_full_page_writes,
    check_native,
    check_proof,
    check_segment_size,
    check_standby,
    check_tablespaces,
    check_unlogged,
)
from coffer.sources.postgres.server_facts import DatabaseFacts, Setting
from tests.harness.server_facts import sound_server

ASKED = Asked("coffer_primary")
NATIVE = Asked("coffer_primary", "native")
OFF, ON = Setting("off"), Setting("on")
SUMMARIES = {"summarize_wal": ON, "wal_summary_keep_time": Setting("14400", "min")}


@pytest.mark.parametrize(
    ("checksums", "hints", "asked", "expected"),
    [
        (ON, OFF, ASKED, "ok"),
        (OFF, OFF, ASKED, "warn"),
        (OFF, ON, NATIVE, "warn"),
        (OFF, OFF, NATIVE, "fail"),
        (ON, OFF, NATIVE, "ok"),
    ],
)
def test_checksums_show_damage_and_native_needs_them(checksums, hints, asked, expected):
    """Without them damage is saved unseen; a native incremental then needs wal_log_hints at least."""
    facts = sound_server(settings={"data_checksums": checksums, "wal_log_hints": hints})
    assert expected == check_checksums(facts, asked).verdict.value


def test_pages_of_another_size_are_not_known():
    """8192 bytes, as all but a few builds have."""
    assert Verdict.OK is check_block_size(sound_server(), ASKED).verdict
    assert Verdict.FAIL is check_block_size(sound_server(settings={"block_size": Setting("16384")}), ASKED).verdict


def test_any_size_of_segments_will_do():
    """It is told."""
    facts = sound_server(settings={"wal_segment_size": Setting(str(64 << 20), "B")})
    assert (Verdict.OK, "64 MiB") == (check_segment_size(facts, ASKED).verdict, check_segment_size(facts, ASKED).found)


@pytest.mark.parametrize(
    ("value", "standby", "expected"), [(ON, False, "ok"), (OFF, False, "warn"), (ON, True, "ok"), (OFF, True, "fail")]
)
def test_full_page_writes_matter_most_on_a_standby(value, standby, expected):
    """A primary switches them on for a backup; a standby cannot, and refuses."""
    facts = sound_server(settings={"full_page_writes": value}, is_standby=standby)
    assert expected == check_full_page_writes(facts, ASKED).verdict.value


def test_native_is_looked_at_only_where_it_is_asked_for():
    """The default compares pages and needs nothing of the kind."""
    assert check_native(sound_server(), ASKED) is None


@pytest.mark.parametrize(
    ("version", "settings", "expected", "words"),
    [
        (160004, {}, "fail", "version 16 has no incremental backup"),
        (170013, {"summarize_wal": OFF}, "fail", "summarize_wal is off"),
        (170012, SUMMARIES, "warn", "known to leave out changed pages"),
        (180006, SUMMARIES, "warn", "known to leave out changed pages"),
        (
            170013,
            {**SUMMARIES, "wal_summary_keep_time": Setting("1440", "min")},
            "warn",
            "wal_summary_keep_time is 1 d",
        ),
        (170013, {**SUMMARIES, "wal_summary_keep_time": Setting("0", "min")}, "ok", "summarises WAL"),
        (170013, SUMMARIES, "ok", "summarises WAL"),
    ],
)
def test_native_needs_a_server_that_knows_what_changed(version, settings, expected, words):
    """17 or newer, summarize_wal, a minor version without the defect, and summaries that are kept for a week."""
    found = check_native(sound_server(version=version, settings=settings), NATIVE)
    assert expected == found.verdict.value
    assert words in found.found


def test_config_files_outside_of_the_data_folder_are_named():
    """They are in no backup of it; where the role may not see them, that is said."""
    assert Verdict.OK is check_config_files(sound_server(), ASKED).verdict
    etc = Setting("/etc/postgresql/17/main/pg_hba.conf")
    outside = check_config_files(sound_server(settings={"hba_file": etc}), ASKED)
    assert (Verdict.WARN, True) == (outside.verdict, outside.found.startswith(etc.value))
    near = Setting("/data2/postgresql.conf")
    assert Verdict.WARN is check_config_files(sound_server(settings={"config_file": near}), ASKED).verdict
    hidden = check_config_files(sound_server(settings={"data_directory": None}), ASKED)
    assert (Verdict.WARN, True) == (hidden.verdict, 'GRANT pg_monitor TO "backup"' in hidden.hint)


def test_tablespaces_are_told_with_their_places():
    """They are saved; a restore elsewhere must map them."""
    assert "none but the server's own" == check_tablespaces(sound_server(), ASKED).found
    found = check_tablespaces(sound_server(tablespaces=(("fast", "/mnt/ssd"),)), ASKED)
    assert (Verdict.OK, True) == (found.verdict, found.found.startswith("fast at /mnt/ssd"))


def test_unlogged_tables_are_named():
    """They come back empty."""
    assert Verdict.OK is check_unlogged(sound_server(), ASKED).verdict
    databases = (DatabaseFacts("shop", unlogged=7, unlogged_names=("cart", "seen")), DatabaseFacts("other"))
    found = check_unlogged(sound_server(databases=databases), ASKED)
    assert (Verdict.WARN, "7 tables come back empty: shop.cart, shop.seen") == (found.verdict, found.found)


def test_tables_that_cannot_be_read_cannot_be_proved():
    """Told with their number and database; not at all where no proof is asked for."""
    assert "all 3 tables can be read" == check_proof(sound_server(), ASKED).found
    databases = (DatabaseFacts("shop", tables=10, unreadable=4), DatabaseFacts("other", tables=5))
    found = check_proof(sound_server(databases=databases), ASKED)
    assert (Verdict.WARN, "4 of 15 tables cannot be read (in shop): they are not proved") == (
        found.verdict,
        found.found,
    )
    closed = check_proof(sound_server(databases=(DatabaseFacts("shop", failure="no entry"),)), ASKED)
    assert (Verdict.WARN, "database shop cannot be looked into: no entry") == (closed.verdict, closed.found)
    assert check_proof(sound_server(databases=databases), Asked("coffer_primary", proves=False)) is None


@pytest.mark.parametrize(
    ("delay", "feedback", "proves", "expected"),
    [("30000", OFF, True, "warn"), ("30000", ON, True, "ok"), ("-1", OFF, True, "ok"), ("30000", OFF, False, "ok")],
)
def test_replay_on_a_standby_can_break_off_the_proof(delay, feedback, proves, expected):
    """Unless it waits for queries, or tells the primary of them."""
    settings = {"max_standby_streaming_delay": Setting(delay, "ms"), "hot_standby_feedback": feedback}
    facts = sound_server(settings=settings, is_standby=True)
    assert expected == check_standby(facts, Asked("coffer_primary", proves=proves)).verdict.value


def test_a_primary_is_told_as_one():
    """Nothing to take care of."""
    assert (Verdict.OK, "no, a primary") == (
        check_standby(sound_server(), ASKED).verdict,
        check_standby(sound_server(), ASKED).found,
    )
