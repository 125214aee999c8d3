"""`coffer keys`: key files, and the keys that a repository has."""

from __future__ import annotations

from coffer.crypto.kek import KeyFileUnlocker


def test_a_new_key_file_is_made_once(coffer, tmp_path):
    """Mode 0600, of the right form; the second time nothing is overwritten."""
    ended = coffer("keys", "new", tmp_path / "k")
    assert 0 == ended.code
    assert "nothing can be restored" in ended.out
    KeyFileUnlocker.load(tmp_path / "k")
    before = (tmp_path / "k").read_bytes()
    code, line, _ = coffer("keys", "new", tmp_path / "k").fault()
    assert (1, f"key file {tmp_path / 'k'}: exists already") == (code, line)
    assert before == (tmp_path / "k").read_bytes()
    assert str(tmp_path / "k2") == coffer("keys", "new", tmp_path / "k2", "--json").result["key_file"]


def test_the_keys_are_listed_with_kind_and_epoch(coffer, repo):
    """Three kinds; the root has its epoch; the key given opens them; no key is in the output."""
    result = coffer("keys", "show", "--json").result
    assert ([1, None, None], ["root", "chunk-id", "signing"], [True] * 3) == tuple(
        [key[field] for key in result["keys"]] for field in ("epoch", "kind", "opens")
    )
    ended = coffer("keys", "show")
    secret = repo.with_name("repo.key").read_text().split()[1]
    assert secret not in ended.out + ended.err
    assert "opened by a key-file" in ended.out


def test_a_foreign_key_opens_none(coffer, repo, tmp_path):
    """The list is shown all the same, and the run ends with the error of a wrong key."""
    coffer("keys", "new", tmp_path / "other")
    ended = coffer("keys", "show", "--key-file", tmp_path / "other")
    assert (1, "the key or passphrase given does not open this repository") == ended.fault()[:2]
    assert 3 == ended.out.count("does not open")


def test_a_key_of_another_kind_opens_none(coffer, repo, monkeypatch):
    """A passphrase for a repository of key files."""
    monkeypatch.setenv("COFFER_PASSPHRASE", "words")
    ended = coffer("keys", "show", "--json")
    assert ("wrong-key", [False] * 3) == (ended.envelope["error"]["code"], [k["opens"] for k in ended.result["keys"]])


def test_a_damaged_key_is_named_and_the_others_are_shown(coffer, repo):
    """Garbage and an altered wrap are damage; one that is too large is not read at all."""
    for name, content in (("0001-1", b"garbage"), ("signing-1", b"x" * 5000)):
        (repo / "keys" / name).chmod(0o600)
        (repo / "keys" / name).write_bytes(content)
    wrap = repo / "keys" / "chunk-id-1"
    wrap.chmod(0o600)
    wrap.write_bytes(wrap.read_bytes().replace(b'"number": 0', b'"number": 1'))
    ended = coffer("keys", "show", "--json")
    damage = {key["object"]: key["damage"] for key in ended.result["keys"]}
    assert (1, "object-corrupt") == (ended.code, ended.envelope["error"]["code"])
    assert "not a wrapped key" in damage["keys/0001-1"]
    assert "failed authentication" in damage["keys/chunk-id-1"]
    assert "over the cap" in damage["keys/signing-1"]


def test_a_key_file_is_made_in_a_folder_that_is_there(coffer, tmp_path):
    """A misspelt mount point is not made anew: the key would lie on another disk than was meant."""
    ended = coffer("keys", "new", tmp_path / "mnt" / "usb" / "key")
    assert (1, True) == (ended.code, "its folder does not exist" in ended.err)
    assert [] == list(tmp_path.glob("mnt"))
