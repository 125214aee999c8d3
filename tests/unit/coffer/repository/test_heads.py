"""Heads: what this machine remembers of a repository, outside of it (I12)."""

import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

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
    store = HeadStore(tmp_path / "file")
    assert "" == store.failure
    assert not store.remember(REPOSITORY, "tag", OLD)
    assert f"{tmp_path / 'file'}: File exists" == store.failure
    assert {} == HeadStore(tmp_path / "file").heads(REPOSITORY)


def test_the_file_is_replaced_whole(tmp_path, monkeypatch):
    """A write that fails leaves the old file, and no half of a new one in its place."""
    store = HeadStore(tmp_path)
    store.remember(REPOSITORY, "tag", OLD)
    monkeypatch.setattr(os, "fsync", lambda fd: os.fstat(-1))
    assert not store.remember(REPOSITORY, "tag", NEW)
    assert {"tag": OLD} == store.heads(REPOSITORY)


def test_runs_that_end_at_once_lose_no_head(tmp_path, monkeypatch):
    """Whoever comes second waits until the first has written, and then adds to what it wrote."""
    reading, first = threading.Event(), []
    whole = HeadStore.heads

    def slow(store, repository_id):
        known = whole(store, repository_id)
        if not first:
            first.append(1)
            reading.set()
            other.join(0.2)  # without a lock it would have written by then
        return known

    monkeypatch.setattr(HeadStore, "heads", slow)
    other = threading.Thread(target=lambda: reading.wait() and HeadStore(tmp_path).remember(REPOSITORY, "tag2", NEW))
    other.start()
    assert HeadStore(tmp_path).remember(REPOSITORY, "tag1", OLD)
    other.join()
    assert {"tag1": OLD, "tag2": NEW} == whole(HeadStore(tmp_path), REPOSITORY)


def test_the_file_is_the_one_of_the_format(tmp_path):
    """docs/format.md §11: source tag → sequence number and SHA-256."""
    HeadStore(tmp_path).remember(REPOSITORY, "tag", OLD)
    (file,) = tmp_path.glob("*.json")
    assert (f"{REPOSITORY.hex()}.json", {"tag": [1, "a" * 64]}) == (file.name, json.loads(file.read_bytes()))


def test_the_new_name_is_durable_too(tmp_path, monkeypatch):
    """The file is synced, and then the folder that names it."""
    synced = []
    whole = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(stat.S_IFMT(os.fstat(fd).st_mode)), whole(fd)))
    assert HeadStore(tmp_path).remember(REPOSITORY, "tag", OLD)
    assert [stat.S_IFREG, stat.S_IFDIR] == synced


def test_writers_at_once_lose_no_head(tmp_path):
    """Each of four writers remembers heads of its own source, all in one file: the last of each is there at the end."""
    numbers, tags = 25, ["a", "b", "c", "d"]
    start = threading.Barrier(len(tags))

    def remember_all(tag):
        start.wait()
        return all(HeadStore(tmp_path).remember(REPOSITORY, tag, Head(n, "x")) for n in range(1, numbers + 1))

    with ThreadPoolExecutor(len(tags)) as pool:
        assert [True] * len(tags) == list(pool.map(remember_all, tags))
    assert dict.fromkeys(tags, Head(numbers, "x")) == HeadStore(tmp_path).heads(REPOSITORY)


def test_a_writer_waits_for_another_process(tmp_path):
    """What another process remembers while it holds the lock is not written over by one that read before."""
    store = HeadStore(tmp_path)
    store.remember(REPOSITORY, "tag1", OLD)
    with ThreadPoolExecutor(1) as pool:
        with store._locked():
            later = pool.submit(HeadStore(tmp_path).remember, REPOSITORY, "tag2", OLD)
            with pytest.raises(TimeoutError):
                later.result(timeout=0.2)
            (tmp_path / f"{REPOSITORY.hex()}.json").write_text(json.dumps({"tag1": NEW}))
        assert later.result(timeout=10)
    assert {"tag1": NEW, "tag2": OLD} == store.heads(REPOSITORY)


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
