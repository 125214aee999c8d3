"""The commands of the README, as they stand there, from an empty folder to a restored file."""

from __future__ import annotations

import os
import re
import shlex
import subprocess

import pytest

from tests.harness.command_line import PROGRAM, run_program
from tests.harness.programs import PROJECT

pytestmark = pytest.mark.e2e
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def readme_commands(heading):
    """The lines of the first code block below a heading."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.search(r"```\w*\n(.*?)```", section, re.DOTALL)[1].splitlines()


@pytest.fixture
def machine(tmp_path):
    """A folder that stands for a machine: a policy, two folders to back up, and how paths of the README map to it."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "coffer.yaml").write_text("sources: []\n")
    for name in ("etc", "srv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path


def run_lines(lines, machine, environment):
    """Run lines of a shell with the README's paths put into the machine; return the outputs of `coffer`."""
    outputs = []
    for line in lines:
        words = [re.sub(r"^/(etc|srv|backups|media|tmp)\b", rf"{machine}/\1", word) for word in shlex.split(line)]
        if words[:1] == ["export"]:
            name, _, value = words[1].partition("=")
            environment[name] = re.sub(r"^/", f"{machine}/", value)
        elif words and words[0].endswith("coffer"):
            done = subprocess.run(
                [PROGRAM, *words[1:]], cwd=machine, env=environment, capture_output=True, text=True, check=False
            )
            assert (0, "") == (done.returncode, done.stderr), line
            outputs.append(done.stdout)
    return outputs


def test_the_readmes_backup_and_restore_work_as_they_stand(machine):
    """Back up by the README; carry store and key to "another machine"; restore by the README."""
    environment = {**os.environ, "COFFER_STATE_DIR": str(machine / "state")}
    backed_up = run_lines(readme_commands("Back up"), machine, environment)
    assert 4 <= len(backed_up)
    store = next(path.parent for path in machine.rglob("coffer.json"))
    key = next(path for path in machine.rglob("*.key"))
    exports = dict(line.removeprefix("export ").split("=") for line in readme_commands("Restore") if "export" in line)
    for source, wanted in ((store, exports["COFFER_REPOSITORY"]), (key, exports["COFFER_KEY_FILE"])):
        (machine / wanted[1:]).parent.mkdir(parents=True, exist_ok=True)
        source.rename(machine / wanted[1:])
    (machine / "tmp").mkdir()
    restored = run_lines(readme_commands("Restore"), machine, environment)
    assert 2 <= len(restored)
    target = machine / "tmp" / "restored" / str(machine).lstrip("/")
    assert ["etc", "srv"] == [(target / name / "file").read_text() for name in ("etc", "srv")]


def test_a_whole_life_of_a_repository(tmp_path, monkeypatch):
    """init, backup, change, backup, find, diff, restore the old file, check, verify, stats: one after the other."""
    monkeypatch.setenv("COFFER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COFFER_REPOSITORY", str(tmp_path / "repo"))
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "letter").write_text("first\n")
    assert 0 == run_program("init").code
    assert 0 == run_program("backup", tree, "--source", "s").code
    old = run_program("ls", "latest", "--json").result["snapshot"]["id"]
    (tree / "letter").write_text("second\n")
    assert 0 == run_program("backup", tree, "--source", "s").code
    assert 2 == run_program("find", "letter", "--json").result["found"]
    assert 1 == run_program("diff", old, "latest", "--json").result["counts"]["changed"]
    assert 0 == run_program("restore", old, "-t", tmp_path / "out", "--path", tree / "letter").code
    assert "first\n" == (tmp_path / "out" / str(tree / "letter").lstrip("/")).read_text()
    for command in ("check", "verify", "stats"):
        ended = run_program(command)
        assert (0, "") == (ended.code, ended.err)
