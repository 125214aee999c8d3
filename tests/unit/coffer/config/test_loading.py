"""From the file to the policy: where it is found, what relative paths count from, and what can be wrong with a file."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from coffer import config
from coffer.config import check_policy, find_policy, format_mistakes, load_policy, parse_policy, project_folder_of
from coffer.errors import PolicyInvalidError

PROJECT = Path(__file__).resolve().parents[4]


def test_the_variable_names_the_file(tmp_path, monkeypatch):
    """COFFER_POLICY wins; a relative path counts from the working folder, ~ is the home folder."""
    monkeypatch.chdir(tmp_path)
    assert Path("/etc/coffer.yaml") == find_policy({"COFFER_POLICY": "/etc/coffer.yaml"})
    assert tmp_path / "other.yaml" == find_policy({"COFFER_POLICY": "other.yaml"})
    assert Path.home() / "p.yaml" == find_policy({"COFFER_POLICY": "~/p.yaml"})
    monkeypatch.setenv("COFFER_POLICY", "/etc/coffer.yaml")
    assert Path("/etc/coffer.yaml") == find_policy()


def test_the_working_folder_comes_before_the_project(tmp_path, monkeypatch):
    """Without the variable, config/coffer.yaml of the working folder is taken, else the project's own."""
    monkeypatch.chdir(tmp_path)
    assert PROJECT / "config" / "coffer.yaml" == find_policy({"COFFER_POLICY": ""})
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "coffer.yaml").touch()
    assert tmp_path / "config" / "coffer.yaml" == find_policy({})


def test_folders_above_the_working_folder_are_not_searched(tmp_path, monkeypatch):
    """A policy that someone put into a shared folder above is not taken."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "coffer.yaml").touch()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert PROJECT / "config" / "coffer.yaml" == find_policy({})


@pytest.mark.parametrize("part", ["config", "config/coffer.yaml"])
def test_a_policy_that_others_may_write_is_refused_in_the_working_folder(tmp_path, monkeypatch, part):
    """Nobody named it, and anybody may have written it: one mistake, with what to do. COFFER_POLICY makes it good."""
    (tmp_path / "config").mkdir()
    file = tmp_path / "config" / "coffer.yaml"
    file.write_text("timezone: UTC\n")
    monkeypatch.chdir(tmp_path)
    assert [] == check_policy()
    (tmp_path / part).chmod(0o777)
    (mistake,) = check_policy()
    assert (
        f"not trusted: the {'file' if '/' in part else 'folder'} may be written by others, mode 0777" == mistake.problem
    )
    assert "COFFER_POLICY" in mistake.allowed
    with pytest.raises(PolicyInvalidError, match="not trusted"):
        load_policy()
    monkeypatch.setenv("COFFER_POLICY", str(file))
    assert [] == check_policy()


def test_the_projects_own_policy_is_trusted_like_its_code(tmp_path, monkeypatch):
    """In the folder that the code runs from, whoever may change the policy may change the code."""
    monkeypatch.setattr("coffer.config.loading._PROJECT", tmp_path)
    (tmp_path / "config").mkdir(mode=0o777)
    (tmp_path / "config").chmod(0o777)
    (tmp_path / "config" / "coffer.yaml").write_text("timezone: UTC\n")
    monkeypatch.chdir(tmp_path)
    assert [] == check_policy()


def test_relative_paths_count_from_the_folder_that_holds_config(monkeypatch):
    """The project folder is the parent of config/, else the file's own folder."""
    monkeypatch.chdir("/usr")
    assert Path("/srv/p") == project_folder_of(Path("/srv/p/config/coffer.yaml"))
    assert Path("/etc") == project_folder_of(Path("/etc/coffer.yaml"))
    assert Path("/usr") == project_folder_of(Path("config/coffer.yaml"))


def test_a_policy_is_loaded_from_the_file_that_is_found(tmp_path, monkeypatch):
    """Without a path, the file that COFFER_POLICY names is read and checked."""
    file = tmp_path / "config" / "p.yaml"
    file.parent.mkdir()
    file.write_text("sources: [{name: a, paths: [data/../x, ~/y, /z]}]")
    monkeypatch.setenv("COFFER_POLICY", str(file))
    policy = load_policy()
    assert (tmp_path / "x", Path.home() / "y", Path("/z")) == policy.source("a").paths
    assert tmp_path == policy.project_folder
    assert [] == check_policy()


def test_a_byte_order_mark_is_read_over(tmp_path):
    """A file that an editor has begun with a byte order mark is read like any other."""
    file = tmp_path / "p.yaml"
    file.write_bytes(b"\xef\xbb\xbftimezone: UTC\n")
    assert [] == check_policy(file)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "the policy is empty"),
        (b"# nothing\n", "the policy is empty"),
        (b"{}", "the policy is empty"),
        (b"- a\n", "the policy is not a mapping"),
        (b"text", "the policy is not a mapping"),
        (b"timezone: UTC\n\xff\n", "not UTF-8"),
        (b"#" * 2**20 + b"\n", "larger than 1 MiB"),
    ],
)
def test_a_file_that_holds_no_policy_is_one_mistake(tmp_path, content, expected):
    """Missing, empty (perhaps cut off), of another kind, or too large: one mistake each, and an error when loaded."""
    file = tmp_path / "p.yaml"
    if content is not None:
        file.write_bytes(content)
    (mistake,) = check_policy(file)
    assert expected == mistake.problem
    assert mistake.allowed
    with pytest.raises(PolicyInvalidError, match=r"p\.yaml: 1 mistake\n"):
        load_policy(str(file))


def test_a_folder_is_no_policy(tmp_path):
    """A folder in the file's place is one mistake without a line."""
    (mistake,) = check_policy(tmp_path)
    assert (0, "cannot be read: Is a directory") == (mistake.line, mistake.problem)
    expected = f"{tmp_path}: cannot be read: Is a directory\n    allowed: a readable file; COFFER_POLICY names another"
    assert expected == format_mistakes([mistake], str(tmp_path))


def test_bytes_that_are_no_text_have_a_line_and_a_column(tmp_path):
    """The place of the first byte that is not UTF-8 is told."""
    file = tmp_path / "p.yaml"
    file.write_bytes(b"timezone: UTC\na: \xff\n")
    (mistake,) = check_policy(file)
    assert (2, 4) == (mistake.line, mistake.column)


def test_the_error_has_the_first_mistakes_in_its_message_and_all_in_its_details(tmp_path):
    """A long list is cut in the message, complete in the details, and survives pickling."""
    file = tmp_path / "p.yaml"
    file.write_text("".join(f"key{number}: 1\n" for number in range(8)))
    with pytest.raises(PolicyInvalidError) as caught:
        load_policy(file)
    lines = str(caught.value).splitlines()
    assert f"policy {file}: 8 mistakes" == lines[0]
    assert ["  p.yaml:1:1: key0: unknown key", "  and 3 more"] == [lines[1], lines[-1]]
    assert 7 == len(lines)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert 8 == len(copy.details["mistakes"])
    assert copy.details["mistakes"][7].startswith("p.yaml:8:1: key7: unknown key\n    allowed: the keys timezone, ")
    assert not copy.transient


def test_a_text_is_parsed_like_a_file():
    """parse_policy says 'policy' where load_policy says the file's name."""
    assert "Europe/Berlin" == str(parse_policy("timezone: Europe/Berlin", Path("/srv")).tzinfo)
    with pytest.raises(PolicyInvalidError, match="policy:1:1: timezone: Mars: no such time zone"):
        parse_policy("timezone: Mars", Path("/srv"))


def test_importing_the_package_loads_neither_pydantic_nor_yaml():
    """A command that needs no policy does not pay for reading one."""
    code = "import sys, coffer.config; print(*sorted({'pydantic', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "" == done.stdout.strip()


def test_reading_a_policy_imports_no_airflow(tmp_path):
    """The engine's configuration works without Airflow."""
    code = "import sys; from coffer.config import load_policy; load_policy(); print('airflow' in sys.modules)"
    environment = {**os.environ, "COFFER_POLICY": str(PROJECT / "config" / "coffer.yaml")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "False" == done.stdout.strip()


def test_public_names_are_sorted_and_can_be_loaded():
    """__all__ lists what the package offers, and each name is there; others are not."""
    assert sorted(config.__all__) == config.__all__ == dir(config)
    assert all(getattr(config, name) is not None for name in config.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = config.nothing
