"""Mistakes: all at once, each with its place, what is allowed and what was probably meant; never a secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.config import PolicyMistake, check_policy, format_mistakes, parse_policy
from coffer.config.mistakes import key_text, shown_value
from coffer.config.validation import examine
from coffer.errors import PolicyInvalidError

DATA = Path(__file__).parent / "data"
ROOT = Path("/srv/project")


def mistakes_in(text: str) -> list[PolicyMistake]:
    """Return all mistakes of a policy's text."""
    return examine(text, ROOT)[1]


def only_mistake_in(text: str) -> PolicyMistake:
    """Return the one mistake of a policy's text."""
    (mistake,) = mistakes_in(text)
    return mistake


def test_all_mistakes_of_a_bad_policy_are_found_at_once():
    """A policy with dozens of mistakes gives them all, word for word as kept in data/mistakes.txt.

    After a wanted change of the words, write the text anew and read the difference:
    python -c "from coffer.config import *; print(format_mistakes(check_policy('FILE'), 'mistakes.yaml'))"
    """
    expected = (DATA / "mistakes.txt").read_text()
    assert expected == format_mistakes(check_policy(DATA / "mistakes.yaml"), "mistakes.yaml") + "\n"


def test_mistakes_come_in_the_order_of_the_file():
    """Mistakes are sorted by line, then column, and none comes twice."""
    places = [(mistake.line, mistake.column) for mistake in check_policy(DATA / "mistakes.yaml")]
    assert sorted(places) == places
    texts = format_mistakes(check_policy(DATA / "mistakes.yaml")).split("\npolicy:")
    assert len(set(texts)) == len(texts)


def test_a_mistake_can_be_written_as_json():
    """A mistake's parts are plain data."""
    mistake = only_mistake_in("timezone: Mars/Base")
    expected = {
        "line": 1,
        "column": 1,
        "key": "timezone",
        "problem": "no such time zone",
        "allowed": "a name of the IANA time zone database, such as UTC or Europe/Berlin",
        "value": "Mars/Base",
        "nearest": None,
    }
    assert expected == json.loads(json.dumps(mistake.to_dict()))


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("time-zone: UTC", "time-zone", "timezone"),
        ("Sources: []", "Sources", "sources"),
        ("performance_config: {concurency: {}}", "performance_config.concurency", "concurrency"),
        ("backup_window: 00:00-06:00", "backup_window", "performance_config.scheduling.backup_window"),
        ("local_backup: {retention: 30d}", "local_backup.retention", "local_backup.locations.<name>.retention"),
        ("quux: 1", "quux", None),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_known_one(text, key, nearest):
    """A misspelt key names its neighbour, a misplaced one its place, a strange one nothing."""
    mistake = only_mistake_in(text)
    assert (key, "unknown key", nearest, None) == (mistake.key, mistake.problem, mistake.nearest, mistake.value)


def test_a_key_of_another_type_of_block_is_not_offered_where_it_was_refused():
    """'location' belongs to the other kind of provider: the hint does not send the reader in a circle."""
    text = "cloud_backup: {providers: {c: {type: aws_s3, bucket: org, region: x, location: y}}}"
    mistake = only_mistake_in(text)
    assert ("cloud_backup.providers.c.location", "unknown key", None) == (mistake.key, mistake.problem, mistake.nearest)
    assert "the keys type, bucket, region, encryption, versioning" == mistake.allowed


def test_a_key_named_like_the_type_of_its_block_is_told_as_unknown():
    """A block of type slack with a key 'slack' has one mistake, at that key."""
    mistake = only_mistake_in('alert_config: {channels: [{type: slack, channel: "#a", slack: x}]}')
    assert ("alert_config.channels[0].slack", "unknown key") == (mistake.key, mistake.problem)


@pytest.mark.parametrize(
    ("text", "problem", "value"),
    [
        ("sources: {name: a}", "a mapping is not allowed here", None),
        ("sources: [1]", "a whole number is not allowed here", "1"),
        ("databases: [1.5]", "a number with a point is not allowed here", "1.5"),
        ("databases: [true]", "true or false is not allowed here", "true"),
        ("databases: {a: b}", "a mapping is not allowed here", None),
        ("checks: [checksum]", "a list is not allowed here", None),
        ("checks: ", "there is no value", None),
        ("timezone: 5", "a whole number is not allowed here", "5"),
        ("performance_config: {concurrency: {max_workers: true}}", "true or false is not allowed here", "true"),
        ("performance_config: {concurrency: {io_limit: 5.5}}", "a number without a unit", "5.5"),
        ("performance_config: {scheduling: {max_duration: [4h]}}", "not a text", None),
        ("alert_config: {channels: [slack]}", "a text is not allowed here", "slack"),
        ("cloud_backup: {sync: {timeout: true}}", "not a text", "true"),
        ("cloud_backup: {sync: {timeout: 8d}}", "not within 1 second to 7 days", "8d"),
        ("performance_config: {compression: {chunk_size: 1kB}}", "less than 1MB", "1kB"),
        ("performance_config: {compression: {chunk_size: 2GB}}", "more than 1GB", "2GB"),
        ("performance_config: {deduplication: {block_size: 8MiB}}", "not within 4KiB to 4MiB", "8MiB"),
        ("test_procedures: {restore_testing: {sample_size: 0%}}", "zero", "0%"),
        ('recovery_plans: {"": {steps: [data_restore]}}', "not a usable name", None),
        ("timezone: ../etc/passwd", "no such time zone", "../etc/passwd"),
        ("timezone: Europe", "no such time zone", "Europe"),
        ("sources: [{name: a, paths: ['']}]", "not a path", ""),
        ("sources: [{name: a, paths: [a], exclude: ['!']}]", "it would match nothing", "!"),
        ("sources: [{name: a, paths: [a], exclude: ['a\\']}]", "not a pattern", "a\\"),
    ],
)
def test_a_wrong_value_is_told_with_its_cause(text, problem, value):
    """Types, ranges and forms: each has its cause and the value as it was written."""
    mistake = only_mistake_in(text)
    assert (problem, value) == (mistake.problem, mistake.value)
    assert mistake.allowed


def test_a_required_key_that_is_missing_is_told_at_the_block_that_lacks_it():
    """The place of a missing key is its block's, and what the key takes is said."""
    mistake = only_mistake_in("sources:\n  - name: a\n")
    assert (2, 5, "sources[0].paths", "the key 'paths' is missing") == (
        mistake.line,
        mistake.column,
        mistake.key,
        mistake.problem,
    )
    assert "a list of one or more paths" in mistake.allowed


def test_a_bad_item_does_not_make_its_list_empty():
    """A list whose only item is wrong has one mistake, not a second for being empty without it."""
    assert "sources[0].paths[0]" == only_mistake_in("sources: [{name: a, paths: [5]}]").key


# ------------------------------------------------------------------------------------------------ secrets

SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    "text",
    [
        f"password: {SECRET}",
        f"repository: {{passphrase: {SECRET}}}",
        f"repository: {{passphrase_env: {SECRET}}}",
        f"repository: {{passphrase_file: [{SECRET}]}}",
        f"repository: {{key: {SECRET}}}",
        f"repository: {{vault_token: {{a: {SECRET}}}}}",
        f"alert_config: {{channels: [{{type: slack, webhook: {SECRET}, channel: x}}]}}",
        f"cloud_backup: {{providers: {{a: {{type: aws_s3, bucket: b, region: r, secret_access_key: {SECRET}}}}}}}",
        f"sources: [{{name: a, paths: [x], password: {{deep: [{SECRET}]}}}}]",
        f"databases: ['postgresql://u:{SECRET}@host/db']",
        f"databases: ['{SECRET} -----BEGIN PRIVATE KEY']",
        f"repository: {{passphrase_env: 5 {SECRET}}}",
        f"password: *{SECRET}",
        f"password: &{SECRET} *{SECRET}",
        f"password: !{SECRET} x",
        f"password: '{SECRET}",
        f"password: @{SECRET}",
        f"password: {SECRET}: x",
        f'password: "{SECRET}\\q"',
    ],
)
def test_a_secret_in_the_policy_is_never_shown(text):
    """What stands under a key like a secret's, or looks like a credential, is in no message and in no error."""
    assert SECRET not in format_mistakes(mistakes_in(text))
    with pytest.raises(PolicyInvalidError) as caught:
        parse_policy(text, ROOT)
    assert SECRET not in str(caught.value) + repr(caught.value.details) + repr(caught.value.__context__)


def test_who_writes_a_secret_is_told_where_it_belongs():
    """A key for a secret is refused with the way to name one."""
    mistake = only_mistake_in("repository: {passphrase: x}")
    assert "passphrase_env" == mistake.nearest
    assert "no secret is kept in the policy" in mistake.allowed


@pytest.mark.parametrize(
    "value",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "xoxb-1234",
        "hvs.CAESIJ",
        "0123456789abcdef0123456789abcdef",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "https://hooks.slack.com/services/T0/B0/XYZ",
    ],
)
def test_what_looks_like_a_credential_is_not_shown(value):
    """Well-known forms of credentials are kept back under any key."""
    assert None is shown_value(("databases", 0), value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        (30, "30"),
        (True, "true"),
        (None, None),
        ([1], None),
        ({"a": 1}, None),
        ("a\x1b[31mb\n", "a?[31mb?"),
        ("x" * 61, "x" * 57 + "..."),
        ("/var/lib/postgresql/data/base/pgsql_tmp", "/var/lib/postgresql/data/base/pgsql_tmp"),
    ],
)
def test_a_value_is_shown_short_and_harmless(value, expected):
    """A value is one line without control characters, of sixty characters at most; collections are not shown."""
    assert expected == shown_value(("databases", 0), value)


@given(st.text(max_size=200))
def test_a_shown_value_never_breaks_the_line(value):
    """Whatever a value is, what is shown of it is printable and short."""
    shown = shown_value(("databases", 0), value)
    assert shown is None or (shown.isprintable() and len(shown) <= 60)


@pytest.mark.parametrize(
    ("path", "expected"), [((), ""), (("a",), "a"), (("a", 0, "b"), "a[0].b"), (("a", "b", 1, 2), "a.b[1][2]")]
)
def test_a_path_is_written_as_people_write_it(path, expected):
    """Names are joined by points, indices stand in brackets."""
    assert expected == key_text(path)


# ------------------------------------------------------------------------------------------------ any text

YAML_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["sources", "name", "paths", "local_backup", "locations", "primary", "path", "type", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(YAML_LIKE)
def test_whatever_the_data_there_are_mistakes_or_a_policy(data):
    """No shape of data makes the check fail in another way than by mistakes."""
    policy, mistakes = examine(json.dumps(data), ROOT)
    assert (policy is None) == bool(mistakes)


@given(st.text(max_size=80) | st.text(alphabet="ab:-[]{}#&*!|>'\"%@` \n\t", max_size=40))
def test_whatever_the_text_there_are_mistakes_or_a_policy(text):
    """No text makes the check fail in another way than by mistakes, and each mistake has a place in the text."""
    policy, mistakes = examine(text, ROOT)
    assert (policy is None) == bool(mistakes)
    assert all(1 <= mistake.line <= len(text) + 1 and mistake.column >= 1 for mistake in mistakes)
