"""The moment to recover to, in a user's words."""

import pytest

from coffer.errors import UsageError
from coffer.postgres.lsn import Lsn
from coffer.restore.cluster.target import RecoveryTarget, TargetKind, parse_target


def test_the_ends_need_no_value():
    """`latest` and `immediate` are whole by themselves."""
    assert RecoveryTarget(TargetKind.LATEST) == parse_target("latest")
    assert RecoveryTarget(TargetKind.IMMEDIATE, timeline=3) == parse_target("immediate", timeline=3)


@pytest.mark.parametrize(
    ("text", "value", "time_us"),
    [
        ("time:2026-11-25T08:00:00Z", "2026-11-25T08:00:00+00:00", 1_795_593_600_000_000),
        ("time:2026-11-25 09:00+01:00", "2026-11-25T08:00:00+00:00", 1_795_593_600_000_000),
        ("time:2026-11-25T08:00:00.000001Z", "2026-11-25T08:00:00.000001+00:00", 1_795_593_600_000_001),
        ("time:1969-12-31T23:59:59Z", "1969-12-31T23:59:59+00:00", -1_000_000),
    ],
)
def test_a_time_with_a_zone_is_kept_in_utc(text, value, time_us):
    """The moment is the same in every zone, to the microsecond, and nothing is said about it."""
    found = parse_target(text)
    assert (value, time_us, "") == (found.value, found.time_us, found.note)


def test_a_time_without_a_zone_is_utc_and_that_is_said():
    """Nobody should have to guess which moment was taken."""
    found = parse_target("time:2026-11-25T08:00")
    assert 1_795_593_600_000_000 == found.time_us
    assert "2026-11-25T08:00 was taken as UTC" in found.note


def test_the_others_are_read_as_postgresql_writes_them():
    """LSNs, names with any letters, and transactions of 32 and 64 bits."""
    assert Lsn(0x3000028) == parse_target("lsn:0/3000028").lsn
    assert "lsn:0/3000028" == str(parse_target("lsn:00000000/03000028"))
    assert "it's: é" == parse_target("name:it's: é").value
    assert 1234 == parse_target("xid:1234").xid
    assert 5 == parse_target(f"xid:{(7 << 32) + 5}").xid
    assert not parse_target("xid:1234", inclusive=False).inclusive


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not of a known kind"),
        ("yesterday", "not of a known kind"),
        ("LATEST", "not of a known kind"),
        ("latest:", "takes no value"),
        ("latest:x", "takes no value"),
        ("time", "needs a value"),
        ("name:", "needs a value"),
        ("time:noon", "not a time"),
        ("time:2026-11-25", "a date without a time of day"),
        ("time:20261125", "a date without a time of day"),
        ("time:2026-13-25T08:00Z", "not a time"),
        ("time:0001-01-01T00:00+10:00", "beyond the calendar"),
        ("lsn:3000028", "not an LSN"),
        ("lsn:0/300002G", "not an LSN"),
        ("name:" + "n" * 64, "no restore point has this name"),
        ("name:" + "é" * 32, "no restore point has this name"),
        ("name:a\0b", "no restore point has this name"),
        ("xid:0", "not the number of a transaction"),
        ("xid:2", "not the number of a transaction"),
        ("xid:-5", "not the number of a transaction"),
        (f"xid:{1 << 64}", "not the number of a transaction"),
        (f"xid:{1 << 32}", "not the number of a transaction"),
    ],
)
def test_what_is_no_target_is_refused_with_the_reason(text, why):
    """The message names the words and what is wrong with them; the hint shows how it is written."""
    with pytest.raises(UsageError, match=why) as caught:
        parse_target(text)
    assert repr(text) in caught.value.message
    assert caught.value.hint


def test_options_that_make_no_sense_are_refused():
    """Nothing lies at the end of all WAL that could be left out, and no timeline has the number 0."""
    with pytest.raises(UsageError, match="nothing can be left out"):
        parse_target("latest", inclusive=False)
    with pytest.raises(UsageError, match="timeline 0"):
        parse_target("latest", timeline=0)
