"""From what the policy says of the key to what opens a repository; a secret is in no message."""

from __future__ import annotations

import pytest

from coffer.config import parse_policy
from coffer.config.unlocking import policy_unlocker, read_passphrase_file
from coffer.crypto.kek import KeyFileUnlocker, PassphraseUnlocker, write_new_key_file
from coffer.errors import KeyFileError, UsageError


@pytest.fixture
def words(tmp_path):
    """A function that writes a passphrase file."""

    def write(content, mode=0o600):
        file = tmp_path / "words"
        file.write_bytes(content)
        file.chmod(mode)
        return file

    return write


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"two words\n", "two words"),
        (b"two words", "two words"),
        (b"first\r\nsecond\n", "first"),
        (b" with blanks \n", " with blanks "),
        ("größe\n".encode(), "größe"),
    ],
)
def test_the_first_line_is_the_passphrase(words, content, expected):
    """Without its end, and with its blanks: they may be meant."""
    assert expected == read_passphrase_file(words(content))


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"", 0o600, "its first line is empty"),
        (b"\nsecret\n", 0o600, "its first line is empty"),
        (b"secret\xff\n", 0o600, "not UTF-8"),
        (b"secret\n", 0o640, "mode 0640 lets others read it"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_its_content(words, content, mode, said):
    """What is wrong, and what to do; never the words."""
    with pytest.raises(KeyFileError, match=said) as caught:
        read_passphrase_file(words(content, mode))
    assert "secret" not in str(caught.value) + caught.value.hint + repr(caught.value.details)
    assert caught.value.hint


def test_a_file_that_is_not_there_is_refused(tmp_path):
    """The system's own reason is in the message."""
    with pytest.raises(KeyFileError, match="No such file"):
        read_passphrase_file(tmp_path / "none")


def a_policy(text, folder):
    """The policy of a text; `storage` chooses the reference."""
    return parse_policy(text, folder)


def test_a_key_file_is_loaded(tmp_path):
    """key_storage: key_file, the default."""
    write_new_key_file(tmp_path / "k")
    assert isinstance(policy_unlocker(a_policy("repository: {key_file: k}", tmp_path)), KeyFileUnlocker)


def test_a_passphrase_comes_from_its_file_or_its_variable(tmp_path, words, monkeypatch):
    """The file comes first; a variable that is not set leaves it to the terminal."""
    text = "encryption: {at_rest: {key_storage: passphrase}}\nrepository: "
    words(b"from the file\n")
    assert isinstance(policy_unlocker(a_policy(text + "{passphrase_file: words}", tmp_path)), PassphraseUnlocker)
    policy = a_policy(text + "{passphrase_env: WORDS}", tmp_path)
    assert policy_unlocker(policy) is None
    monkeypatch.setenv("WORDS", "from the variable")
    assert isinstance(policy_unlocker(policy), PassphraseUnlocker)


def test_a_vault_is_not_in_this_version(tmp_path):
    """The policy may name it already; a repository cannot be opened by it."""
    with pytest.raises(UsageError, match="vault is not in this version"):
        policy_unlocker(a_policy("encryption: {at_rest: {key_storage: vault}}", tmp_path))
