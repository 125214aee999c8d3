"""`coffer init`: a repository and its key, or nothing at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coffer.backends.local import LocalBackend
from coffer.cli.commands import init
from coffer.errors import BackendFullError
from tests.harness.installation import make_passphrase_repository

POLICY = """
local_backup:
  locations:
    primary: {{path: "backups/one", retention: "30d", frequency: "daily"}}
    second: {{path: "backups/two", retention: "30d", frequency: "daily"}}
{more}
"""


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """A function that writes a policy and makes COFFER_POLICY name it."""

    def write(more=""):
        file = tmp_path / "config" / "coffer.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(POLICY.format(more=more))
        monkeypatch.setenv("COFFER_POLICY", str(file))
        return tmp_path

    return write


def test_a_key_file_is_made_beside_the_folder_and_never_inside(coffer, tmp_path):
    """Without any option the key is REPO.key, mode 0600, and the output says where it is and what losing it means."""
    ended = coffer("init", tmp_path / "new" / "repo")
    key = tmp_path / "new" / "repo.key"
    assert (0, 0o600) == (ended.code, key.stat().st_mode & 0o777)
    assert f"key file: {key} (new)" in ended.out
    assert "without it nothing can be restored" in ended.out
    assert {"coffer.json", "keys"} == {name for name in os.listdir(tmp_path / "new" / "repo") if name != ".tmp"}


def test_the_repository_opens_with_the_key_that_was_made(coffer, tmp_path):
    """The next command finds the key beside the folder by itself."""
    result = coffer("init", tmp_path / "repo", "--json").result
    assert (str(tmp_path / "repo.key"), True, "key-file") == (
        result["key_file"],
        result["key_file_is_new"],
        result["opened_by"],
    )
    assert [] == coffer("snapshots", "--repo", tmp_path / "repo", "--json").result["snapshots"]


def test_a_key_on_the_disk_of_the_repository_is_told(coffer, tmp_path, monkeypatch):
    """Such a key protects from nobody who takes the disk, and from no dead disk; a key on another disk gets no note."""
    ended = coffer("init", tmp_path / "one")
    assert "same disk as the repository: who takes that disk can read all" in ended.out
    assert coffer("init", tmp_path / "two", "--json").result["key_on_same_disk"]
    assert init.share_a_disk(tmp_path, tmp_path / "one")
    assert not init.share_a_disk(tmp_path, Path("/proc/version"))
    monkeypatch.setattr(init, "share_a_disk", lambda key, folder: False)
    ended = coffer("init", tmp_path / "three")
    assert (0, False) == (ended.code, "same disk" in ended.out)
    assert not coffer("init", tmp_path / "four", "--json").result["key_on_same_disk"]


def test_a_key_file_that_is_there_is_used_and_stays_as_it_is(coffer, tmp_path):
    """Several repositories may share one key; the second init says that it is not new."""
    key = tmp_path / "keys" / "k"
    coffer("init", tmp_path / "one", "--key-file", key)
    before = key.read_bytes()
    result = coffer("init", tmp_path / "two", "--key-file", key, "--json").result
    assert (before, False) == (key.read_bytes(), result["key_file_is_new"])
    assert 0 == coffer("snapshots", "-r", tmp_path / "two", "--key-file", key).code


def test_the_environment_names_the_key_and_the_folder(coffer, tmp_path, monkeypatch):
    """COFFER_REPOSITORY and COFFER_KEY_FILE do what --repo and --key-file do."""
    monkeypatch.setenv("COFFER_REPOSITORY", str(tmp_path / "repo"))
    monkeypatch.setenv("COFFER_KEY_FILE", str(tmp_path / "elsewhere"))
    assert 0 == coffer("init").code
    assert (tmp_path / "elsewhere").is_file()
    assert not (tmp_path / "repo.key").exists()


@pytest.mark.parametrize("inside", ["repo", "repo/keys.txt", "repo/../repo/x"])
def test_a_key_inside_the_repository_is_refused(coffer, tmp_path, inside):
    """Whoever takes the folder would have the key with it; nothing is made."""
    code, line, hint = coffer("init", tmp_path / "repo", "--key-file", tmp_path / inside).fault()
    assert 2 == code
    assert line.endswith("lies inside the repository")
    assert "elsewhere" in hint
    assert not (tmp_path / "repo").exists()


def test_an_existing_repository_is_left_alone(coffer, repo):
    """A second init changes nothing, in the store or beside it, and says what is there."""
    before = {path: path.stat().st_mtime_ns for path in repo.rglob("*")}
    key = repo.with_name("repo.key").read_bytes()
    code, line, hint = coffer("init", repo).fault()
    assert (1, f"folder {repo}: holds a repository, or the remains of an unfinished init") == (code, line)
    assert "Choose another location" in hint
    assert before == {path: path.stat().st_mtime_ns for path in repo.rglob("*")}
    assert key == repo.with_name("repo.key").read_bytes()


def test_a_folder_with_other_things_in_it_is_refused(coffer, tmp_path):
    """A typing mistake must not mix a repository into somebody's files; no key is made either."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("x")
    code, line, _ = coffer("init", tmp_path / "home").fault()
    assert (1, f"folder {tmp_path / 'home'}: is not empty") == (code, line)
    assert ["letter.txt"] == os.listdir(tmp_path / "home")
    assert not (tmp_path / "home.key").exists()


def test_what_a_file_system_puts_into_a_folder_does_not_count(coffer, tmp_path):
    """The root of a fresh disk holds lost+found, and is empty all the same."""
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    assert 0 == coffer("init", tmp_path / "disk").code


def test_a_file_is_no_folder(coffer, tmp_path):
    """A repository cannot be made of a file; the key that was made for it is taken back."""
    (tmp_path / "file").touch()
    code, line, _ = coffer("init", tmp_path / "file").fault()
    assert 1 == code
    assert line.endswith("is not a folder")
    assert not (tmp_path / "file.key").exists()


def test_a_key_of_a_failed_init_is_taken_back(coffer, tmp_path, monkeypatch):
    """If the disk fills up half-way there is no repository, and no key that protects nothing."""
    put = LocalBackend.put

    def full(self, name, parts):
        if name == "keys/signing-1":
            raise BackendFullError("object 'keys/signing-1': cannot be stored: no space left")
        put(self, name, parts)

    monkeypatch.setattr(LocalBackend, "put", full)
    assert 1 == coffer("init", tmp_path / "repo").fault()[0]
    assert not (tmp_path / "repo.key").exists()
    assert not (tmp_path / "repo" / "coffer.json").exists()


def test_a_key_that_was_there_before_is_not_taken_back(coffer, tmp_path, monkeypatch):
    """A failure removes only what this run made."""
    coffer("keys", "new", tmp_path / "k")

    def full(self, name, parts):
        raise BackendFullError("no space left")

    monkeypatch.setattr(LocalBackend, "put", full)
    assert 1 == coffer("init", tmp_path / "repo", "--key-file", tmp_path / "k").code
    assert (tmp_path / "k").is_file()


@pytest.mark.parametrize("answers", [True, False])
def test_the_key_stays_where_the_repository_may_have_been_made(coffer, tmp_path, monkeypatch, answers):
    """If the reply to the last put is lost, the repository may exist: its key is not removed."""
    put = LocalBackend.put

    def lose_the_reply(self, name, parts):
        put(self, name, parts)
        if name == "coffer.json":
            if not answers:
                (tmp_path / "repo").rename(tmp_path / "away")
                (tmp_path / "repo").symlink_to("repo")  # a loop: the store cannot be asked
            raise BackendFullError("the reply was lost")

    monkeypatch.setattr(LocalBackend, "put", lose_the_reply)
    assert 1 == coffer("init", tmp_path / "repo").code
    assert (tmp_path / "repo.key").is_file()


def test_an_interrupted_init_takes_its_key_back(coffer, tmp_path, monkeypatch):
    """Ctrl-C during init leaves no key behind either."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalBackend, "put", interrupt)
    code, line, _ = coffer("init", tmp_path / "repo").fault()
    assert (1, "stopped") == (code, line)
    assert not (tmp_path / "repo.key").exists()


@pytest.mark.parametrize(("named", "lacking"), [("locked/repo", "locked"), ("locked/a/repo", "locked"), ("own", "own")])
def test_a_folder_without_the_right_is_named_with_the_right(coffer, tmp_path, monkeypatch, named, lacking):
    """The folder that refuses, the right that is missing, and who needs it; nothing is made."""
    (tmp_path / "locked").mkdir()
    (tmp_path / "own").mkdir()
    real = os.access
    closed = {tmp_path / "locked", tmp_path / "own"}
    monkeypatch.setattr(
        os, "access", lambda path, right: real(path, right) and not (path in closed and right == os.W_OK)
    )
    code, line, hint = coffer("init", tmp_path / named).fault()
    assert (1, f"folder {tmp_path / lacking}: you have no right to write it") == (code, line)
    assert f"user {os.geteuid()} needs the right to write {tmp_path / lacking}" in hint
    assert ["locked", "own"] == sorted(path.name for path in tmp_path.rglob("*"))


def test_a_key_in_a_folder_without_the_right_is_named_too(coffer, tmp_path, monkeypatch):
    """The repository could be made, its key file could not."""
    (tmp_path / "keys").mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, right: real(path, right) and path != tmp_path / "keys")
    code, line, hint = coffer("init", tmp_path / "repo", "--key-file", tmp_path / "keys" / "k").fault()
    assert (1, f"folder {tmp_path / 'keys'}: you have no right to read and write and enter it") == (code, line)
    assert f"To write the key file {tmp_path / 'keys' / 'k'}" in hint
    assert not (tmp_path / "repo").exists()


class TestPassphrases:
    def test_a_file_gives_the_passphrase(self, coffer, tmp_path):
        """--passphrase-file makes a repository that the same words open, and no key file."""
        words = tmp_path / "words"
        words.write_text("correct horse battery staple\n")
        words.chmod(0o600)
        result = coffer("init", tmp_path / "repo", "--passphrase-file", words, "--json").result
        assert ("passphrase", None, False) == (result["opened_by"], result["key_file"], result["key_file_is_new"])
        assert not (tmp_path / "repo.key").exists()
        assert 0 == coffer("snapshots", "-r", tmp_path / "repo", "--passphrase-file", words).code

    def test_the_environment_gives_the_passphrase(self, coffer, tmp_path, monkeypatch):
        """COFFER_PASSPHRASE works for init and for what follows, and is in no output."""
        monkeypatch.setenv("COFFER_PASSPHRASE", "correct horse")
        ended = coffer("init", tmp_path / "repo")
        assert 0 == ended.code
        assert "Keep the passphrase" in ended.out
        assert "correct horse" not in ended.out + ended.err
        assert 0 == coffer("snapshots", "-r", tmp_path / "repo").code

    def test_the_terminal_is_asked_twice(self, coffer, tmp_path, monkeypatch):
        """--passphrase takes what was typed twice alike."""
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        typed = ["one two three", "one two three"]
        monkeypatch.setattr(init, "ask_passphrase", lambda _prompt: typed.pop(0))
        assert 0 == coffer("init", tmp_path / "repo", "--passphrase").code
        monkeypatch.setenv("COFFER_PASSPHRASE", "one two three")
        assert 0 == coffer("snapshots", "-r", tmp_path / "repo").code

    def test_two_different_words_are_refused(self, coffer, tmp_path, monkeypatch):
        """A typing mistake would lock the repository for ever; nothing is made."""
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        typed = ["one two three", "one two four"]
        monkeypatch.setattr(init, "ask_passphrase", lambda _prompt: typed.pop(0))
        assert (2, "the two passphrases differ") == coffer("init", tmp_path / "repo", "--passphrase").fault()[:2]
        assert not (tmp_path / "repo").exists()

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("", "COFFER_PASSPHRASE: is set and empty"),
            (" \t \u3000        ", "passphrase: nothing but white space"),
            ("seven77", "passphrase: shorter than 8 characters"),
        ],
    )
    def test_a_weak_passphrase_of_the_environment_is_refused(self, coffer, tmp_path, monkeypatch, words, said):
        """One line and a hint, no repository and no key file: an empty variable is not taken for one that is unset."""
        monkeypatch.setenv("COFFER_PASSPHRASE", words)
        code, line, hint = coffer("init", tmp_path / "repo").fault()
        assert (1, said) == (code, line)
        assert "several words" in hint
        assert [] == list(tmp_path.iterdir())

    @pytest.mark.parametrize("words", ["", "     \t     ", "seven77"])
    def test_a_weak_passphrase_that_is_typed_is_refused_at_once(self, coffer, tmp_path, monkeypatch, words):
        """Nobody has to type it a second time to be told."""
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        asked = []
        monkeypatch.setattr(init, "ask_passphrase", lambda prompt: asked.append(prompt) or words)
        code, line, _ = coffer("init", tmp_path / "repo", "--passphrase").fault()
        assert (1, True) == (code, line.startswith("passphrase: "))
        assert 1 == len(asked)
        assert [] == list(tmp_path.iterdir())

    def test_a_passphrase_of_eight_characters_is_taken(self, coffer, tmp_path, monkeypatch):
        """Characters count, not bytes."""
        monkeypatch.setenv("COFFER_PASSPHRASE", "päßwört8")
        assert 0 == coffer("init", tmp_path / "repo").code

    def test_a_weak_passphrase_still_opens_what_was_made_with_it(self, coffer, tmp_path, monkeypatch):
        """The rule is for new repositories: nobody is locked out of an old one."""
        make_passphrase_repository(tmp_path / "repo", "x")
        monkeypatch.setenv("COFFER_PASSPHRASE", "x")
        assert 0 == coffer("snapshots", "-r", tmp_path / "repo").code

    def test_without_a_terminal_nobody_is_asked(self, coffer, tmp_path, monkeypatch):
        """A job without a terminal fails at once instead of waiting for ever."""
        monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
        code, line, hint = coffer("init", tmp_path / "repo", "--passphrase").fault()
        assert (2, "no passphrase is given, and there is no terminal to ask on") == (code, line)
        assert "COFFER_PASSPHRASE_FILE" in hint

    @pytest.mark.parametrize("option", ["--key-file", "--passphrase-file"])
    def test_the_terminal_and_a_file_contradict_each_other(self, coffer, tmp_path, option):
        """--passphrase beside a file is refused."""
        assert 2 == coffer("init", tmp_path / "repo", "--passphrase", option, tmp_path / "f").fault()[0]


class TestPolicies:
    def test_a_weak_passphrase_that_the_policy_names_is_refused(self, coffer, policy):
        """Wherever it comes from."""
        root = policy("repository: {passphrase_file: words}\nencryption: {at_rest: {key_storage: passphrase}}")
        (root / "words").write_text("short\n")
        (root / "words").chmod(0o600)
        assert (1, "passphrase: shorter than 8 characters") == coffer("init").fault()[:2]
        assert not (root / "backups").exists()

    def test_the_first_location_and_the_key_of_the_policy_are_taken(self, coffer, policy):
        """`coffer init` alone makes the policy's first location, cut as the policy says, and its key file."""
        root = policy(
            "repository: {key_file: keys/k, state_dir: state}\n"
            "performance_config: {deduplication: {method: fixed, block_size: 64KiB}}"
        )
        result = coffer("init", "--json").result
        assert (str(root / "backups/one"), str(root / "keys/k")) == (result["repository"], result["key_file"])
        settings = (root / "backups/one/coffer.json").read_text()
        assert '"method": "fixed"' in settings
        assert '"avg_bytes": 65536' in settings
        assert 0 == coffer("snapshots").code

    def test_another_location_gets_the_same_key(self, coffer, policy):
        """--location NAME makes that one, with the key file that is there."""
        root = policy("repository: {key_file: keys/k, state_dir: state}")
        coffer("init")
        result = coffer("init", "--location", "second", "--json").result
        assert (str(root / "backups/two"), False) == (result["repository"], result["key_file_is_new"])
        assert 0 == coffer("snapshots", "--location", "second").code

    def test_the_policy_may_name_a_variable_with_the_passphrase(self, coffer, policy, monkeypatch):
        """key_storage: passphrase with passphrase_env takes the words from that variable."""
        policy("repository: {passphrase_env: MY_WORDS}\nencryption: {at_rest: {key_storage: passphrase}}")
        monkeypatch.setenv("MY_WORDS", "some words")
        assert "passphrase" == coffer("init", "--json").result["opened_by"]
        assert 0 == coffer("snapshots").code

    def test_the_policy_may_leave_the_passphrase_to_the_terminal(self, coffer, policy, monkeypatch):
        """Where the variable that the policy names is not set, init asks twice and other commands once."""
        policy("repository: {passphrase_env: NOT_SET}\nencryption: {at_rest: {key_storage: passphrase}}")
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr(init, "ask_passphrase", lambda _prompt: "typed in")
        monkeypatch.setattr("coffer.cli.opening.ask_passphrase", lambda _prompt: "typed in")
        assert 0 == coffer("init").code
        assert 0 == coffer("snapshots").code

    def test_one_place_is_named_once(self, coffer, tmp_path):
        """REPO beside --repo or --location is refused."""
        assert 2 == coffer("init", tmp_path / "a", "--repo", tmp_path / "b").fault()[0]
        assert 2 == coffer("init", tmp_path / "a", "--location", "second").fault()[0]
