"""The target's subfolders are spread while it is filled, and its flags are as before at the end."""

from __future__ import annotations

import fcntl
import os
import struct

import pytest

from coffer.backends.local import LocalBackend
from coffer.restore import Overwrite, execute
from coffer.restore.spreading import Spreading
from tests.harness.backups import Workbench, write_tree

TOP_OF_TREE = 0x00020000
FLAGS = struct.Struct("=I4x")


def flags_of(path):
    """Return the flags of a folder, as `lsattr` shows them; None where the file system has none."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return FLAGS.unpack(fcntl.ioctl(fd, 0x80086601, bytes(FLAGS.size)))[0]
    except OSError:
        return None
    finally:
        os.close(fd)


class FakeIoctl:
    """Stands for a file system with flags: the temporary folder may be one without."""

    def __init__(self, flags):
        self.flags, self.seen = flags, []

    def __call__(self, fd, request, data):
        if request == 0x80086601:
            return FLAGS.pack(self.flags)
        self.flags = FLAGS.unpack(data)[0]
        self.seen.append(self.flags)
        return data


@pytest.mark.parametrize("before", [0, 0x80000])
def test_the_flag_is_set_and_taken_back(monkeypatch, before):
    """Other flags stay as they are; at the end all are as before, also after an error."""
    fake = FakeIoctl(before)
    monkeypatch.setattr(fcntl, "ioctl", fake)

    def fail():
        with Spreading(3):
            assert before | TOP_OF_TREE == fake.flags
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [before | TOP_OF_TREE, before] == fake.seen


def test_a_flag_that_was_there_stays(monkeypatch):
    """Who set it by hand wants it."""
    fake = FakeIoctl(TOP_OF_TREE)
    monkeypatch.setattr(fcntl, "ioctl", fake)
    with Spreading(3):
        pass
    assert [] == fake.seen


def test_a_file_system_without_flags_is_left_alone():
    """/proc knows none: nothing happens, and nothing is raised."""
    fd = os.open("/proc/self", os.O_RDONLY)
    try:
        with Spreading(fd):
            pass
    finally:
        os.close(fd)


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_restore_leaves_the_flags_of_its_target_as_they_were(tmp_path, monkeypatch, target, give_back, is_taken):
    """Only a target that is new or empty has the flag meanwhile."""
    entered = []
    monkeypatch.setattr(execute, "Spreading", lambda fd: entered.append(fd) or Spreading(fd))
    write_tree(target, {"mine": b"1"} if is_taken else {})
    target.mkdir(exist_ok=True)
    before = flags_of(target)
    give_back(overwrite=Overwrite.NEVER if is_taken else None)
    assert (0 if is_taken else 1) == len(entered)
    assert before == flags_of(target)


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path / "source", backend=LocalBackend(tmp_path / "store", create=True))
    write_tree(bench.root, {"a/b": b"1"})
    bench.back_up()
    return bench
