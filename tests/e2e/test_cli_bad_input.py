"""What people do wrong, and what happens to their machines: one clear line, one hint, the right code, nothing lost.

The real program each time, as a user runs it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import resource
import shutil
import subprocess

import pytest

from tests.harness.command_line import PROGRAM, run_program
from tests.harness.namespaces import own_mounts

pytestmark = pytest.mark.e2e


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a tree, a repository `repo` with one snapshot, and its key beside it."""
    monkeypatch.setenv("COFFER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COFFER_REPOSITORY", str(tmp_path / "repo"))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("alpha\n" * 1000)
    (tmp_path / "tree" / "b.bin").write_bytes(hashlib.shake_256(b"b").digest(300_000))
    assert run_program("init").code == 0
    assert run_program("backup", tmp_path / "tree", "--source", "s").code == 0
    return tmp_path


def state(folder):
    """Every file of a folder with a digest of its content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def code_of(*arguments, **more):
    """The code of the error that programs get for the same command."""
    return json.loads(run_program(*arguments, "--json", **more).out)["error"]["code"]


def restores(place):
    """Whether the snapshot still comes back whole."""
    shutil.rmtree(place / "out", ignore_errors=True)
    ended = run_program("restore", "latest", "-t", place / "out")
    restored = place / "out" / str(place / "tree").lstrip("/")
    return ended.code == 0 and state(restored) == state(place / "tree")


COMMANDS = [["snapshots"], ["backup", "/etc/hostname"], ["verify"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_key_of_another_repository(place, command):
    """Exit code 1; the store is as it was, and opens with its own key."""
    run_program("keys", "new", place / "other")
    before = state(place / "repo")
    code, line, hint = run_program(*command, "--key-file", place / "other").fault()
    assert (1, "the key or passphrase given does not open this repository") == (code, line)
    assert "COFFER_KEY_FILE" in hint
    assert "wrong-key" == code_of(*command, "--key-file", place / "other")
    assert before == state(place / "repo")
    assert restores(place)


def test_a_wrong_passphrase(place):
    """The same answer as for a wrong key; the passphrase is nowhere in the output."""
    right, wrong = {"COFFER_PASSPHRASE": "right words"}, {"COFFER_PASSPHRASE": "wrong words"}
    assert 0 == run_program("init", place / "second", environment=right).code
    ended = run_program("snapshots", "-r", place / "second", environment=wrong)
    assert (1, "the key or passphrase given does not open this repository") == ended.fault()[:2]
    assert "wrong words" not in ended.err
    assert 0 == run_program("snapshots", "-r", place / "second", environment=right).code


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (None, 0o600, "does not exist"),
        (b"", 0o600, "not of the form"),
        (b"coffer-key-1 AAAA\n", 0o600, "holds 3 bytes, not 32"),
        ("the key itself", 0o644, "mode 0644 lets others read it"),
    ],
)
def test_a_key_file_that_cannot_be_used(place, content, mode, said):
    """Missing, empty, cut short, readable by others: each says what is wrong with the file."""
    key = place / "k"
    if content is not None:
        key.write_bytes((place / "repo.key").read_bytes() if isinstance(content, str) else content)
        key.chmod(mode)
    code, line, _ = run_program("snapshots", "--key-file", key).fault()
    assert 1 == code
    assert said in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_is_no_repository(place, command):
    """Exit code 1 and the way to make one; nothing is written into it."""
    (place / "empty").mkdir()
    arguments = [*command, "-r", place / "empty", "--key-file", place / "repo.key"]
    code, line, hint = run_program(*arguments).fault()
    assert (1, f"file://{place}/empty: holds no coffer repository") == (code, line)
    assert "coffer init" in hint
    assert "not-a-repository" == code_of(*arguments)
    assert [] == list((place / "empty").iterdir())


def test_a_folder_that_is_not_there(place):
    """A disk that is not mounted is not made anew."""
    code, line, _ = run_program(
        "backup", place / "tree", "-r", place / "none", "--key-file", place / "repo.key"
    ).fault()
    assert (1, f"store file://{place}/none: the folder does not exist") == (code, line)
    assert not (place / "none").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_repository_of_a_newer_version(place, command):
    """Exit code 1, both versions in the message, nothing changed."""
    settings = place / "repo" / "coffer.json"
    settings.chmod(0o600)
    settings.write_text(settings.read_text().replace('"format": 1', '"format": 2'))
    before = state(place / "repo")
    code, line, hint = run_program(*command).fault()
    assert (1, f"file://{place}/repo: repository format 2, this version reads 1") == (code, line)
    assert "newer Coffer" in hint
    assert before == state(place / "repo")


@pytest.mark.parametrize("folder", ["packs", "snapshots", "keys", "coffer.json"])
def test_a_damaged_object(place, folder):
    """Cut short or altered: every command that meets it says which object, and none shows a traceback."""
    objects = [place / "repo" / folder] if folder == "coffer.json" else sorted((place / "repo" / folder).rglob("*"))
    for path in objects:
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for command in (["verify"], ["restore", "latest", "-t", place / "out"], ["ls", "latest"]):
        ended = run_program(*command)
        assert ended.code in (1, 2 if folder == "snapshots" else 1, 3)
        assert "Traceback" not in ended.err
        assert "unexpected error" not in ended.err
        assert "HINT: " in ended.err


def test_a_store_that_grows_beyond_a_limit(place):
    """A full disk, here RLIMIT_FSIZE: exit code 1, a hint, no damage; with room the next run goes on."""
    (place / "tree" / "big").write_bytes(hashlib.shake_256(b"big").digest(3_000_000))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    code, line, hint = run_program("backup", place / "tree", "--source", "s", preexec=limit).fault()
    assert 1 == code
    assert "EFBIG" in line
    assert "ulimit -f" in hint
    assert 0 == run_program("check").code
    assert 0 == run_program("backup", place / "tree", "--source", "s").code
    assert restores(place)


@pytest.fixture
def namespace():
    """A command prefix that gives a program its own mounts."""
    return own_mounts(instead="test_a_store_that_grows_beyond_a_limit runs everywhere")


def test_a_full_disk(place, namespace):
    """A real disk of 2 MiB fills up: exit code 1; what is there stays whole; the failed run leaves no snapshot."""
    (place / "tree" / "big").write_bytes(hashlib.shake_256(b"big").digest(4_000_000))
    (place / "disk").mkdir()
    script = """
        mount -t tmpfs -o size=2m tmpfs "$1" && cp -a "$2/." "$1" || exit 99
        "$0" backup "$3" --source s -r "$1"; code=$?
        "$0" check -r "$1" -q || exit 98
        "$0" snapshots -r "$1" --json
        exit $code
    """
    environment = {"COFFER_KEY_FILE": str(place / "repo.key")}
    command = [PROGRAM, place / "disk", place / "repo", place / "tree"]
    done = subprocess.run(
        [*namespace, "sh", "-c", script, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert 1 == done.returncode, done.stderr
    lines = done.stderr.splitlines()
    assert "ENOSPC" in lines[0]
    assert (
        "HINT: Free or add space where the repository lives, then run again: what was stored is found and kept."
        == (lines[1])
    )
    assert 2 == len(lines)
    assert 1 == done.stdout.count('"sequence"')


def test_a_disk_that_is_read_only(place, namespace):
    """A backup is refused with exit code 1; everything that only reads works."""
    script = """
        mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99
        "$0" backup "$2" --source s; code=$?
        "$0" snapshots -q && "$0" verify -q && "$0" restore latest -t "$3" -q || exit 98
        exit $code
    """
    command = [PROGRAM, place / "repo", place / "tree", place / "out"]
    done = subprocess.run(
        [*namespace, "sh", "-c", script, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert 1 == done.returncode, done.stderr
    lines = done.stderr.splitlines()
    assert "EROFS" in lines[0]
    assert lines[1].startswith("HINT: ")
    assert 2 == len(lines)
    assert state(place / "tree") == state(place / "out" / str(place / "tree").lstrip("/"))


PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


def without_override():
    """Let the modes of files count for root too, in the program that is about to be run; nothing for other users."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


LIBC = ctypes.CDLL(None)


@pytest.fixture
def locked(place):
    """The repository may be read and not written, not even by its owner."""
    everything = [place / "repo", *(place / "repo").rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield place
    for path in everything:
        path.chmod(0o700 if path.is_dir() else 0o400)


def test_a_store_that_may_not_be_written(locked):
    """Exit code 1, the object in the message, a hint at owner and mode; reading goes on."""
    before = state(locked / "repo")
    code, line, hint = run_program("backup", locked / "tree", preexec=without_override).fault()
    assert 1 == code
    assert "EACCES" in line
    assert "owner and mode" in hint
    assert 0 == run_program("verify", preexec=without_override).code
    assert before == state(locked / "repo")


def test_a_new_repository_where_nothing_may_be_written(place):
    """Exit code 1, the folder and the right that is missing by name; no key file is left behind."""
    (place / "locked").mkdir(mode=0o555)
    code, line, hint = run_program("init", place / "locked" / "repo", preexec=without_override).fault()
    assert (1, f"folder {place}/locked: you have no right to write it") == (code, line)
    assert f"the right to write {place}/locked" in hint
    assert [] == list((place / "locked").iterdir())


def test_a_source_that_may_not_be_read(place):
    """A path that cannot be listed at all is an error; a file within it that cannot be read, a warning and 3."""
    (place / "tree" / "b.bin").chmod(0)
    ended = run_program("backup", place / "tree", "--source", "s", preexec=without_override)
    assert (3, f"coffer: warning: {place}/tree/b.bin: unreadable: Permission denied\n") == (ended.code, ended.err)
    (place / "tree").chmod(0)
    code, line, hint = run_program("backup", place / "tree", "--source", "s", preexec=without_override).fault()
    (place / "tree").chmod(0o700)
    assert 1 == code
    assert line.startswith(f"source path {place}/tree: cannot be ")
    assert "a user who may read it" in hint


def test_a_source_that_is_not_there(place):
    """Exit code 1; no snapshot of the other paths alone, which would look like a complete one."""
    code, line, hint = run_program("backup", place / "tree", place / "gone", "--source", "s").fault()
    assert (1, f"source path {place}/gone: does not exist") == (code, line)
    assert "mounted" in hint
    assert 1 == len(json.loads(run_program("snapshots", "--json").out)["result"]["snapshots"])


@pytest.mark.parametrize("path", ["", "repo", "repo/packs/.."])
def test_a_source_that_contains_the_repository(place, path):
    """Exit code 1 before anything is stored; with the folder excluded it works."""
    before = state(place / "repo")
    code, line, hint = run_program("backup", place / path, "--source", "s").fault()
    assert 1 == code
    assert line.endswith(f"holds the repository {place}/repo itself")
    assert "--exclude" in hint
    assert "source-contains-repository" == code_of("backup", place / path, "--source", "s")
    assert before == state(place / "repo")
    if not path:
        assert 0 == run_program("backup", place, "--source", "s", "--exclude", "/repo").code


def test_a_target_that_is_not_empty(place):
    """Exit code 1; what is there is not touched."""
    before = state(place / "tree")
    code, line, hint = run_program("restore", "latest", "-t", place / "tree").fault()
    assert (1, f"target {place}/tree: is not empty") == (code, line)
    assert "--overwrite" in hint
    assert before == state(place / "tree")


def test_a_target_that_cannot_be_written(place):
    """A file where a folder is wanted: exit code 1."""
    code, line, _ = run_program("restore", "latest", "-t", place / "tree" / "a.txt" / "below").fault()
    assert 1 == code
    assert str(place / "tree" / "a.txt") in line


def test_a_name_that_would_act_on_the_terminal(place):
    """File names in errors and warnings are escaped."""
    ended = run_program("backup", f"{place}/\x1b]0;owned\x07", "--source", "s")
    assert 1 == ended.fault()[0]
    assert "\x1b" not in ended.err
