"""YAML: the core schema, the place of everything, and mistakes of form."""

from __future__ import annotations

import pytest

from coffer.config.document import Place, parse_document
from coffer.config.mistakes import key_text


def problems(text):
    """Return line, column, key and problem of each mistake of form, in order."""
    found = [(*mistake.place, key_text(mistake.path), mistake.problem) for mistake in parse_document(text).mistakes]
    return sorted(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: true", True),
        ("a: False", False),
        ("a: yes", "yes"),
        ("a: no", "no"),
        ("a: on", "on"),
        ("a: 10", 10),
        ("a: -3", -3),
        ("a: +3", 3),
        ("a: 0755", 755),
        ("a: 0o17", "0o17"),
        ("a: 12:30", "12:30"),
        ("a: 1_000", "1_000"),
        ("a: 1.5", 1.5),
        ("a: .5", 0.5),
        ("a: 1e3", 1000.0),
        ("a: 2026-11-01", "2026-11-01"),
        ("a: ~", None),
        ("a: null", None),
        ("a:", None),
        ("a: '10'", "10"),
        ("a: !!str 10", "10"),
        ("a: !!int '10'", 10),
        ("a: 00:00-06:00", "00:00-06:00"),
        ("a: 30d", "30d"),
        ("a: 64MB", "64MB"),
        ("a: =", "="),
        ("a: .", "."),
        ("a: 1" + "0" * 40, "1" + "0" * 40),
        ("a: |\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_values_are_read_by_the_core_schema(text, expected):
    """What YAML 1.1 would make of yes, 0755, 12:30 and dates does not happen."""
    document = parse_document(text)
    assert ([], expected, type(expected)) == (document.mistakes, document.data["a"], type(document.data["a"]))


def test_every_key_and_item_has_its_place():
    """The place of a value is its key's, of an item its own, and of what is missing its block's."""
    document = parse_document("a:\n  b: [x, y]\nc:\n  - d: 1\n")
    expected = {
        (): (1, 1),
        ("a",): (1, 1),
        ("a", "b"): (2, 3),
        ("a", "b", 0): (2, 7),
        ("a", "b", 1): (2, 10),
        ("c",): (3, 1),
        ("c", 0): (4, 5),
        ("c", 0, "d"): (4, 5),
    }
    assert expected == document.places
    assert Place(4, 5) == document.place_of(("c", 0, "missing", "deeper"))


def test_anchors_and_aliases_are_known():
    """A value can be named and used again."""
    assert {"a": {"x": 1}, "b": {"x": 1}} == parse_document("a: &v {x: 1}\nb: *v").data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", [(3, 1, "a", "key 'a' is there twice (first in line 1)")]),
        ("a: {b: 1, b: 2, b: 3}", [(1, 11, "a.b", "key 'b' is there twice (first in line 1)")] * 1
         + [(1, 17, "a.b", "key 'b' is there twice (first in line 1)")]),
        ("1: a", [(1, 1, "", "a key that is no text")]),
        ("{[a]: 1}", [(1, 2, "", "a key that is no text")]),
        ("true: a", [(1, 1, "", "a key that is no text")]),
        ("a: !x 1", [(1, 4, "a", "a tag (!...)")]),
        ("a: !x [1]", [(1, 4, "a", "a tag (!...)")]),
        ("a: !x {b: 1}", [(1, 4, "a", "a tag (!...)")]),
        ("a: !!python/object:os.system x", [(1, 4, "a", "a tag (!...)")]),
        ("a: !!int many", [(1, 4, "a", "a tag (!...) that its value does not fit")]),
        ("a: !!set {x}", [(1, 4, "a", "a tag (!...)")]),
        ("a: &v [*v]", [(1, 4, "a[0]", "an alias within what it names")]),
        ("a: " + "[" * 60 + "]" * 60, [(1, 54, "a", "blocks or brackets within each other, too deep")]),
        ("[" * 5000, [(1, 1, "", "blocks or brackets within each other, too deep")]),
    ],
)  # fmt: skip
def test_mistakes_of_form_have_a_place_and_a_key(text, expected):
    """Keys that come twice or are no texts, tags, circles and too much depth are found."""
    assert expected == problems(text)


def test_a_small_file_cannot_grow_without_bound():
    """Aliases of aliases stop at a count of values and give one mistake."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert ["too many values"] == [problem for *_, problem in problems("\n".join(lines))]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: b: c", 1, "a ':' where none can be"),
        ("a: 1\n b: 2", 2, "a ':' where none can be"),
        ("a:\n  b: 1\n c: 2", 3, "a line that is indented unlike those it belongs to"),
        ("a: -", 1, "a '- ' where no list can begin"),
        ("a: [1, 2\nb: 3", 1, "a bracket that is not closed, or a missing comma"),
        ("a: 1\nfoo\nb: 2", 2, "a line without ':' after its key"),
        ("a:\n\t- b", 2, "a tab, or a text that begins with @, ` or %"),
        ("a: @b", 1, "a tab, or a text that begins with @, ` or %"),
        ("a: 'b\n", 1, "a quote that is not closed"),
        ('a: "\\q"', 1, "a backslash in double quotes that means nothing"),
        ("a: *b", 1, "an alias (*...) of which there is no anchor"),
        ("a: 1\n---\nb: 2", 2, "a second document (---)"),
        ("a: !<x y", 1, "a tag (!...)"),
        ("a: &b 1\nc: &b 2", 2, "an anchor (&...) that is there twice"),
        ("%YAML 9.9\n---\na: 1", 1, "not YAML"),
        ("a: b: c\n...\n", 1, "a ':' where none can be"),
        ("a: \x07", 1, "a character that YAML does not allow"),
        ("a: 1\nb: \x07", 2, "a character that YAML does not allow"),
    ],
)
def test_broken_yaml_is_told_in_our_words_with_its_line(text, line, problem):
    """Each way to break YAML has a cause that a person can act on, without a word of the file in it."""
    assert (line, problem) in [(mistake[0], mistake[3]) for mistake in problems(text)]


def test_a_broken_block_does_not_hide_the_others():
    """Blocks that begin in the first column are read one by one when the whole cannot be."""
    document = parse_document("# head\na: [1, 2\nb: {x: 1}\nc: 'open\nd: 4\ne: *b\nf: 'x'\nno colon\n")
    assert ({"b": {"x": 1}, "d": 4, "f": "x"}, True) == (document.data, document.unread)
    assert Place(3, 1) == document.places["b",]
    assert [
        (2, "a bracket that is not closed, or a missing comma"),
        (4, "a quote that is not closed"),
        (8, "a line without ':' after its key"),
    ] == [(mistake.place.line, mistake.problem) for mistake in document.mistakes]


def test_each_broken_block_is_told_once():
    """The first mistake of the whole text is not told again by its own block; a later one is told too."""
    expected = [(2, 5, "", "a ':' where none can be"), (4, 5, "", "a ':' where none can be")]
    assert expected == problems("a: 1\nb: c: d\ne: 2\nf: g: h\ni: 3\n")


def test_an_alias_without_anchor_is_told_beside_broken_blocks():
    """What joins blocks is told even if a block is broken too."""
    assert {"an alias (*...) of which there is no anchor", "a ':' where none can be"} == {
        problem for *_, problem in problems("a: *b\nc: d: e\n")
    }


def test_an_empty_text_says_nothing():
    """No text, and only comments, have no data and no mistake of form."""
    for text in ("", "# nothing\n", "---\n"):
        document = parse_document(text)
        assert (None, [], False) == (document.data, document.mistakes, document.unread)
