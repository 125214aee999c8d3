"""Names, times and tables: nothing that comes from a file name may act on a terminal."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.cli import text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain ü 漢", "plain ü 漢"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202e\u2028", "\\u202e\\u2028"),
        ("\U000e0001", "\\U000e0001"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\x7f\x85", "\\x7f\\x85"),
    ],
)
def test_what_is_not_printable_is_escaped(name, expected):
    """Controls, direction marks, invisible tags and bytes that are not UTF-8."""
    assert expected == text.escape(name)


@given(st.binary(max_size=60))
def test_no_name_whatever_reaches_the_terminal_unescaped(name):
    """Any bytes become printable text, and the exact bytes are in the JSON fields."""
    assert text.path_text(name).isprintable()
    fields = text.path_fields(name)
    exact = base64.b64decode(fields["path_base64"]) if "path_base64" in fields else fields["path"].encode()
    assert name == exact


def test_a_path_of_the_user_becomes_the_snapshots_own():
    """Slashes at the ends, doubled ones and dots do not matter; two dots are a name like any other."""
    assert {b"srv/data"} == {
        text.pattern_bytes(path) for path in ("/srv/data/", "srv//data", "./srv/./data", "srv/data")
    }
    assert b"" == text.pattern_bytes("/")
    assert b"srv/.." == text.pattern_bytes("srv/..")
    assert b"\xff" == text.pattern_bytes("\udcff")


def test_times_are_utc_and_any_time_can_be_shown():
    """Files may bear times that no calendar has: they are shown at its end."""
    assert ("2026-11-01 00:00:00", "2026-11-01T00:00:00.000001Z") == (
        text.time_text(1_793_491_200 * 10**9),
        text.time_iso(1_793_491_200 * 10**9 + 1000),
    )
    assert ("9999-12-31 23:59:59", "9999-12-31T23:59:59.999999Z") == (text.time_text(2**90), text.time_iso(2**90))
    assert text.time_text(-(2**90)).endswith("01-01 00:00:00")


def test_counts_have_their_noun():
    """One file, two files, none."""
    assert ["1 file", "2 files", "0 files", "1,234 matches"] == [
        text.count_of(1, "file"),
        text.count_of(2, "file"),
        text.count_of(0, "file"),
        text.count_of(1234, "match", "matches"),
    ]


def test_a_table_is_as_wide_as_it_must_be():
    """Numbers to the right where asked, texts escaped, no blanks at the ends of lines."""
    assert ["name   count", "a      1,500", "b\\n   12,345"] == text.table(
        ("name", "count"), [("a", 1500), ("b\n", 12345)], "lr"
    )
    assert ["a", "1"] == text.table(("a",), [("1",)])
