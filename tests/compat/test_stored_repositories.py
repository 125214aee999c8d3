"""Repositories that were written by each format: they open, list, read, restore and go on, for ever."""

import ast
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from coffer.backends.local import LocalBackend
from coffer.crypto.kek import KeyFileUnlocker, PassphraseUnlocker
from coffer.errors import FormatVersionError, WrongKeyError
from coffer.repository.repository import Repository
from coffer.restore import restore
from coffer.sources.filesystem.backup import backup
from coffer.sources.filesystem.spec import FilesystemSource
from coffer.verification.check import check
from coffer.verification.verify import verify
from tests.compat.reading import PASSPHRASE, describe
from tests.harness.keyrings import make_unlocker

HERE = Path(__file__).resolve().parent
REPOSITORIES = sorted(path.parent.name for path in HERE.glob("format-*/expected.json"))


def _unlocker(name, tmp_path):
    key = HERE / name / "test-only.key"
    if not key.exists():
        return PassphraseUnlocker(PASSPHRASE)
    copy = tmp_path / "key"  # git keeps no mode 0600
    copy.write_bytes(key.read_bytes())
    copy.chmod(0o600)
    return KeyFileUnlocker.load(copy)


@pytest.fixture(params=REPOSITORIES)
def name(request):
    """Each stored repository."""
    return request.param


@pytest.fixture
def repo(name, tmp_path):
    """A copy of it, open: a test may write to it."""
    shutil.copytree(HERE / name / "repository", tmp_path / "repository")
    repo = Repository.open(LocalBackend(tmp_path / "repository"), _unlocker(name, tmp_path))
    yield repo
    repo.close()


def _expected(name):
    return json.loads((HERE / name / "expected.json").read_text())


def test_there_is_one_of_each_kind():
    """Cut by content and in blocks, opened by a key file and by a passphrase."""
    assert ["format-1-cdc", "format-1-fixed"] == REPOSITORIES


def test_it_holds_what_was_written_down_when_it_was_made(name, repo):
    """Every snapshot, every entry with every attribute, and the bytes of every file."""
    assert _expected(name) == json.loads(json.dumps(describe(repo)))


def test_it_is_not_trivial(name):
    """Every kind of file and form of content is in it, or the test above would prove little."""
    entries = [entry for part in _expected(name) for entry in part["entries"]]
    assert {"file", "directory", "symlink", "fifo"} == {entry["kind"] for entry in entries}
    assert any(entry["holes"] for entry in entries)
    assert any(entry["xattrs"] for entry in entries)
    assert any("\\xfe" in entry["path"] for entry in entries)
    assert any(entry["identity"][2] > 1 for entry in entries if entry["kind"] == "file")
    assert any(entry["times_ns"][0] >= 1 << 63 for entry in entries)
    assert any(entry["times_ns"][0] < 0 for entry in entries)
    sequences = [(part["snapshot"]["source"], part["snapshot"]["sequence"]) for part in _expected(name)]
    assert [("tree", 1), ("tree", 3), ("part", 1)] == sequences


def test_it_is_sound(repo):
    """Structure and every byte."""
    assert [] == [finding for finding in check(repo).findings if finding.severity.value == "error"]
    report = verify(repo, workers=1)
    assert report.ok
    assert report.counts["chunks"] > 5


def test_it_can_be_restored(name, repo, tmp_path):
    """Contents and link targets of each snapshot, byte for byte."""
    for part in _expected(name):
        target = tmp_path / part["snapshot"]["id"]
        result = restore(repo, repo.resolve(part["snapshot"]["id"]), target)
        assert () == result.failures
        for entry in part["entries"]:
            path = bytes(target) + b"/" + _bytes(entry["path"])
            if entry["kind"] == "file":
                with open(path, "rb") as file:
                    assert entry["content_sha256"] == hashlib.file_digest(file, "sha256").hexdigest()
            elif entry["kind"] == "symlink":
                assert entry["link_target"] == repr(os.readlink(path))


def _bytes(literal):
    return ast.literal_eval(literal)


def test_backups_go_on_in_it(repo, tmp_path):
    """A run of today's code takes its place in the chain, and the old snapshots stay readable."""
    before = describe(repo)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"written later")
    result = backup(repo, FilesystemSource("tree", (tmp_path / "tree",)))
    assert (4, 3) == (result.snapshot.sequence, result.snapshot.previous_sequence)
    after = describe(repo)
    assert before == [part for part in after if part["snapshot"]["id"] != result.snapshot.id]
    assert [] == [finding for finding in check(repo).findings if finding.severity.value == "error"]


def test_another_key_does_not_open_it(tmp_path):
    """Neither another key file nor another passphrase."""
    for name, other in (
        ("format-1-cdc", KeyFileUnlocker(b"x" * 32)),
        ("format-1-cdc", PassphraseUnlocker(PASSPHRASE)),
        ("format-1-fixed", PassphraseUnlocker(PASSPHRASE + "!")),
        ("format-1-fixed", make_unlocker()),
    ):
        with pytest.raises(WrongKeyError):
            Repository.open(LocalBackend(HERE / name / "repository"), other)


def test_a_newer_format_is_refused_by_name():
    """Whatever else a later version writes: it is said that it is newer, and what to do."""
    with pytest.raises(FormatVersionError, match="repository format 2, this version reads 1") as caught:
        Repository.open(LocalBackend(HERE / "newer" / "repository"), make_unlocker())
    assert "newer Coffer" in caught.value.hint
