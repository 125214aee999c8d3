"""From a command's function to an exit code: every way that a run can end."""

from __future__ import annotations

import os
import subprocess

import pytest

from coffer.cli.execution import execute
from coffer.cli.faults import Fault
from coffer.cli.outcome import Outcome, Rows
from coffer.cli.run import Run
from coffer.errors import BackendFullError, UsageError
from tests.harness.command_line import PROGRAM, Ended, run_program


@pytest.fixture
def ended(capsys):
    """A function that executes a command's function and returns how it ended."""

    def run(body, *, as_json=False, quiet=False, verbose=False, name="find"):
        current = Run(name, as_json=as_json, quiet=quiet, verbose=verbose, where={})
        code = execute(current, lambda: body(current))
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


def raising(error):
    """A command's function that raises."""

    def body(_run):
        raise error

    return body


ROWS = Rows("rows", [1, 2], lambda n: {"n": n}, lambda n: f"row {n}")


def test_an_outcome_is_written_as_lines(ended):
    """Lines, then rows, then what is known only after the rows."""
    found = ended(lambda _: Outcome(lines=["a"], rows=ROWS, totals=lambda: ({}, ["two rows"])))
    assert (0, "a\nrow 1\nrow 2\ntwo rows\n", "") == found


def test_the_same_outcome_is_written_as_json(ended):
    """Fields of the result, rows and totals; lines are for people."""
    body = lambda _: Outcome(result={"a": 1}, lines=["x"], rows=ROWS, totals=lambda: ({"n": 2}, ["x"]))
    out = ended(body, as_json=True).out
    assert out.startswith('{"schema": "coffer/1", "command": "find", "result": {"a": 1, "rows": [')
    assert '"n": 2}, "warnings": []' in out


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BackendFullError("object 'a': no space"), 1, "object 'a': no space"),
        (UsageError("what"), 2, "what"),
        (KeyboardInterrupt(), 1, "stopped"),
        (RuntimeError("broken\x1b[31m"), 1, "unexpected error: RuntimeError: broken\\x1b[31m"),
    ],
)
def test_every_error_ends_as_one_line(ended, error, code, line):
    """Ours, the user's and unexpected ones: a line, a hint, an exit code, in JSON the same."""
    assert (code, line) == ended(raising(error)).fault()[:2]
    found = ended(raising(error), as_json=True).envelope
    assert (code, line) == (found["exit_code"], found["error"]["message"])


def test_an_unexpected_error_shows_its_traceback_only_when_asked(ended):
    """--verbose is for whoever reports the mistake."""
    assert "Traceback" not in ended(raising(RuntimeError("x"))).err
    assert "Traceback" in ended(raising(RuntimeError("x")), verbose=True).err


def test_work_that_was_done_and_found_wrong_has_outcome_and_fault(ended):
    """The lines are on standard output, the fault on standard error, and the fault's code counts."""
    body = lambda _: Outcome(lines=["found it"], fault=Fault("damage-found", "bad", "look", 1))
    assert (1, "found it\n", "coffer: bad\nHINT: look\n") == ended(body)


def test_warnings_are_shown_while_it_runs_and_kept_for_json(ended):
    """Each goes to standard error with its file, escaped, and into the envelope."""

    def body(run):
        run.warn("vanished", "it\nis gone", b"srv/\xff")
        return Outcome(exit_code=3)

    assert (3, "coffer: warning: /srv/\\xff: it\\nis gone\n") == (ended(body).code, ended(body).err)
    found = ended(body, as_json=True, name="").envelope
    assert [{"code": "vanished", "message": "it\\nis gone", "path": "srv/\\xff", "path_base64": "c3J2L/8="}] == found[
        "warnings"
    ]


def test_what_was_opened_is_closed_before_the_verdict(ended, capsys):
    """An error while closing is the run's error: a verdict of success would be false."""

    def body(run):
        run.closing.callback(raising(BackendFullError("close: no space")), None)
        return Outcome(lines=["done"])

    assert (1, "close: no space") == ended(body).fault()[:2]


def test_a_reader_that_leaves_is_told_nothing(coffer, repo, tree):
    """`coffer ls | head -1` shows no error, and does not claim that all was written."""
    for number in range(2000):
        (tree / f"{number:05}-{'x' * 100}").touch()
    coffer("backup", tree)
    with subprocess.Popen(
        [PROGRAM, "ls", "-R", "latest"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert "" == process.stderr.read()
    assert 1 == process.returncode


@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_an_output_that_is_full_is_an_error(coffer, repo, unbuffered):
    """/dev/full refuses every byte, when it is written or when it is flushed; the run says so in one line."""
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM, "stats"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment
        )
    assert 1 == done.returncode
    assert [
        "coffer: output cannot be written: No space left on device",
        "HINT: Is the disk that the output goes to full?",
    ] == done.stderr.splitlines()


def test_verbose_says_what_the_store_was_asked(coffer, repo):
    """--verbose ends with the counts of the store's calls; --quiet with nothing."""
    assert "store: gets" in coffer("snapshots", "-v").err
    assert "" == coffer("snapshots", "-q").err


def test_closed_streams_do_not_end_a_run_and_are_not_taken_by_files(coffer, repo, tree):
    """A job without standard streams makes its backup; no file of the store becomes standard error."""
    assert 0 == run_program("backup", tree, wrapper=("sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-')).code
    assert 0 == coffer("verify").code


@pytest.mark.parametrize(
    "arguments", [["snapshots"], ["snapshots", "--json"], ["--version"], ["--help"], ["x", "--json"]]
)
def test_a_standard_output_that_is_closed_is_an_error(coffer, repo, arguments):
    """Nobody got the listing: the run ends with 1 and says why, and the interpreter adds nothing at exit."""
    ended = run_program(*arguments, wrapper=("sh", "-c", 'exec "$0" "$@" >&-'))
    assert (2 if "x" in arguments else 1, "") == (ended.code, ended.out)
    assert "coffer: output cannot be written: Bad file descriptor" == ended.err.splitlines()[0]
    assert "Exception ignored" not in ended.err


@pytest.mark.parametrize("arguments", [["backup", "tree"], ["ls", "latest", "--repo", "repo"]])
def test_a_working_folder_that_is_gone_is_a_usage_error(coffer, repo, tmp_path, arguments):
    """Relative paths lead nowhere any more; what is absolute works on."""
    script = 'mkdir "$1" && cd "$1" && rmdir "$1" && shift && exec "$0" "$@"'
    wrapper = ("sh", "-c", script, str(PROGRAM), str(tmp_path / "gone"))
    done = subprocess.run([*wrapper, *arguments], capture_output=True, text=True, check=False)
    assert (2, ["coffer: the working folder is gone", "HINT: Change to a folder that exists."]) == (
        done.returncode,
        done.stderr.splitlines(),
    )
    assert 0 == subprocess.run([*wrapper, "snapshots"], capture_output=True, check=False).returncode
