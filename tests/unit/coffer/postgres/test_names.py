"""Names of tables: quoted, as a path, and picked by patterns."""

import pytest

from coffer.errors import UsageError
from coffer.postgres.names import TablePattern, path_name, quoted_name, quoted_text


def fits(pattern, schema, name):
    return TablePattern.parse(pattern).fits(schema, name)


def test_every_part_of_a_name_is_quoted():
    """Double quotes are doubled, nothing else is changed."""
    assert quoted_name('a"b', "c.d") == '"a""b"."c.d"'


@pytest.mark.parametrize(
    ("text", "expected"), [("plain", "'plain'"), ("it's", "'it''s'"), ("a\\b'", " E'a\\\\b'''")], ids=str
)
def test_a_text_is_quoted_whatever_the_server_takes_backslashes_for(text, expected):
    """With a backslash it is an escape string, so standard_conforming_strings does not matter."""
    assert expected == quoted_text(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("orders", "orders"), ("a/b", "a%2Fb"), ("..", "%2E%2E"), (".", "%2E"), ("ü\n", "%C3%BC%0A"), ("50%", "50%25")],
)
def test_a_name_becomes_one_component_of_a_path(name, expected):
    """No slash, no dot alone, no control character."""
    assert expected == path_name(name)


def test_a_long_name_is_cut():
    """63 characters of four bytes take 756 characters when escaped: more than a file name has."""
    assert len(path_name("🏔" * 63)) == 200


@pytest.mark.parametrize(
    ("pattern", "schema", "name", "expected"),
    [
        ("orders", "any", "orders", True),
        ("orders", "any", "orders2", False),
        ("sales.orders", "sales", "orders", True),
        ("sales.orders", "other", "orders", False),
        ("sales.*", "sales", "anything at all", True),
        ("*.audit_?", "x", "audit_1", True),
        ("*.audit_?", "x", "audit_12", False),
        ("Orders", "s", "orders", False),
        ('"a.b"', "s", "a.b", True),
        ('"a.b"."c"', "a.b", "c", True),
        ('"a*"', "s", "a*", True),
        ('"a*"', "s", "ab", False),
        ('"say ""hi"""', "s", 'say "hi"', True),
        ('pre"*"post', "s", "pre*post", True),
        ("a[b]", "s", "a[b]", True),
        ("a[b]", "s", "ab", False),
        ('"[x]"', "s", "[x]", True),
        ("new\nline", "s", "new\nline", True),
        ("or*", "s", "or\nders", True),
    ],
)
def test_a_pattern_means_what_a_shell_would(pattern, schema, name, expected):
    """`*` and `?` stand for characters, quotes make them plain, the whole name must fit, capitals count."""
    assert expected == fits(pattern, schema, name)


@pytest.mark.parametrize("pattern", ["", ".", "a.", ".a", "a.b.c", '"open', '""', 'a"b'])
def test_what_is_no_pattern_is_refused(pattern):
    """An empty part, three parts, or an open quote are mistakes of the user."""
    with pytest.raises(UsageError, match="table pattern"):
        TablePattern.parse(pattern)
