"""The line that a restored server runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
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


def test_what_is_about_to_come_is_waited_for(tmp_path):
    """As long as its mark is there; then it is taken, or asked for."""
    spool = tmp_path / "spool"
    spool.mkdir()
    mark = spool / "000000010000000000000001.coming"
    mark.touch()

    def bring():
        (spool / "000000010000000000000001").write_bytes(b"log")
        mark.unlink()

    threading.Timer(0.2, bring).start()
    line = restore_command("db", spool=spool, program=(shower(tmp_path),))
    assert 0 == run(line, "000000010000000000000001", "out", tmp_path).returncode
    assert (b"log", False) == ((tmp_path / "out").read_bytes(), (tmp_path / "shown").exists())
    mark.touch()
    threading.Timer(0.2, mark.unlink).start()
    assert 7 == run(line, "000000010000000000000001", "out", tmp_path).returncode


def test_a_mark_of_a_process_that_was_killed_is_not_waited_for_without_end(tmp_path, monkeypatch):
    """After a while the program is asked."""
    monkeypatch.setattr("coffer.postgres.restore_command._WAITS", 5)
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "000000010000000000000001.coming").touch()
    line = restore_command("db", spool=spool, program=(shower(tmp_path),))
    assert 7 == run(line, "000000010000000000000001", "out", tmp_path).returncode


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
    assert "mv pg_wal/coffer-spool/%f %p " in line
    beside = Path(sys.executable).with_name("coffer")
    assert (str(beside) if beside.is_file() else "coffer") in line
    assert os.fspath(tmp_path) not in line
