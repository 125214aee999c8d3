"""`coffer backup`: what is taken, under which name, with which settings, and what is said of it."""

from __future__ import annotations

import os

import pytest

from coffer.cli.commands import backup
from coffer.errors import UsageError
from tests.harness.programs import PROJECT


def test_a_backup_says_what_it_did(coffer, repo, tree):
    """The summary names the snapshot, files by what became of them, sizes, what was stored, and the time."""
    ended = coffer("backup", tree)
    assert (0, "") == (ended.code, ended.err)
    lines = ended.out.splitlines()
    assert lines[0].startswith("snapshot ")
    assert lines[0].endswith(f" of {tree}")
    assert "files:  3 (3 new, 0 changed, 0 unchanged)" in lines[1]
    assert ["size:", "stored:", "time:"] == [line.split()[0] for line in lines[2:]]


def test_an_unchanged_tree_is_not_read_again(coffer, repo):
    """The second backup of files that are older than a few seconds takes all of them over."""
    coffer("backup", PROJECT / "docs", "--source", "docs")
    stats = coffer("backup", PROJECT / "docs", "--source", "docs", "--json").result["snapshot"]["stats"]
    assert (0, 0) == (stats["read_bytes"], stats["files_new"])
    assert stats["files"] == stats["files_unchanged"]


def test_force_read_reads_all_the_same(coffer, repo):
    """--force-read reads every file and stores nothing twice."""
    coffer("backup", PROJECT / "docs", "--source", "docs")
    stats = coffer("backup", PROJECT / "docs", "--source", "docs", "--force-read", "--json").result["snapshot"]["stats"]
    assert stats["size_bytes"] == stats["read_bytes"]


def test_the_options_of_a_source_reach_the_snapshot(coffer, repo, tree):
    """Patterns, tags and flags do what they say."""
    (tree / "docs" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55")
    arguments = ["--exclude", "*.txt", "--include", "/a.txt", "--tag", "one", "--tag", "two", "--one-file-system"]
    coffer("backup", tree, "--source", "s", *arguments, "--exclude-caches")
    snapshot = coffer("snapshots", "--json").result["snapshots"][0]
    paths = [entry["path"] for entry in coffer("ls", "latest", tree, "-R", "--json").result["entries"]]
    names = [path.removeprefix(str(tree).lstrip("/")).lstrip("/") for path in paths]
    assert ["one", "two"] == snapshot["tags"]
    assert ["", "a.txt", "docs", "link", "docs/CACHEDIR.TAG"] == names


def test_a_head_that_cannot_be_remembered_is_a_warning(coffer, repo, tree, tmp_path, monkeypatch):
    """The backup is whole, so the code stays 0; but nobody would notice the snapshot's removal, and that is said."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("COFFER_STATE_DIR", str(tmp_path / "file"))
    envelope = coffer("backup", tree, "--source", "s", "--json").envelope
    assert (True, 1) == (envelope["ok"], envelope["warnings_count"])
    (warning,) = envelope["warnings"]
    assert "head-not-remembered" == warning["code"]
    assert f"({tmp_path}/file/heads: Not a directory)" in warning["message"]


class TestNames:
    @pytest.mark.parametrize(
        ("paths", "expected"),
        [
            (("/etc",), "/etc"),
            (("/srv", "/etc/"), "/etc,/srv"),
            (("/etc", "/etc"), "/etc"),
            (("/srv/a@b",), "/srv/a_b"),
            (("/x\n\udcff",), "/x\\n\\xff"),
        ],
    )
    def test_the_name_follows_from_the_paths(self, paths, expected):
        """The same paths in any order are the same source; the name can stand in latest:SOURCE@TIME."""
        assert expected == backup.derived_name(paths)

    def test_relative_paths_count_from_the_working_folder(self, tmp_path, monkeypatch):
        """`coffer backup .` in two folders is two sources."""
        monkeypatch.chdir(tmp_path)
        assert str(tmp_path) == backup.derived_name((".",))

    def test_many_paths_need_a_name(self):
        """A shell's * gives other paths next time, and would begin a new chain each time."""
        with pytest.raises(UsageError, match="5 paths, and no --source"):
            backup.derived_name(tuple("abcde"))

    @pytest.mark.parametrize("name", ["", " x", "a@b", "a\nb", "\udcff"])
    def test_a_name_that_could_not_be_asked_for_is_refused(self, coffer, repo, tree, name):
        """A source must be nameable as latest:SOURCE."""
        assert 2 == coffer("backup", tree, "--source", name).fault()[0]
        assert [] == coffer("snapshots", "--json").result["snapshots"]

    def test_nothing_to_back_up_is_a_usage_error(self, coffer, repo):
        """Neither paths nor a source: the hint says how both are given."""
        code, line, hint = coffer("backup").fault()
        assert (2, "nothing to back up is named") == (code, line)
        assert "--source NAME" in hint


class TestIncomplete:
    def test_files_that_cannot_be_saved_are_warnings_and_exit_code_3(self, coffer, repo, tree, monkeypatch):
        """Each is named, at most ten are shown, all are counted, and the rest is saved."""
        for number in range(12):
            (tree / f"gone{number:02}").write_text("x")
        real_open = os.open

        def vanish(path, *args, **more):
            if isinstance(path, bytes) and b"gone" in path:
                raise FileNotFoundError(2, "No such file or directory", path)
            return real_open(path, *args, **more)

        monkeypatch.setattr(os, "open", vanish)
        ended = coffer("backup", tree)
        assert 3 == ended.code
        lines = ended.err.splitlines()
        assert 11 == len(lines)
        assert f"coffer: warning: {tree}/gone00: vanished" in lines[0]
        assert lines[-1] == "coffer: warning: and 2 more warnings; --verbose shows the first 1000"
        assert "incomplete: 12 warnings" in ended.out
        found = coffer("backup", tree, "--json")
        assert (3, 12, None) == (found.code, found.envelope["warnings_count"], found.envelope["error"])
        assert {"vanished"} == {warning["code"] for warning in found.envelope["warnings"]}
        assert 12 == len(coffer("backup", tree, "-v").err.split("warning: ")) - 1
        assert "incomplete: 12 warnings" in coffer("snapshots").out


class TestTimeAndSpeed:
    def test_a_run_that_takes_too_long_stops_with_a_checkpoint(self, coffer, repo, tree):
        """--max-duration 0s ends before the first file, with the error of an interrupted run."""
        code, line, hint = coffer("backup", tree, "--max-duration", "0s").fault()
        assert (1, f"backup of '{tree}': the time given to it is over") == (code, line)
        assert "goes on from where it stopped" in hint

    @pytest.mark.parametrize("time", ["2020-01-01T00:00", "soon", "25:00"])
    def test_a_deadline_must_be_a_time_to_come(self, coffer, repo, tree, time):
        """What is no time, or has passed, is refused."""
        assert 2 == coffer("backup", tree, "--deadline", time).fault()[0]

    def test_a_deadline_far_away_changes_nothing(self, coffer, repo, tree):
        """A run that is done in time is an ordinary one; so is one under a limit of speed."""
        limits = ["--deadline", "2999-01-01T00:00", "--max-duration", "4h", "--io-limit", "1GB/s"]
        assert 0 == coffer("backup", tree, *limits).code

    @pytest.mark.parametrize(("option", "value"), [("--max-duration", "30"), ("--io-limit", "5Mb/s")])
    def test_a_quantity_needs_its_unit(self, coffer, repo, tree, option, value):
        """The engine's own parsers refuse it and say what is allowed."""
        code, line, _ = coffer("backup", tree, option, value).fault()
        assert 2 == code
        assert "allowed:" in line


class TestPolicies:
    @pytest.fixture
    def policy(self, tmp_path, tree, monkeypatch):
        """A policy with two sources; `home` goes to the second location only."""
        file = tmp_path / "config" / "coffer.yaml"
        file.parent.mkdir()
        file.write_text(f"""
repository: {{key_file: keys/k, state_dir: state}}
sources:
  - {{name: tree, paths: ["{tree}"], exclude: ["*.bin"], tags: [t], exclude_caches: true, one_file_system: true}}
  - {{name: home, paths: ["{tree}/docs"], locations: [second]}}
local_backup:
  locations:
    primary: {{path: "one", retention: "30d", frequency: "daily"}}
    second: {{path: "two", retention: "30d", frequency: "daily"}}
performance_config:
  compression: {{level: 5, chunk_size: 1MB}}
  concurrency: {{max_workers: 2, io_limit: 100MB/s}}
""")
        monkeypatch.setenv("COFFER_POLICY", str(file))
        return file

    def test_a_source_of_the_policy_is_backed_up_with_all_its_settings(self, coffer, policy, monkeypatch):
        """--source alone takes paths, patterns, tags, workers, level, pack size and limits from the policy."""
        seen = {}
        real = backup.backup

        def spy(repo, source, **more):
            seen.update(source=source, options=more["options"])
            return real(repo, source, **more)

        monkeypatch.setattr(backup, "backup", spy)
        coffer("init")
        assert 0 == coffer("backup", "--source", "tree", "--tag", "by-hand", "--exclude", "link").code
        assert (("*.bin", "link"), ("t", "by-hand"), True, True) == (
            seen["source"].exclude,
            seen["source"].tags,
            seen["source"].exclude_caches,
            seen["source"].one_file_system,
        )
        assert (5, 2, 1_000_000, True) == (
            seen["options"].level,
            seen["options"].workers,
            seen["options"].pack_size_bytes,
            seen["options"].deadline_s is not None,
        )

    def test_it_goes_to_the_first_of_its_own_locations(self, coffer, policy):
        """A source that does not go to the first location of the policy goes to the one that it names."""
        coffer("init", "--location", "second")
        coffer("backup", "--source", "home")
        assert ["home"] == [
            s["source"] for s in coffer("snapshots", "--location", "second", "--json").result["snapshots"]
        ]

    def test_it_goes_to_the_repository_that_is_named(self, coffer, policy, repo, tmp_path):
        """COFFER_REPOSITORY or --repo is nearer than the policy's locations; the settings stay the policy's."""
        assert 0 == coffer("backup", "--source", "home").code
        assert ["home"] == [s["source"] for s in coffer("snapshots", "--json").result["snapshots"]]
        assert not (tmp_path / "one").exists()

    def test_paths_into_a_location_of_the_policy_use_its_settings(self, coffer, policy, tree, monkeypatch):
        """`coffer backup PATHS` without a repository goes to the policy's first location, at the policy's level."""
        seen = {}
        real = backup.backup
        monkeypatch.setattr(
            backup,
            "backup",
            lambda *a, **more: (seen.update(more["options"].__getstate__() and more), real(*a, **more))[1],
        )
        coffer("init")
        assert 0 == coffer("backup", tree).code
        assert (5, None) == (seen["options"].level, seen["options"].deadline_s)

    def test_compression_that_is_switched_off_is_off(self, coffer, policy):
        """Everything is stored as it is, though most of it would shrink: what is added is at least its size."""
        policy.write_text(
            policy.read_text().replace("local_backup:\n", "local_backup:\n  compression: {enabled: false}\n")
        )
        coffer("init")
        stats = coffer("backup", "--source", "tree", "--json").result["snapshot"]["stats"]
        assert stats["stored_bytes"] >= stats["raw_bytes_new"] > 2000

    def test_an_unknown_source_is_refused_with_those_there_are(self, coffer, policy):
        """The message names the policy's sources."""
        code, line, _ = coffer("backup", "--source", "treee").fault()
        assert (2, "source 'treee': the policy has tree, home") == (code, line)

    def test_a_broken_policy_is_told_with_its_first_mistakes(self, coffer, policy):
        """The command line shows file, line and key, and the command that shows all."""
        policy.write_text("sources: [{name: a}]\nunknown: 1\n")
        ended = coffer("backup", "--source", "a")
        assert 2 == ended.code
        assert "2 mistakes" in ended.err
        assert "HINT: Run 'coffer config check'" in ended.err
