"""What keeps and moves WAL: each check both ways."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coffer.sources.postgres.diagnosis import Asked, Verdict
from coffer.sources.postgres.doctor_wal import (
    advised_keep_size,
    check_archiver,
    check_idle_timeout,
    check_keep_size,
    check_replication_slots,
    check_sender_timeout,
    check_slot,
    check_wal_level,
    check_wal_senders,
    used_share,
)
from coffer.sources.postgres.server_facts import Archiver, Setting
from tests.harness.server_facts import GIB, SLOT, sound_server

ASKED = Asked("coffer_primary")


def with_slot(**changes):
    """A server whose slot is different."""
    return sound_server(slots={SLOT.name: replace(SLOT, **changes)})


@pytest.mark.parametrize(("level", "expected"), [("minimal", "fail"), ("replica", "ok"), ("logical", "ok")])
def test_wal_must_hold_what_a_restore_needs(level, expected):
    """`minimal` does not."""
    facts = sound_server(settings={"wal_level": Setting(level)})
    assert expected == check_wal_level(facts, ASKED).verdict.value


@pytest.mark.parametrize(("senders", "expected"), [(1, "ok"), (8, "ok"), (9, "warn"), (10, "fail"), (0, "ok")])
def test_two_wal_senders_must_be_free(senders, expected):
    """A base backup takes one, receiving WAL meanwhile another."""
    assert expected == check_wal_senders(sound_server(senders=senders), ASKED).verdict.value


def test_a_server_without_wal_senders_fails():
    """max_wal_senders = 0."""
    facts = sound_server(senders=0, settings={"max_wal_senders": Setting("0")})
    assert Verdict.FAIL is check_wal_senders(facts, ASKED).verdict


def test_slots_count_only_where_ours_is_missing():
    """All slots in use is well if one of them is ours, and no backup if not."""
    full = sound_server(settings={"max_replication_slots": Setting("1")})
    assert Verdict.OK is check_replication_slots(full, ASKED).verdict
    found = check_replication_slots(full, Asked("coffer_other"))
    assert (Verdict.FAIL, "1, all in use, and coffer_other is not there yet") == (found.verdict, found.found)
    assert Verdict.OK is check_replication_slots(sound_server(), Asked("coffer_other")).verdict


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({}, "ok", "holds back 4.0 KiB"),
        ({"active": True}, "ok", "in use now"),
        ({"kind": "logical"}, "fail", "is a logical slot"),
        ({"wal_status": "lost", "restart": None, "safe_bytes": None}, "fail", "is lost"),
        ({"wal_status": "unreserved"}, "warn", "of what it may"),
        ({"lag_bytes": 6 * GIB, "safe_bytes": 4 * GIB}, "warn", "60% of what it may"),
        ({"lag_bytes": 4 * GIB, "safe_bytes": 6 * GIB}, "ok", "holds back 4.0 GiB"),
        ({"lag_bytes": 900 * GIB, "safe_bytes": None}, "ok", "holds back 900.0 GiB"),
    ],
)
def test_the_state_of_the_slot_is_told(changes, expected, words):
    """Lost, of another kind, near its limit, or well."""
    found = check_slot(with_slot(**changes), ASKED)
    assert expected == found.verdict.value
    assert words in found.found


def test_a_slot_that_is_not_there_yet_is_well():
    """The first backup makes it."""
    found = check_slot(sound_server(slots={}), ASKED)
    assert (Verdict.OK, "coffer_primary is not there yet: the first backup makes it") == (found.verdict, found.found)


@pytest.mark.parametrize(
    ("lag", "safe", "expected"), [(0, None, 0.0), (5, 5, 0.5), (5, -1, 1.0), (0, 0, 1.0), (0, 10, 0.0)]
)
def test_the_share_is_of_what_the_slot_may_hold_back(lag, safe, expected):
    """Without a limit there is no share; beyond the limit it is all of it."""
    assert expected == used_share(replace(SLOT, lag_bytes=lag, safe_bytes=safe))


def keep(megabytes, **changes):
    """The check of a server with this limit [MB]."""
    facts = sound_server(settings={"max_slot_wal_keep_size": Setting(str(megabytes), "MB")}, **changes)
    return check_keep_size(facts, ASKED)


def test_a_slot_without_a_limit_can_fill_the_disk():
    """-1 is the server's default; the advice is half of the free space where that can be seen."""
    found = keep(-1)
    assert (Verdict.WARN, True) == (found.verdict, "until the disk is full; WAL grows by 1.0 KiB/s" in found.found)
    assert "<half of the free space of its disk>GB" in found.hint
    assert "'50GB'" in keep(-1, free_bytes=100 * GIB).hint


def test_a_limit_beyond_the_disk_is_none():
    """It is compared with the free space where that can be seen."""
    assert Verdict.WARN is keep(51200, free_bytes=10 * GIB).verdict
    assert Verdict.OK is keep(51200, free_bytes=100 * GIB).verdict


def test_a_limit_that_an_hour_of_wal_exceeds_is_short():
    """By the pace that the server's own counters tell."""
    found = keep(1024, wal_bytes_per_s=1 << 20)
    assert (Verdict.WARN, True) == (found.verdict, "lasts 17 min" in found.found)
    assert Verdict.OK is keep(1024, wal_bytes_per_s=None).verdict


@pytest.mark.parametrize(
    ("free", "expected"), [(None, "<half of the free space of its disk>GB"), (7 * GIB, "3GB"), (GIB, "512MB")]
)
def test_the_advice_is_half_of_the_free_space(free, expected):
    """In the server's own spelling."""
    assert expected == advised_keep_size(sound_server(free_bytes=free))


@pytest.mark.parametrize(("milliseconds", "expected"), [("0", "ok"), ("5000", "warn"), ("60000", "ok")])
def test_a_short_timeout_of_senders_is_a_warning(milliseconds, expected):
    """Under ten seconds, a pause of the repository breaks the stream; 0 is none."""
    facts = sound_server(settings={"wal_sender_timeout": Setting(milliseconds, "ms")})
    assert expected == check_sender_timeout(facts, ASKED).verdict.value


def test_an_idle_slot_may_be_dropped_from_18_on():
    """The setting is told where the server has it; short of an hour it is a warning."""
    assert check_idle_timeout(sound_server(), ASKED) is None
    for seconds, expected in (("0", "ok"), ("600", "warn"), ("86400", "ok")):
        facts = sound_server(settings={"idle_replication_slot_timeout": Setting(seconds, "s")})
        assert expected == check_idle_timeout(facts, ASKED).verdict.value


def archiving(mode="on", command="", archiver=None):
    """The check of a server that archives so."""
    settings = {"archive_mode": Setting(mode), "archive_command": Setting(command)}
    return check_archiver(sound_server(settings=settings, archiver=archiver), ASKED)


def test_no_archive_command_is_needed():
    """Off is well, and so is one that works."""
    assert Verdict.OK is archiving("off").verdict
    assert Verdict.OK is archiving(command="x %p", archiver=Archiver(3, False, "000000010000000000000001")).verdict


def test_an_archive_command_that_keeps_all_wal_is_told():
    """None at all, or one that fails: the server removes nothing until it works."""
    assert "the server keeps all WAL" in archiving().found
    failing = archiving(command="false", archiver=Archiver(7, True, "00000001000000000000000A"))
    assert (Verdict.WARN, True) == (failing.verdict, "7 times, last on 00000001000000000000000A" in failing.found)
