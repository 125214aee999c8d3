"""`coffer restore`: what its options do to the restore, and how its end is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coffer.cli.commands import restore
from coffer.restore import RestoreFailure
from coffer.verification.compare import compare_trees


@pytest.fixture
def backed_up(coffer, repo, tree):
    """The tree, in one snapshot."""
    coffer("backup", tree, "--source", "s")
    return tree


def below(target, tree):
    """Where the tree lies in a target."""
    return target / str(tree).lstrip("/")


def test_a_restore_gives_back_what_was_backed_up(coffer, backed_up, tmp_path):
    """Byte for byte and attribute by attribute; the summary says how much that was."""
    ended = coffer("restore", "latest", "--target", tmp_path / "out", "--verify")
    assert (0, "") == (ended.code, ended.err)
    assert () == compare_trees(backed_up, below(tmp_path / "out", backed_up)).differences
    lines = ended.out.splitlines()
    assert lines[0].endswith(f"was restored to {tmp_path / 'out'}")
    assert lines[1].startswith("files:  3, ")


def test_the_options_choose_what_is_restored(coffer, backed_up, tmp_path):
    """--path takes a file or a folder, --include and --exclude take patterns."""
    arguments = ["--path", backed_up / "docs", "--path", f"{backed_up}/a.txt/", "--exclude", "*.bin"]
    stats = coffer("restore", "latest", "-t", tmp_path / "1", *arguments, "--json").result["stats"]
    assert 2 == stats["files"]
    assert not (below(tmp_path / "1", backed_up) / "docs/deep/c.bin").exists()
    assert (
        1 == coffer("restore", "latest", "-t", tmp_path / "2", "--include", "*.bin", "--json").result["stats"]["files"]
    )


def test_a_target_that_is_not_empty_is_refused(coffer, backed_up, tmp_path):
    """Nothing is written, and the hint says how it would be allowed."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    code, line, hint = coffer("restore", "latest", "-t", tmp_path / "out").fault()
    assert (1, f"target {tmp_path / 'out'}: is not empty") == (code, line)
    assert "--overwrite" in hint
    assert ["mine"] == [path.name for path in (tmp_path / "out").iterdir()]


@pytest.mark.parametrize(
    ("how", "expected"), [("never", "mine, and longer"), ("changed", "alpha\n" * 100), ("always", "alpha\n" * 100)]
)
def test_overwrite_says_what_becomes_of_files_that_are_there(coffer, backed_up, tmp_path, how, expected):
    """Never keeps them, changed and always bring back the snapshot's."""
    coffer("restore", "latest", "-t", tmp_path / "out")
    file = below(tmp_path / "out", backed_up) / "a.txt"
    file.write_text("mine, and longer")
    assert 0 == coffer("restore", "latest", "-t", tmp_path / "out", "--overwrite", how).code
    assert expected == file.read_text()


class TestDryRun:
    def test_the_plan_is_listed_and_nothing_written(self, coffer, backed_up, tmp_path):
        """A row for each entry with what would be done, and the sum."""
        ended = coffer("restore", "latest", "-t", tmp_path / "out", "-n")
        assert 0 == ended.code
        assert not (tmp_path / "out").exists()
        assert f"create                600 {backed_up}/a.txt" in ended.out
        assert ended.out.splitlines()[-1].endswith("nothing was written")
        result = coffer("restore", "latest", "-t", tmp_path / "out", "--dry-run", "--json").result
        assert (True, len(result["plan"])) == (result["dry_run"], sum(result["counts"].values()))
        assert 600 + 500 + 5120 == result["size_bytes"]

    def test_what_would_be_refused_makes_it_incomplete(self, coffer, backed_up, tmp_path, monkeypatch):
        """A dry run ends as the restore would."""
        real = restore.plan_restore

        def refusing(*arguments):
            yield from (replace(planned, action="refuse") for planned in real(*arguments))

        monkeypatch.setattr(restore, "plan_restore", refusing)
        assert 3 == coffer("restore", "latest", "-t", tmp_path / "out", "-n").code

    def test_why_something_would_be_refused_is_a_warning(self, coffer, backed_up, tmp_path):
        """A folder stands where the file belongs: the plan says so, as the restore would."""
        (below(tmp_path / "out", backed_up) / "a.txt").mkdir(parents=True)
        ended = coffer("restore", "latest", "-t", tmp_path / "out", "-n", "--overwrite", "changed")
        assert 3 == ended.code
        assert f"coffer: warning: {backed_up}/a.txt: " in ended.err
        assert "1 to refuse" in ended.out
        more = coffer("restore", "latest", "-t", tmp_path / "out", "-n", "--overwrite", "changed", "--json")
        assert ["restore-target"] == [warning["code"] for warning in more.envelope["warnings"]]

    def test_a_snapshot_without_files_has_nothing_to_do(self, coffer, backed_up, tmp_path, monkeypatch):
        """The sum of nothing is said in words."""
        monkeypatch.setattr(restore, "plan_restore", lambda *_: iter(()))
        assert "nothing to do; 0 B to write" in coffer("restore", "latest", "-t", tmp_path / "out", "-n").out


def test_failures_and_warnings_are_told_and_make_it_incomplete(coffer, backed_up, tmp_path, monkeypatch):
    """Each is named with its file; failures are in the result of their own; the exit code is 3."""
    real = restore.restore

    def partial(*arguments, **more):
        done = real(*arguments, **more)
        failures = (RestoreFailure(b"srv/\x1b", "object-corrupt", "damaged"),)
        return replace(done, failures=failures, failures_count=1, warnings=failures, warnings_count=2000)

    monkeypatch.setattr(restore, "restore", partial)
    ended = coffer("restore", "latest", "-t", tmp_path / "1")
    assert 3 == ended.code
    assert "coffer: warning: /srv/\\x1b: damaged" in ended.err
    assert "but for 1 entry" in ended.out
    found = coffer("restore", "latest", "-t", tmp_path / "2", "--json").envelope
    assert (2001, 1, "object-corrupt") == (
        found["warnings_count"],
        found["result"]["failures_count"],
        found["result"]["failures"][0]["code"],
    )


def test_a_lost_block_counts_with_all_its_entries(coffer, backed_up, tmp_path, monkeypatch):
    """The verdict and the result say how many entries are lost; the warning that tells of them is one."""
    real = restore.restore

    def partial(*arguments, **more):
        failures = (RestoreFailure(b"srv", "object-corrupt", "damaged", 243),)
        return replace(real(*arguments, **more), failures=failures, failures_count=243)

    monkeypatch.setattr(restore, "restore", partial)
    ended = coffer("restore", "latest", "-t", tmp_path / "1")
    assert ", but for 243 entries\n" in ended.out
    assert "more warning" not in ended.err
    found = coffer("restore", "latest", "-t", tmp_path / "2", "--json").envelope
    assert (1, 243) == (found["warnings_count"], found["result"]["failures_count"])


def test_verified_files_are_counted(coffer, backed_up, tmp_path, monkeypatch):
    """What --verify read again is in the summary."""
    real = restore.restore
    monkeypatch.setattr(
        restore, "restore", lambda *a, **m: replace(done := real(*a, **m), stats={**done.stats, "verified_files": 3})
    )
    assert "verified: 3 files read again" in coffer("restore", "latest", "-t", tmp_path / "1").out


def test_the_home_folder_may_be_written_as_a_tilde(coffer, backed_up, tmp_path, monkeypatch):
    """A shell does not expand --target=~/x."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path / "x") == coffer("restore", "latest", "--target=~/x", "--json").result["target"]
    assert Path(tmp_path / "x").is_dir()


def test_a_pattern_that_nothing_fits_is_a_usage_error(coffer, repo, tree, tmp_path):
    """Also as a plan, in lines and in JSON: exit code 2, and the pattern in the message."""
    coffer("backup", tree, "--source", "s")
    for more in ((), ("--dry-run",)):
        code, line, _ = coffer("restore", "latest", "-t", tmp_path / "out", "--include", "typo.txt", *more).fault()
        assert (2, True) == (code, line.startswith("include 'typo.txt': nothing in snapshot "))
    ended = coffer("restore", "latest", "-t", tmp_path / "out", "--include", "typo.txt", "--dry-run", "--json")
    assert (2, []) == (ended.code, ended.result["plan"])


def test_a_pattern_that_nothing_fits_leaves_no_folder(coffer, backed_up, tmp_path):
    """The target and the folders above it that were made for it are taken back; what was there stays."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "empty").mkdir()
    for target in ("new", "there/a/b", "there/empty"):
        code, line, _ = coffer("restore", "latest", "-t", tmp_path / target, "--include", "typo.txt").fault()
        assert (2, True) == (code, line.startswith("include 'typo.txt': nothing in snapshot "))
    assert not (tmp_path / "new").exists()
    assert ["empty"] == [path.name for path in (tmp_path / "there").iterdir()]


def test_the_name_of_a_file_alone_leads_to_find(coffer, backed_up, tmp_path):
    """--path wants the whole path: the hint is a command that finds it, as it stands."""
    code, line, hint = coffer("restore", "latest", "-t", tmp_path / "out", "--path", "b.txt").fault()
    assert (2, True) == (code, line.startswith("path 'b.txt': not in snapshot "))
    words = hint.partition("'coffer find ")[2].partition("'")[0].split()
    assert f"{backed_up}/docs/b.txt" in coffer("find", *words).out


def test_durable_is_passed_on(coffer, backed_up, tmp_path, monkeypatch):
    """The restore that is asked for it flushes, the other one does not."""
    flushed = []
    monkeypatch.setattr("coffer.restore.execute.flush_file_systems", flushed.append)
    assert 0 == coffer("restore", "latest", "-t", tmp_path / "1").code
    assert [] == flushed
    assert 0 == coffer("restore", "latest", "-t", tmp_path / "2", "--durable").code
    assert 1 == len(flushed)
