"""Temporaries: which are swept, which stay."""

from __future__ import annotations

import errno
import fcntl
import os
import time

import pytest

from coffer.backends.temporaries import STALE_AGE_NS, Temporary, sweep_temporaries

OLD_S = STALE_AGE_NS / 1e9 + 60
YOUNG_S = STALE_AGE_NS / 1e9 - 60


@pytest.fixture
def folder(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def _leftover(tmp_path, age_s, name="123-" + "0a" * 16 + ".part"):
    path = tmp_path / name
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_old_leftovers_are_removed_and_counted(folder, tmp_path):
    """Two of killed writers go, a young one stays."""
    for number, age_s in enumerate((OLD_S, OLD_S * 100, YOUNG_S)):
        _leftover(tmp_path, age_s, f"{number}-{'ab' * 16}.part")

    assert 2 == sweep_temporaries(folder)
    assert [f"2-{'ab' * 16}.part"] == os.listdir(folder)
    assert 0 == sweep_temporaries(folder)


@pytest.mark.parametrize("name", ["notes.txt", "123-xyz.part", "1-" + "ab" * 16, "1-" + "ab" * 16 + ".part~"])
def test_other_peoples_files_stay(folder, tmp_path, name):
    """Only names of our own making are touched, however old."""
    _leftover(tmp_path, OLD_S * 1000, name)

    assert 0 == sweep_temporaries(folder)
    assert [name] == os.listdir(folder)


def test_what_is_no_file_stays(folder, tmp_path):
    """A folder or link of such a name is not ours."""
    (tmp_path / ("1-" + "ab" * 16 + ".part")).mkdir()
    (tmp_path / ("2-" + "ab" * 16 + ".part")).symlink_to("nowhere")
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - OLD_S,) * 2, follow_symlinks=False)

    assert 0 == sweep_temporaries(folder)
    assert 2 == len(os.listdir(folder))


def test_a_locked_temporary_stays(folder, tmp_path):
    """Its writer lives."""
    with Temporary(folder) as temp:
        os.utime(tmp_path / temp.name, (0, 0))
        assert 0 == sweep_temporaries(folder)
        assert [temp.name] == os.listdir(folder)
    assert [] == os.listdir(folder)


def test_where_locks_are_not_known_age_alone_decides(folder, tmp_path, monkeypatch):
    """A file system without locks neither keeps puts from working nor leftovers from going."""

    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    _leftover(tmp_path, OLD_S)

    with Temporary(folder) as temp:
        assert 1 == sweep_temporaries(folder)
        assert [temp.name] == os.listdir(folder)


@pytest.mark.parametrize("call", ["utime", "fstat", "listdir", "stat", "open", "unlink"])
def test_a_sweep_never_fails(folder, tmp_path, monkeypatch, call):
    """Whatever the system says, a backup goes on: leftovers cost space only."""
    leftover = _leftover(tmp_path, OLD_S)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, refuse)
        assert 0 == sweep_temporaries(folder)

    assert leftover.exists()
