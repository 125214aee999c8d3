"""The line that a restored server runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from coffer.postgres.restore_command import restore_command


def run(line, name, destination, folder):
    """Run the line as PostgreSQL does: %f and %p replaced, %% a percent sign, by a shell, in the data folder."""
    line = line.replace("%%", "\0").replace("%f", name).replace("%p", destination).replace("\0", "%")
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False)


def shower(folder):
    """A program that writes its arguments to a file, one a line."""
    program = folder / "show it"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/shown"\nexit 7\n')
    program.chmod(0o700)
    return str(program)


def test_what_lies_in_the_spool_is_moved_and_nothing_is_started(tmp_path):
    """No start of Python for it."""
    spool = tmp_path / "a spool, 100 %"
    spool.mkdir()
    (spool / "000000010000000000000001").write_bytes(b"log")
    line = restore_command("db", spool=spool, program=(shower(tmp_path),))
    ended = run(line, "000000010000000000000001", "out", tmp_path)
    assert (0, "", "") == (ended.returncode, ended.stdout, ended.stderr)
    assert b"log" == (tmp_path / "out").read_bytes()
    assert [] == list(spool.iterdir())
    assert not (tmp_path / "shown").exists()


def test_what_does_not_is_asked_of_the_program_whose_exit_code_counts(tmp_path):
    """Every word arrives as it was given, whatever signs are in it."""
    words = {"--repo": tmp_path / "my repo's %d", "--key-file": "k;rm -r x"}
    line = restore_command("so;urce", spool=tmp_path / "spool", options=words, program=(shower(tmp_path),))
    ended = run(line, "00000002.history", "pg_wal/RECOVERYHISTORY", tmp_path)
    assert (7, "", "") == (ended.returncode, ended.stdout, ended.stderr)
    shown = (tmp_path / "shown").read_text().splitlines()
    assert ["wal", "fetch", "00000002.history", "pg_wal/RECOVERYHISTORY", "--source", "so;urce"] == shown[:6]
    assert [
        "--spool",
        str(tmp_path / "spool"),
        "--repo",
        f"{tmp_path}/my repo's %d",
        "--key-file",
        "k;rm -r x",
    ] == shown[6:]


def test_the_spool_lies_below_pg_wal_and_the_program_beside_python(tmp_path):
    """Where nothing else is said."""
    line = restore_command("db")
    assert line.startswith("mv pg_wal/coffer-spool/%f %p ")
    beside = Path(sys.executable).with_name("coffer")
    assert (str(beside) if beside.is_file() else "coffer") in line
    assert os.fspath(tmp_path) not in line
