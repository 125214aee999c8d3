"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from coffer.cli.paths import user_path
from coffer.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [("~/x", "/h/x"), ("~", "/h"), ("~root/x", str(Path("~root/x").expanduser())), ("./~a", "~a"), ("a/~b", "a/~b")],
)
def test_a_home_folder_is_written_as_in_a_shell(monkeypatch, text, expected):
    """A tilde counts at the beginning only."""
    monkeypatch.setenv("HOME", "/h")
    assert Path(expected) == user_path(text)


def test_a_user_that_there_is_not_is_a_usage_error():
    """Neither a folder of that name is made, nor is it a mistake in Coffer."""
    with pytest.raises(UsageError, match="there is no user 'nosuchuser'") as caught:
        user_path("~nosuchuser/x")
    assert "./~nosuchuser" in caught.value.hint


@pytest.mark.parametrize(
    "arguments",
    [
        ["restore", "latest", "--target", "~nosuchuser/x"],
        ["ls", "latest", "--key-file", "~nosuchuser/x"],
        ["ls", "latest", "--passphrase-file", "~nosuchuser/x"],
        ["keys", "new", "~nosuchuser/x"],
        ["config", "check", "~nosuchuser/x"],
        ["init", "~nosuchuser/x"],
    ],
)
def test_no_command_takes_an_unknown_user_for_a_folder(coffer, repo, tree, tmp_path, monkeypatch, arguments):
    """Wherever a path is given: one line, one hint, and nothing made in the working folder."""
    coffer("backup", tree)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, line, _ = coffer(*arguments).fault()
    assert (1 if arguments[0] == "init" else 2, True) == (code, "no user 'nosuchuser'" in line)
    assert [] == list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["snapshots", "--source", "\udcff"], "source '\\udcff': has no snapshot"),
        (["ls", "latest:\udcff"], "snapshot 'latest:\\udcff': there is none of source '\\udcff'"),
    ],
)
def test_a_name_that_is_no_text_names_nothing(coffer, repo, tree, arguments, expected):
    """Bytes that are not UTF-8 as a source's name: as any other name that there is not, and no mistake in Coffer."""
    coffer("backup", tree)
    assert (2, expected) == coffer(*arguments).fault()[:2]


def test_a_location_with_a_null_byte_is_refused(coffer):
    """%00 in a file address: no path can hold it."""
    assert (1, "location of kind 'file': holds a null byte") == coffer("snapshots", "-r", "file:///tmp/%00x").fault()[
        :2
    ]
