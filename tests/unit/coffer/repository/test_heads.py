"""Heads: what this machine remembers of a repository, outside of it (I12)."""

import json
import os
import stat

import pytest

from coffer.repository.heads import Head, HeadStore

REPOSITORY = bytes(range(16))
OLD, NEW = Head(1, "a" * 64), Head(2, "b" * 64)


def test_a_head_is_remembered_for_the_next_process(tmp_path):
    """By repository and source; the folder is made, for its owner only."""
    folder = tmp_path / "state" / "heads"
    assert HeadStore(folder).remember(REPOSITORY, "tag1", OLD)
    assert HeadStore(folder).remember(REPOSITORY, "tag2", NEW)
    assert {"tag1": OLD, "tag2": NEW} == HeadStore(folder).heads(REPOSITORY)
    assert {} == HeadStore(folder).heads(bytes(16))
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)


def test_a_head_never_goes_back(tmp_path):
    """An older or equal number does not replace a newer one: that is what is to be noticed."""
    store = HeadStore(tmp_path)
    assert store.remember(REPOSITORY, "tag", NEW)
    assert store.remember(REPOSITORY, "tag", OLD)
    assert store.remember(REPOSITORY, "tag", Head(2, "c" * 64))
    assert {"tag": NEW} == store.heads(REPOSITORY)
    assert store.remember(REPOSITORY, "tag", Head(3, "d" * 64))
    assert {"tag": Head(3, "d" * 64)} == store.heads(REPOSITORY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"7",
        b"\xff",
        b"[" * 5000,
        b"9" * 5000,
        b'{"tag": 5}',
        b'{"tag": [1]}',
        b'{"tag": [1, "x", 2]}',
        b'{"tag": ["x", "y"]}',
        b'{"tag": [null, "y"]}',
        b'{"tag": [Infinity, "y"]}',
        b'{"tag": [NaN, "y"]}',
    ],
)
def test_a_damaged_file_remembers_nothing(tmp_path, content):
    """It loses the notice, not the backups; the next commit writes it anew."""
    store = HeadStore(tmp_path)
    (tmp_path / f"{REPOSITORY.hex()}.json").write_bytes(content)
    assert {} == store.heads(REPOSITORY)
    assert store.remember(REPOSITORY, "tag", OLD)
    assert {"tag": OLD} == store.heads(REPOSITORY)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    """A backup is not made to fail by it: the answer says that nothing was remembered."""
    (tmp_path / "file").write_bytes(b"")
    assert not HeadStore(tmp_path / "file").remember(REPOSITORY, "tag", OLD)
    assert {} == HeadStore(tmp_path / "file").heads(REPOSITORY)


def test_the_file_is_replaced_whole(tmp_path, monkeypatch):
    """A write that fails leaves the old file, and no half of a new one in its place."""
    store = HeadStore(tmp_path)
    store.remember(REPOSITORY, "tag", OLD)
    monkeypatch.setattr(os, "fsync", lambda fd: os.fstat(-1))
    assert not store.remember(REPOSITORY, "tag", NEW)
    assert {"tag": OLD} == store.heads(REPOSITORY)


def test_the_file_is_the_one_of_the_format(tmp_path):
    """docs/format.md §11: source tag → sequence number and SHA-256."""
    HeadStore(tmp_path).remember(REPOSITORY, "tag", OLD)
    (file,) = tmp_path.iterdir()
    assert (f"{REPOSITORY.hex()}.json", {"tag": [1, "a" * 64]}) == (file.name, json.loads(file.read_bytes()))


def test_the_new_name_is_durable_too(tmp_path, monkeypatch):
    """The file is synced, and then the folder that names it."""
    synced = []
    whole = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(stat.S_IFMT(os.fstat(fd).st_mode)), whole(fd)))
    assert HeadStore(tmp_path).remember(REPOSITORY, "tag", OLD)
    assert [stat.S_IFREG, stat.S_IFDIR] == synced


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"COFFER_STATE_DIR": "/s"}, "/s/heads"),
        ({"COFFER_STATE_DIR": "", "XDG_STATE_HOME": "/x"}, "/x/coffer/heads"),
        ({"HOME": "/h"}, "/h/.local/state/coffer/heads"),
    ],
)
def test_the_place_follows_the_environment(tmp_path, monkeypatch, variables, folder):
    """COFFER_STATE_DIR, then XDG_STATE_HOME, then the home folder."""
    for name in ("COFFER_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert folder == str(HeadStore.default()._folder)
