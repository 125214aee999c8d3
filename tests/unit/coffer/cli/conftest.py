"""A command line in this process, a repository, and a tree to back up."""

from __future__ import annotations

import os

import pytest

from coffer.cli.main import main
from tests.harness.command_line import Ended


@pytest.fixture
def coffer(capsys, tmp_path, monkeypatch):
    """A function that runs one command line in this process; `--json` output is held against the schema."""
    monkeypatch.setenv("COFFER_STATE_DIR", str(tmp_path / "state"))

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        ended = Ended(code, captured.out, captured.err)
        if "--json" in arguments:
            assert ended.envelope["exit_code"] == code
            assert ended.envelope["ok"] == (code == 0)
        return ended

    return run


@pytest.fixture
def repo(coffer, tmp_path, monkeypatch):
    """The folder of an empty repository, which COFFER_REPOSITORY names; its key lies beside it."""
    folder = tmp_path / "repo"
    assert coffer("init", folder).code == 0
    monkeypatch.setenv("COFFER_REPOSITORY", str(folder))
    return folder


@pytest.fixture
def tree(tmp_path):
    """A folder of files, old enough not to look as if they changed while they are read."""
    root = tmp_path / "tree"
    (root / "docs" / "deep").mkdir(parents=True)
    (root / "a.txt").write_text("alpha\n" * 100)
    (root / "docs" / "b.txt").write_text("beta\n" * 100)
    (root / "docs" / "deep" / "c.bin").write_bytes(bytes(range(256)) * 20)
    (root / "link").symlink_to("a.txt")
    for path in [*root.rglob("*"), root]:
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    return root
