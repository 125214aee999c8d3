"""The commands by name, and command lines that cannot be read."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import click
import pytest

from coffer.cli.application import COMMANDS, application, run_application
from tests.harness.command_line import run_program
from tests.harness.programs import PROJECT


def leaves():
    """Every command of the program with its words."""
    for name in COMMANDS:
        command = importlib.import_module(f"coffer.cli.commands.{name}").COMMAND
        if isinstance(command, click.Group):
            yield from ((f"{name} {word}", inner) for word, inner in command.commands.items())
        else:
            yield name, command


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_module_says(name):
    """The one-line texts of `coffer --help` are the first lines of the commands' own help."""
    command = importlib.import_module(f"coffer.cli.commands.{name}").COMMAND
    assert name == command.name
    assert COMMANDS[name] == command.help.strip().splitlines()[0]


def test_every_command_takes_json_quiet_and_verbose():
    """The three options are everywhere, and every option has a help text."""
    found = dict(leaves())
    assert 19 == len(found)
    for words, command in found.items():
        names = {flag for parameter in command.params for flag in parameter.opts}
        assert {"--json", "--quiet", "--verbose"} <= names, words
        assert [] == [p.name for p in command.params if isinstance(p, click.Option) and not p.help], words


def test_no_secret_is_an_argument():
    """A passphrase on the command line could be read by every user of the machine."""
    options = {flag for _, command in leaves() for parameter in command.params for flag in parameter.opts}
    assert {"--passphrase-file", "--passphrase"} == {name for name in options if "pass" in name}
    init = dict(leaves())["init"]
    assert [True] == [p.is_flag for p in init.params if "--passphrase" in p.opts]


def test_help_and_version_end_with_0(capsys):
    """Asked for, the help is the answer."""
    assert 0 == run_application(["--help"])
    assert "Exit codes: 0 all well" in capsys.readouterr().out
    assert 0 == run_application(["backup", "-h"])
    assert "--max-duration" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["keys"], ["config"]])
def test_no_command_is_a_usage_error_with_the_help(capsys, arguments):
    """Not asked for, the help goes to standard error and the exit code is 2."""
    assert 2 == run_application(arguments)
    captured = capsys.readouterr()
    assert "" == captured.out
    assert captured.err.startswith("Usage: coffer")


@pytest.mark.parametrize(
    ("arguments", "line", "hint"),
    [
        (["snapshts"], "no such command 'snapshts', did you mean 'snapshots'?", "coffer --help"),
        (["xyzzy"], "no such command 'xyzzy'", "coffer --help"),
        (["ls"], "missing argument 'SNAPSHOT'", "coffer ls --help"),
        (["ls", "latest", "--recursiv"], "no such option '--recursiv'", "coffer ls --help"),
        (["keys", "shew"], "no such command 'shew'", "coffer keys --help"),
        (["restore", "latest"], "missing option '--target'", "coffer restore --help"),
        (["restore", "latest", "-t", "x", "--overwrite", "some"], "invalid value for '--overwrite'", "restore --help"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_a_hint(coffer, arguments, line, hint):
    """Exit code 2, lower case, no period, and how to learn more."""
    code, found, found_hint = coffer(*arguments).fault()
    assert 2 == code
    assert found.startswith(line)
    assert hint in found_hint


def test_json_is_kept_where_the_command_line_cannot_be_read(coffer):
    """Whoever asked for JSON gets JSON, whatever is wrong with the rest."""
    ended = coffer("ls", "--json")
    assert ("ls", "usage", 2) == (ended.envelope["command"], ended.envelope["error"]["code"], ended.code)
    assert "" == coffer("nothing", "--json").envelope["command"]
    assert "keys show" == coffer("keys", "show", "--bogus", "--json").envelope["command"]


def test_a_stop_while_the_command_line_is_read_is_one_line(coffer, monkeypatch):
    """Ctrl-C at a prompt of click ends with 1 and without a traceback."""

    def abort(*_, **__):
        raise click.Abort

    monkeypatch.setattr("coffer.cli.lazygroup.LazyGroup.main", abort)
    assert (1, "stopped") == coffer("snapshots").fault()[:2]


def test_a_help_page_that_nobody_reads_to_its_end_is_no_error(monkeypatch):
    """`coffer --help | head -1` shows no traceback."""

    def leave(*_, **__):
        raise BrokenPipeError

    class Closed:
        closed = False

        def close(self):
            self.closed = True

    stream = Closed()
    monkeypatch.setattr("coffer.cli.lazygroup.LazyGroup.main", leave)
    monkeypatch.setattr(sys, "stderr", stream)
    assert 1 == run_application(["--help"])
    assert stream.closed


def test_the_group_lists_its_commands_in_the_order_of_use():
    """Init comes first, and an unknown name is none of them."""
    group = application()
    context = click.Context(group)
    assert list(COMMANDS) == group.list_commands(context)
    assert group.get_command(context, "nothing") is None


def test_a_locale_without_a_character_does_not_end_a_listing(coffer, repo, tree):
    """Where the terminal's encoding lacks a character its escape is written."""
    (tree / "größe").touch()
    coffer("backup", tree)
    ended = run_program("find", "gr*", environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert (0, True) == (ended.code, "gr\\xf6\\xdfe" in ended.out)


def test_the_page_of_the_command_line_is_what_it_says_itself():
    """docs/cli.md is made from the commands; an old page is an error."""
    command = [sys.executable, str(PROJECT / "scripts" / "generate_cli_md.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


def test_the_page_names_every_variable_that_the_command_line_reads():
    """Each COFFER_ variable in the code of the command line and of the policy's search is in docs/cli.md."""
    page = (PROJECT / "docs" / "cli.md").read_text(encoding="utf-8")
    folder = PROJECT / "include" / "coffer"
    code = "".join(
        path.read_text(encoding="utf-8") for part in ("cli", "config") for path in folder.glob(f"{part}/**/*.py")
    )
    named = set(re.findall(r"COFFER_[A-Z_]+[A-Z]", code))
    assert {"COFFER_REPOSITORY", "COFFER_KEY_FILE", "COFFER_PASSPHRASE", "COFFER_STATE_DIR"} <= named
    assert set() == {name for name in named if f"`{name}`" not in page}
