"""Alert conditions: the grammar, and what is said where it is broken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.config.condition import CONDITION_ALLOWED, check_condition, tokens_of
from coffer.units import UnitError


@pytest.mark.parametrize(
    "text",
    [
        "status != success",
        "available < 20%",
        "available < 20 %",
        "age(last_drill) > 8d",
        "speed<100MB/s",
        "speed >= 1.5 MB/s and not (status == success or errors > 5)",
        "not not a == b",
        "status == 'all well'",
        'status == "all well"',
        "max(age(a), 5 d) <= 3h",
        "errors > 5 or errors == 0",
        "sources.home.age > 26h",
        "  a   ==   b  ",
        "(" * 20 + "a == b" + ")" * 20,
    ],
)
def test_a_condition_of_the_grammar_is_taken(text):
    """Comparisons joined by and, or, not and brackets are conditions."""
    check_condition(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "column 1: expected a metric, a number or a text, found 'the end'"),
        ("status", "column 7: expected a comparison (== != < <= > >=), found 'the end'"),
        ("status =! success", "column 8: '=' is not understood"),
        ("available <", "column 12: expected a metric, a number or a text, found 'the end'"),
        ("a == b c", "column 8: expected and, or or the end, found 'c'"),
        ("a == b and", "column 11: expected a metric, a number or a text, found 'the end'"),
        ("a == and", "column 6: expected a metric, a number or a text, found 'and'"),
        ("(a == b", "column 8: expected and, or or ')', found 'the end'"),
        ("a == b)", "column 7: expected and, or or the end, found ')'"),
        ("age(a > 5", "column 7: expected ',' or ')', found '>'"),
        ("age() > 5", "column 5: expected a metric, a number or a text, found ')'"),
        ("__import__('os').system == 1", "column 17: '.' is not understood"),
        ("a == 'b", 'column 6: "\'" is not understood'),
        ("a == 5x_", "column 6: '5' is not understood"),
        ("a == b; c", "column 7: ';' is not understood"),
        ("a < b < c", "column 7: expected and, or or the end, found '<'"),
        ("x" * 501, "longer than 500 characters"),
        ("(" * 30 + "a == b" + ")" * 30, "more than 20 brackets within each other"),
        ("f(" * 30 + "a" + ")" * 30 + " == b", "more than 20 brackets within each other"),
    ],
)
def test_a_broken_condition_is_refused_with_its_column(text, why):
    """Each mistake names the column and what was expected there."""
    with pytest.raises(UnitError) as caught:
        check_condition(text)
    assert (why, CONDITION_ALLOWED) == (caught.value.why, caught.value.allowed)


def test_a_number_does_not_swallow_a_word_of_the_grammar():
    """In 'errors > 5 or ...' the word after the number is no unit."""
    assert ["errors", ">", "5", "or", "a", "<", "20 %", "the end"] == [
        token.word for token in tokens_of("errors > 5 or a < 20 %")
    ]


@given(st.text(max_size=60) | st.text(alphabet="ab5%()<>=!,'\" ornotd.", max_size=60))
def test_no_text_breaks_the_reader(text):
    """Whatever the text, it is a condition or it is refused with a typed error."""
    try:
        check_condition(text)
    except UnitError:
        return
    assert [] != tokens_of(text)[:-1]
