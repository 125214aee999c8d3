"""What opens a repository: a key file that only its owner can read, or a passphrase."""

import base64
import os
import stat

import pytest

from coffer.crypto.kdf import Argon2Params, argon2id, derive_key_and_commitment
from coffer.crypto.kek import KeyFileUnlocker, PassphraseUnlocker, write_new_key_file
from coffer.errors import KeyFileError

CHEAP = Argon2Params(iterations=1, lanes=1, memory_kib=64)
SALT = b"s" * 32
SECRET = bytes(range(32))


def _write(path, content, mode=0o600):
    path.write_bytes(content)
    path.chmod(mode)
    return path


def _line(secret=SECRET):
    return b"coffer-key-1 " + base64.b64encode(secret) + b"\n"


def test_a_new_key_file_opens_to_what_was_written(tmp_path):
    """Written with mode 0600 in a folder of mode 0700; loaded again it gives the same key."""
    path = tmp_path / "keys" / "repo.key"
    made = write_new_key_file(path)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert 0o700 == stat.S_IMODE(path.parent.stat().st_mode)
    assert made.kek(salt=SALT, params=CHEAP) == KeyFileUnlocker.load(path).kek(salt=SALT, params=CHEAP)


def test_two_new_key_files_differ(tmp_path):
    """Each is 32 fresh random bytes."""
    first, second = write_new_key_file(tmp_path / "a"), write_new_key_file(tmp_path / "b")
    assert first.kek(salt=SALT, params=CHEAP) != second.kek(salt=SALT, params=CHEAP)


def test_a_key_file_is_never_overwritten(tmp_path):
    """The file that is there keeps its bytes."""
    path = tmp_path / "repo.key"
    write_new_key_file(path)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="exists already"):
        write_new_key_file(path)
    assert before == path.read_bytes()


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    """The name of the file and the system's own words."""
    _write(tmp_path / "file", b"")
    with pytest.raises(KeyFileError, match="cannot be written"):
        write_new_key_file(tmp_path / "file" / "repo.key")


def test_a_key_file_gives_its_key_by_hkdf(tmp_path):
    """No slow function: the secret is random. Cost parameters change nothing."""
    path = _write(tmp_path / "repo.key", _line())
    key, commitment = derive_key_and_commitment(SECRET, salt=SALT, info=b"coffer/1/kek")
    kek = KeyFileUnlocker.load(path).kek(salt=SALT, params=CHEAP)
    assert (key, commitment) == (kek.key, kek.commitment)
    assert kek == KeyFileUnlocker(SECRET).kek(salt=SALT, params=Argon2Params())
    assert kek != KeyFileUnlocker(SECRET).kek(salt=b"t" * 32, params=CHEAP)


@pytest.mark.parametrize("content", [_line().rstrip(b"\n"), _line() + b"\n\n", b"  " + _line().replace(b" ", b"\t")])
def test_spaces_around_the_words_do_not_matter(tmp_path, content):
    """A key that was pasted or printed opens all the same."""
    loaded = KeyFileUnlocker.load(_write(tmp_path / "repo.key", content))
    assert KeyFileUnlocker(SECRET).kek(salt=SALT, params=CHEAP) == loaded.kek(salt=SALT, params=CHEAP)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not of the form"),
        (b"coffer-key-2 " + base64.b64encode(SECRET), "not of the form"),
        (base64.b64encode(SECRET), "not of the form"),
        (_line() + _line(), "not of the form"),
        (b"coffer-key-1 !!!!", "base64 is damaged"),
        (b"coffer-key-1 " + base64.b64encode(SECRET)[:-1], "base64 is damaged"),
        (b"coffer-key-1 \xff\xfe", "base64 is damaged"),
        (_line(bytes(31)), "holds 31 bytes, not 32"),
        (_line(bytes(33)), "holds 33 bytes, not 32"),
        (b"coffer-key-1 " + b"A" * 10_000, "base64 is damaged|holds"),
    ],
)
def test_a_malformed_key_file_is_refused_without_showing_it(tmp_path, content, message):
    """The message names the file and the form, never what the file holds."""
    path = _write(tmp_path / "repo.key", content)
    with pytest.raises(KeyFileError, match=message) as caught:
        KeyFileUnlocker.load(path)
    assert base64.b64encode(SECRET).decode() not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610])
def test_a_key_file_that_others_may_touch_is_refused(tmp_path, mode):
    """The hint is the command that mends it."""
    path = _write(tmp_path / "repo.key", _line(), mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}") as caught:
        KeyFileUnlocker.load(path)
    assert f"Run: chmod 600 {path}" == caught.value.hint


def test_a_key_may_come_through_a_pipe(tmp_path):
    """Only a regular file's mode says who can read it: a pipe of a secret store has the mode that it has."""
    reading, writing = os.pipe()
    os.write(writing, _line())
    os.close(writing)
    os.fchmod(reading, 0o644)
    try:
        path = tmp_path / "pipe"
        path.symlink_to(f"/proc/self/fd/{reading}")
        loaded = KeyFileUnlocker.load(path)
    finally:
        os.close(reading)
    assert KeyFileUnlocker(SECRET).kek(salt=SALT, params=CHEAP) == loaded.kek(salt=SALT, params=CHEAP)


def test_a_missing_or_unreadable_key_file_is_one_clear_error(tmp_path):
    """Nothing there, or a folder in its place."""
    with pytest.raises(KeyFileError, match="does not exist"):
        KeyFileUnlocker.load(tmp_path / "none")
    with pytest.raises(KeyFileError, match="cannot be read"):
        KeyFileUnlocker.load(tmp_path)


def test_a_secret_of_another_length_is_the_programmers_mistake():
    """Only 32 bytes are a key file's secret."""
    with pytest.raises(ValueError, match="32 bytes"):
        KeyFileUnlocker(bytes(16))


def test_a_passphrase_is_stretched_then_derived():
    """Argon2id first, HKDF on its result: the commitment tells nothing that is faster to try."""
    stretched = argon2id("pässphrase".encode(), salt=SALT, params=CHEAP)
    expected = derive_key_and_commitment(stretched, salt=SALT, info=b"coffer/1/kek")
    kek = PassphraseUnlocker("pässphrase").kek(salt=SALT, params=CHEAP)
    assert expected == (kek.key, kek.commitment)


def test_an_empty_passphrase_is_refused():
    """It would protect nothing."""
    with pytest.raises(KeyFileError, match="passphrase: empty"):
        PassphraseUnlocker("")


def test_a_passphrase_that_is_no_text_is_refused_without_showing_it():
    """An environment variable may hold any bytes."""
    with pytest.raises(KeyFileError, match="not UTF-8") as caught:
        PassphraseUnlocker("geheim\udcff")
    assert "geheim" not in str(caught.value) + str(caught.value.__cause__)


def test_no_repr_shows_a_key():
    """A key that is printed by accident would be in a log."""
    kek = KeyFileUnlocker(SECRET).kek(salt=SALT, params=CHEAP)
    shown = repr(kek) + repr(KeyFileUnlocker(SECRET)) + repr(PassphraseUnlocker("geheim"))
    for secret in (kek.key, kek.commitment, SECRET):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
    assert "geheim" not in shown


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_key_file_that_could_not_be_written_is_gone(tmp_path, monkeypatch, failing):
    """Half a key would open nothing, and be in the way of the next try."""
    path = tmp_path / "repo.key"
    if failing == "write":
        monkeypatch.setattr(os, "write", lambda fd, data: len(data) - 1)
    else:
        monkeypatch.setattr(os, "fsync", lambda fd: os.fstat(-1))
    with pytest.raises(KeyFileError, match="cannot be written"):
        write_new_key_file(path)
    assert not path.exists()
    monkeypatch.undo()
    write_new_key_file(path)
    KeyFileUnlocker.load(path)
