"""Writing into a data folder: whole or not at all, private, and never through a link."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from coffer.errors import RestoreSpaceError, RestoreTargetError
from coffer.restore.cluster import datafolder
from coffer.restore.cluster.datafolder import DataFolder


@pytest.fixture
def folder(tmp_path):
    made = DataFolder(tmp_path / "a" / "data", None)
    yield made
    made.close()


def test_the_folder_is_made_private(folder):
    """With the parents that are missing."""
    assert 0o700 == stat.S_IMODE(folder.path.stat().st_mode)


def test_a_target_that_cannot_be_made_is_told(tmp_path):
    """A file stands in its place, or above it."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(RestoreTargetError, match="cannot be used"):
            DataFolder(path, None)


def test_files_are_written_and_read(folder):
    """In folders that are made for them; what was there before is replaced."""
    folder.write(b"deep/er/file", b"one", sync=True)
    folder.write(b"deep/er/file", b"two")
    assert b"two" == folder.read(b"deep/er/file")
    assert ["file"] == os.listdir(folder.path / "deep/er")
    assert 0o600 == stat.S_IMODE((folder.path / "deep/er/file").stat().st_mode)
    assert folder.read(b"nothing") is None
    assert 1 == folder.discard(b"deep", sync=True)
    assert 0 == folder.discard(b"deep")
    assert [] == os.listdir(folder.path)


def test_links_are_replaced_and_not_followed(folder, tmp_path):
    """A link for the file, and for a folder above it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    os.symlink(outside / "file", folder.path / "file")
    os.symlink(outside, folder.path / "below")
    assert folder.read(b"file") is None
    folder.write(b"file", b"ours")
    folder.write(b"below/file", b"ours")
    assert "mine" == (outside / "file").read_text()
    assert b"ours" == (folder.path / "below/file").read_bytes() == folder.read(b"file")
    assert not (folder.path / "below").is_symlink()


def test_links_are_made_where_something_else_stands(folder, tmp_path):
    """A right one stays; a wrong one, a file or a folder gives way."""
    for old in (None, "file", "folder", "link"):
        path = folder.path / f"{old}"
        if old == "file":
            path.write_text("x")
        elif old == "folder":
            (path / "deep").mkdir(parents=True)
            (path / "deep/file").write_text("x")
        elif old == "link":
            os.symlink("/nowhere", path)
        for _ in range(2):
            folder.link(f"{old}".encode(), tmp_path)
            assert str(tmp_path) == os.readlink(path)


def test_a_full_disk_leaves_what_was_there(folder, monkeypatch):
    """And nothing of the new one."""
    folder.write(b"file", b"old")

    def full(_fd, _view):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(datafolder, "write_all", full)
    with pytest.raises(RestoreSpaceError, match="no space left"):
        folder.write(b"file", b"new")
    assert b"old" == folder.read(b"file")
    assert ["file"] == os.listdir(folder.path)
