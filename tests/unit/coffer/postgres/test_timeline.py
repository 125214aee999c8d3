"""History files are read as PostgreSQL writes them, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import Lsn
from coffer.postgres.timeline import MAX_HISTORY_BYTES, History, Switch, history_name, parse_history_name

TWICE = b"1\t0/D00000\tno recovery target specified\n\n2\t0/E00028\tbefore 2026-11-25 05:40:00+00\n"


def test_a_history_of_two_promotions():
    """Ancestors come oldest first, each with position and reason."""
    assert (
        Switch(1, Lsn(0xD00000), "no recovery target specified"),
        Switch(2, Lsn(0xE00028), "before 2026-11-25 05:40:00+00"),
    ) == History.parse(3, TWICE).switches


def test_comments_and_empty_lines_are_passed_over():
    """`#` begins a comment, also behind blanks; a reason may be missing."""
    assert (Switch(1, Lsn(16), ""),) == History.parse(2, b"# made by hand\n  # too\n\n1\t0/10\n").switches


def test_timeline_1_has_no_history():
    """The first timeline has no ancestors and no file."""
    assert () == History.parse(1, b"").switches


@pytest.mark.parametrize(
    ("timeline", "content"),
    [
        (2, b""),
        (2, b"1\n"),
        (2, b"x\t0/10\n"),
        (2, b"1\tzero\n"),
        (2, b"2\t0/10\n"),
        (3, b"2\t0/10\n1\t0/20\n"),
        (3, b"1\t0/20\n2\t0/10\n"),
        (3, b"1\t0/10\n1\t0/20\n"),
        (0, b""),
        (2, b"#" * (MAX_HISTORY_BYTES + 1)),
    ],
)
def test_nonsense_is_refused(timeline, content):
    """Missing ancestors, other forms, numbers or positions that do not rise, and endless files."""
    with pytest.raises(SourceFormatError, match=r"timeline|LSN"):
        History.parse(timeline, content)


@given(st.integers(1, 5), st.binary(max_size=200))
def test_no_bytes_lead_to_another_error(timeline, content):
    """Whatever a server sends, the answer is a history or the typed error."""
    try:
        history = History.parse(timeline, content)
    except SourceFormatError:
        return
    assert timeline == history.timeline


def test_where_a_timeline_was_left():
    """Each ancestor has its end, the youngest has none, a stranger is an error."""
    history = History.parse(3, TWICE)
    assert [Lsn(0xD00000), Lsn(0xE00028), None] == [history.end_of(timeline) for timeline in (1, 2, 3)]
    with pytest.raises(SourceFormatError, match="not in the history"):
        history.end_of(4)


def test_who_wrote_a_position():
    """The first byte after a switch is the next timeline's."""
    history = History.parse(3, TWICE)
    assert [1, 2, 2, 3] == [history.timeline_at(Lsn(at)) for at in (0xCFFFFF, 0xD00000, 0xE00027, 0xE00028)]


@pytest.mark.parametrize(
    ("timeline", "at", "expected"),
    [
        (1, 0xCFFFFF, True),
        (1, 0xD00000, True),
        (1, 0xD00001, False),
        (2, 0xCFFFFF, False),
        (2, 0xE00028, True),
        (2, 0xE00029, False),
        (3, 0xE00027, False),
        (3, 0xF00000, True),
        (4, 0xF00000, False),
    ],
)
def test_who_can_go_on_along_a_history(timeline, at, expected):
    """A cluster that wrote past the switch has bytes that the history does not have."""
    assert expected == History.parse(3, TWICE).holds(timeline, Lsn(at))


def test_names_of_history_files():
    """Eight digits and `.history`; other names are none of them."""
    assert "0000000A.history" == history_name(10)
    assert [10, None, None, None] == [
        parse_history_name(name) for name in ("0000000A.history", "0000000a.history", "00000000.history", "A.history")
    ]
