"""`coffer config`: every mistake at once, and what the policy comes to."""

from __future__ import annotations

import pytest

from tests.harness.programs import PROJECT

BROKEN = """\
sources:
  - {name: a, paths: [/srv], exlude: ["*.tmp"]}
local_backup:
  locations:
    primary: {path: "var/x", retention: 30, frequency: "daily"}
performance_config: {compression: {level: 99}}
"""


@pytest.fixture
def broken(tmp_path):
    """A policy with three mistakes."""
    (tmp_path / "p.yaml").write_text(BROKEN)
    return tmp_path / "p.yaml"


def test_the_policy_of_the_project_has_no_mistake(coffer):
    """The default runs as it stands."""
    ended = coffer("config", "check", PROJECT / "config" / "coffer.yaml")
    assert (0, "") == (ended.code, ended.err)
    assert ended.out.endswith("coffer.yaml: no mistake\n")


def test_every_mistake_is_shown_at_once(coffer, broken):
    """Line, column, key, value, what is allowed, and the nearest known key."""
    ended = coffer("config", "check", broken)
    code, line, hint = ended.fault()
    assert (2, f"policy {broken}: 3 mistakes") == (code, line)
    assert "docs/configuration.md" in hint
    assert f"{broken}:2:30: sources[0].exlude: unknown key" in ended.out
    assert "    did you mean: exclude" in ended.out
    assert f"{broken}:5:" in ended.out
    assert f"{broken}:6:" in ended.out


def test_the_mistakes_are_rows_for_programs(coffer, broken):
    """The same in JSON, a mistake an object."""
    ended = coffer("config", "check", broken, "--json")
    assert ("policy-invalid", [2, 5, 6]) == (
        ended.envelope["error"]["code"],
        [mistake["line"] for mistake in ended.result["mistakes"]],
    )
    assert "exclude" == ended.result["mistakes"][0]["nearest"]


def test_what_is_right_but_has_no_effect_is_noted(coffer, tmp_path):
    """A bucket that is named is not written to by this version; the exit code stays 0."""
    (tmp_path / "p.yaml").write_text("cloud_backup: {providers: {a: {type: aws_s3, bucket: org, region: eu-west-1}}}\n")
    ended = coffer("config", "check", tmp_path / "p.yaml")
    assert 0 == ended.code
    assert "note: cloud_backup: not acted on" in ended.out


def test_the_policy_is_shown_with_its_defaults(coffer, tmp_path, monkeypatch):
    """Sources with schedule and locations, absolute paths, the key's place, limits; nothing secret."""
    file = tmp_path / "config" / "p.yaml"
    file.parent.mkdir()
    file.write_text(
        "sources: [{name: a, paths: [data], schedule: '0 3 * * *'}]\n"
        "repository: {passphrase_env: WORDS}\n"
        "encryption: {at_rest: {key_storage: passphrase}}\n"
        "databases: [shop, books, olap]\n"
        "database_servers: {shop: {host: db1, method: native}, olap: {host: db1}}\n"
    )
    monkeypatch.setenv("COFFER_POLICY", str(file))
    monkeypatch.setenv("WORDS", "the secret itself")
    ended = coffer("config", "show")
    assert 0 == ended.code
    assert f"a       0 3 * * *  primary    {tmp_path}/data" in ended.out
    assert "shop, olap  db1:5432                 native  primary" in ended.out
    assert "books       connection coffer_books  delta   primary" in ended.out
    assert "key: passphrase, WORDS" in ended.out
    assert "the secret itself" not in ended.out
    result = coffer("config", "show", "--json").result
    assert [("shop", "coffer_shop"), ("books", "coffer_books")] == [
        (database["source"], database["slot"]) for database in result["databases"]
    ]
    assert ([f"{tmp_path}/data"], "0 3 * * *", 4) == (
        result["sources"][0]["paths"],
        result["sources"][0]["schedule"],
        result["performance"]["max_workers"],
    )


def test_a_broken_policy_cannot_be_shown(coffer, broken):
    """The mistakes are the answer, with exit code 2."""
    ended = coffer("config", "show", broken)
    assert 2 == ended.code
    assert "3 mistakes" in ended.err
