"""Descriptors of folders: bounded, shared between threads, closed in the end."""

import os
import threading

import pytest

from coffer.errors import RestoreError, RestoreTargetError, RestoreUnsafePathError
from coffer.restore.durability import flush_file_systems
from coffer.restore.folders import Folders, drop_xattr, look, require_safe_folder, unsafe_name


@pytest.fixture
def folders(tmp_path):
    for name in ("a/b/c", "d", "e/f"):
        (tmp_path / name).mkdir(parents=True)
    made = Folders(os.open(tmp_path, os.O_RDONLY), lambda path: path == b"e/f", capacity=2)
    yield made
    made.close()


def count_open():
    return len(os.listdir("/proc/self/fd"))


def test_idle_folders_beyond_the_capacity_are_closed(folders):
    """However many folders are entered, only so many stay open; a folder in use is not closed under its user."""
    before = count_open()
    held = folders.acquire(b"a/b/c")
    for path in (b"d", b"a", b"e", b"a/b", b"d"):
        with folders.opened(path) as folder:
            assert path == folder.path
    assert os.fstat(held.fd)
    assert before + 3 == count_open()
    folders.release(held)
    assert before + 2 == count_open()


def test_one_folder_is_opened_once(folders):
    """Who comes second gets the same descriptor."""
    with folders.opened(b"a/b") as first, folders.opened(b"a/b") as second:
        assert first is second


def test_threads_share_folders(folders):
    """Many threads, few descriptors: none is closed under its user, none is left open."""
    before = count_open()
    wrong = []

    def work(seed):
        for step in range(300):
            path = (b"a", b"a/b", b"a/b/c", b"d", b"e/f", b"")[(seed + step) % 6]
            with folders.opened(path) as folder:
                if os.readlink(f"/proc/self/fd/{folder.fd}").encode()[-len(path) :] != path and path:
                    wrong.append(path)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == wrong
    assert before + 2 == count_open()


def test_a_folder_that_is_replaced_is_forgotten(folders, tmp_path):
    """After `forget` the name is opened anew, not taken from the cache."""
    with folders.opened(b"d") as old:
        os.rename(tmp_path / "d", tmp_path / "moved")
        (tmp_path / "d").mkdir()
        with folders.opened(b"d") as same:
            assert old is same
        folders.forget(b"d")
        folders.forget(b"never opened")
        with folders.opened(b"d") as new:
            assert os.fstat(old.fd).st_ino != os.fstat(new.fd).st_ino


def test_the_forbidden_folder_is_not_entered(tmp_path):
    """Neither it nor anything below it, by whatever name."""
    (tmp_path / "repo" / "packs").mkdir(parents=True)
    status = os.stat(tmp_path / "repo")
    before = count_open()
    folders = Folders(os.open(tmp_path, os.O_RDONLY), lambda path: False, forbidden=(status.st_dev, status.st_ino))
    for path in (b"repo", b"repo/packs"):
        with pytest.raises(RestoreTargetError, match="the repository itself"):
            folders.acquire(path)
    folders.close()
    assert before == count_open()


def test_what_is_no_folder_is_not_opened(folders, tmp_path):
    """Files, links and what is missing are an error of the system."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("a")
    for path in (b"file", b"link", b"link/b", b"missing/x"):
        with pytest.raises(OSError, match=r"Not a directory|Too many levels|No such file"):
            folders.acquire(path)


def test_what_a_new_file_gets_is_known_from_the_folder_above(folders):
    """A folder that the run made is not asked for its group and ACL again."""
    with folders.opened(b"e/f") as folder:
        assert (True, os.getegid(), False) == (folder.fresh, folder.gid, folder.inherits_acl)
    with folders.opened(b"e") as folder:
        assert not folder.fresh


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0"])
def test_names_that_are_none_are_told(name):
    """Whatever is not the name of one entry is unsafe."""
    assert unsafe_name(name)


@pytest.mark.parametrize("name", [b"a", b"...", b".hidden", b"\xff\n", b" "])
def test_odd_names_are_names(name):
    """A name may be any bytes but slash and NUL."""
    assert not unsafe_name(name)
    require_safe_folder(name + b"/" + name)


@pytest.mark.parametrize("path", [b"/", b"/a", b"a/", b"a//b", b"..", b"a/../b", b"./a"])
def test_paths_that_lead_elsewhere_are_told(path):
    """A folder's path is names and single slashes."""
    with pytest.raises(RestoreUnsafePathError):
        require_safe_folder(path)


def test_looking_does_not_follow(folders, tmp_path):
    """A link is told of as a link; nothing as None."""
    (tmp_path / "d" / "link").symlink_to("nowhere")
    with folders.opened(b"d") as folder:
        assert os.lstat(tmp_path / "d" / "link").st_ino == look(folder, b"link").st_ino
        assert look(folder, b"missing") is None


def test_an_attribute_that_is_not_there_is_dropped_all_the_same(tmp_path, monkeypatch):
    """Dropping is idempotent; a refusal of another kind is an error."""
    (tmp_path / "x").touch()
    drop_xattr(os.fsencode(tmp_path / "x"), "user.none")

    def refuse(*_):
        raise PermissionError(1, "planned")

    monkeypatch.setattr(os, "removexattr", refuse)
    with pytest.raises(PermissionError):
        drop_xattr(os.fsencode(tmp_path / "x"), "user.none")


class NoSyncfs:
    """A C library as it was before syncfs."""


class BrokenDisk:
    """A C library whose syncfs reports an error."""

    @staticmethod
    def syncfs(_):
        return -1


def test_flushing_goes_to_the_file_systems_that_were_written(folders, monkeypatch):
    """One call per file system; all of them where there is no such call; a disk's error is not swallowed."""
    import ctypes

    flush_file_systems(folders)
    synced = []
    monkeypatch.setattr(os, "sync", lambda: synced.append(1))
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: NoSyncfs())
    flush_file_systems(folders)
    assert [1] == synced
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: BrokenDisk())
    monkeypatch.setattr(ctypes, "get_errno", lambda: 5)
    with pytest.raises(RestoreError, match="input/output error"):
        flush_file_systems(folders)
