"""The entry point: what a start loads is a figure that every backup pays for."""

from __future__ import annotations

import json

import pytest

from coffer import __version__
from coffer.cli.main import main
from tests.harness.command_line import run_program
from tests.harness.programs import PROJECT
from tests.harness.programs import run_program as run_python

# What must not be loaded unless it is needed: some milliseconds each, a quarter of a second for pydantic.
HEAVY = ["annotated_types", "difflib", "pathspec", "pydantic", "pyfastcdc", "rich", "tempfile", "yaml"]
PROGRAM = """
    import json, sys
    from coffer.cli.main import main
    sys.stdout.write(json.dumps([main(), sorted({name.split(".")[0] for name in sys.modules} | {
        name for name in sys.modules if name.startswith("coffer")})]))
"""


def loaded_by(*arguments):
    """Run a command in a new process; return its exit code and the modules that it loaded."""
    done = run_python(PROGRAM, *map(str, arguments))
    code, modules = json.loads(done.stdout[done.stdout.rindex("[" + str(0)) :])
    return code, set(modules)


def test_the_version_loads_nothing_else():
    """`coffer --version` is answered without click and without the engine."""
    code, modules = loaded_by("--version")
    assert 0 == code
    assert {"coffer", "coffer.cli", "coffer.cli.main"} == {name for name in modules if name.startswith("coffer")}
    assert not modules & {*HEAVY, "click", "cryptography"}


def test_the_version_is_the_packages_own(capsys):
    """The one line holds name and version, also where other options stand beside it."""
    assert 0 == main(["--version"])
    assert f"coffer {__version__}\n" == capsys.readouterr().out
    assert 0 == main(["--version", "backup"])
    assert f"coffer {__version__}\n" == capsys.readouterr().out


def test_the_help_loads_no_command():
    """`coffer --help` lists the commands without importing one."""
    code, modules = loaded_by("--help")
    assert 0 == code
    assert not {name for name in modules if name.startswith(("coffer.cli.commands.", "coffer.repository"))}


@pytest.mark.parametrize("arguments", [["backup", PROJECT / "docs", "--source", "docs"], ["snapshots"]])
def test_a_usual_run_loads_nothing_that_it_does_not_need(coffer, repo, arguments):
    """No reader of policies, no patterns, no chunker for large files and no bar, in the second backup of a tree."""
    coffer("backup", PROJECT / "docs", "--source", "docs")
    code, modules = loaded_by(*arguments)
    assert 0 == code
    assert "coffer.repository.repository" in modules
    assert set() == modules & set(HEAVY)
    assert set() == {name for name in modules if name.startswith("coffer.config.")} - {"coffer.config.unlocking"}


def test_a_stop_before_anything_was_loaded_shows_no_traceback(capsys, monkeypatch):
    """Ctrl-C while modules are still read ends with one line."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("coffer.cli.application.run_application", interrupt)
    assert 1 == main(["snapshots"])
    assert "coffer: stopped\n" == capsys.readouterr().err


def test_the_program_is_installed_under_its_name():
    """`coffer` is a program that answers with its exit code."""
    assert (0, f"coffer {__version__}\n", "") == run_program("--version")
    assert 2 == run_program("no-such-command").code
