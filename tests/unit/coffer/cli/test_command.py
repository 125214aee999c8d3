"""How a command is declared, and what belongs to the process's edge."""

from __future__ import annotations

import click
import pytest

from coffer.cli import command as module
from coffer.cli.command import Edge, argument, command, flag, option
from coffer.cli.outcome import Outcome


@pytest.mark.parametrize(
    ("moves_data", "owns_process", "expected"),
    [(True, True, 1), (True, False, 0), (False, True, 0)],
)
def test_memory_is_tuned_once_by_a_process_that_moves_much_data(monkeypatch, moves_data, owns_process, expected):
    """A library caller's process is left alone, and so is one that only lists."""
    tuned = []
    monkeypatch.setattr(module, "tune_process", lambda: tuned.append(1))

    @command("x", opens=False, moves_data=moves_data)
    def body(run):
        """Do nothing."""
        return Outcome()

    body.main([], standalone_mode=False, obj=Edge(owns_process=owns_process))
    assert expected == len(tuned)


def test_the_function_gets_its_parameters_and_the_run_gets_the_rest():
    """Arguments, options and flags arrive by name; where and output options are the run's."""
    seen = {}

    @command(
        "x",
        parent="group",
        options=(
            argument("one", metavar="ONE"),
            argument("many", metavar="MANY", many=True, required=False),
            option("--word", help="A word.", many=True),
            flag("--yes", help="Yes."),
        ),
    )
    def body(run, **parameters):
        """Take all."""
        seen.update(parameters, run=run)
        return Outcome()

    code = body.main(["a", "b", "c", "--word", "w", "--yes", "-q", "-v", "-r", "R"], standalone_mode=False)
    assert 0 == code
    run = seen.pop("run")
    assert {"one": "a", "many": ("b", "c"), "word": ("w",), "yes": True} == seen
    assert ("group x", True, True, False) == (run.command, run.quiet, run.verbose, run.as_json)
    assert {"repo": "R", "location": None, "key_file": None, "passphrase_file": None} == run.where


def test_a_command_without_a_repository_takes_no_place():
    """Options that would have no effect are not there."""

    @command("x", opens=False)
    def body(run):
        """Do nothing."""
        return Outcome()

    with pytest.raises(click.UsageError):
        body.main(["--repo", "R"], standalone_mode=False)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("backup", ""), "PATHS"),
        (("restore", "latest", "--target", ""), "--target"),
        (("restore", "latest", "--target", "x", "--path", ""), "--path"),
        (("snapshots", "--repo", ""), "--repo"),
        (("ls", ""), "SNAPSHOT"),
    ],
)
def test_an_empty_word_is_a_mistake(coffer, repo, tmp_path, monkeypatch, arguments, word):
    """A shell variable that is not set means neither the working folder nor everything."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    ended = coffer(*arguments)
    assert (2, True) == (ended.code, f"{word}: is empty" in ended.err)
    assert before == sorted(tmp_path.rglob("*"))


def test_an_empty_name_of_the_repository_is_a_mistake(coffer, repo, monkeypatch):
    """Set and empty does not mean the policy's repository."""
    monkeypatch.setenv("COFFER_REPOSITORY", "")
    ended = coffer("snapshots")
    assert (2, True) == (ended.code, "COFFER_REPOSITORY: is set and empty" in ended.err)
