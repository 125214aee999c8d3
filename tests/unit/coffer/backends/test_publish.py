"""Writing many parts, and giving names without taking any."""

from __future__ import annotations

import errno
import os

import pytest

from coffer.backends.publish import BATCH_BYTES, IOV_MAX, fsync_directory, publish, rename_noreplace, write_parts
from coffer.backends.temporaries import Temporary
from coffer.errors import BackendLocationError


@pytest.fixture
def folder(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def _raising(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


class TestWriteParts:
    @pytest.fixture
    def file(self, tmp_path):
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        yield fd
        os.close(fd)

    @pytest.mark.parametrize("most", [1, 2, 3, 7, 1000])
    def test_short_writes_go_on_in_the_middle_of_a_part(self, file, monkeypatch, most):
        """However little the system takes at once, every byte is written once and in order."""
        real = os.writev

        def short(fd, views):
            left, taken = most, []
            for view in views:
                taken.append(view[:left])
                left -= taken[-1].nbytes
            return real(fd, taken)

        monkeypatch.setattr(os, "writev", short)
        parts = [b"a", b"bcdef", b"", b"ghi" * 50, b"j", b"k"]

        assert len(b"".join(parts)) == write_parts(file, parts)
        assert b"".join(parts) == os.pread(file, 1000, 0)

    def test_no_call_is_given_more_parts_than_it_takes_or_more_than_half_a_mebibyte(self, file, monkeypatch):
        """Calls are cut at IOV_MAX parts and at 512 KiB, large parts are cut, and nothing is joined."""
        calls = []
        real = os.writev

        def note(fd, views):
            calls.append((len(views), sum(view.nbytes for view in views)))
            return real(fd, views)

        monkeypatch.setattr(os, "writev", note)
        parts = [b"x"] * (2 * IOV_MAX + 1) + [os.urandom(2 * BATCH_BYTES), b"y", os.urandom(1000)]

        write_parts(file, parts)

        full = (1, BATCH_BYTES)
        assert [(IOV_MAX, IOV_MAX)] * 2 + [(2, BATCH_BYTES), full, (3, 1002)] == calls
        assert b"".join(parts) == os.pread(file, 1 << 24, 0)

    def test_nothing_is_written_for_nothing(self, file, monkeypatch):
        """Empty parts alone cause no call."""
        monkeypatch.setattr(os, "writev", _raising(errno.EIO))

        assert 0 == write_parts(file, [b"", memoryview(b"")])


class TestPublish:
    def test_a_rename_serves_where_links_are_not_known(self, folder, tmp_path, monkeypatch):
        """On EPERM and its like the temporary is renamed, its old name is gone, and a taken name is not replaced."""
        for number in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            monkeypatch.setattr(os, "link", _raising(number))
            with Temporary(folder) as temp:
                os.write(temp.fd, b"mine")
                publish(temp, f"to-{number}", folder)
                assert temp.moved
            with Temporary(folder) as late, pytest.raises(FileExistsError):
                publish(late, f"to-{number}", folder)

            assert b"mine" == (tmp_path / f"to-{number}").read_bytes()
        assert {"to"} == {name.split("-")[0] for name in os.listdir(folder)}

    @pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
    def test_a_file_system_with_neither_is_refused_with_a_hint(self, folder, monkeypatch, number):
        """Without an atomic way to give a name nothing is stored: a check followed by a rename would not be one."""
        monkeypatch.setattr(os, "link", _raising(errno.EPERM))
        monkeypatch.setattr("coffer.backends.publish.rename_noreplace", _raising(number))

        with Temporary(folder) as temp, pytest.raises(BackendLocationError, match="neither hard links nor") as caught:
            publish(temp, "name", folder)

        assert "ext4" in caught.value.hint
        assert [] == os.listdir(folder)

    def test_another_error_of_the_rename_is_passed_on(self, folder, monkeypatch):
        """EIO is not taken for a lack of the call."""
        monkeypatch.setattr(os, "link", _raising(errno.EPERM))
        monkeypatch.setattr("coffer.backends.publish.rename_noreplace", _raising(errno.EIO))

        with Temporary(folder) as temp, pytest.raises(OSError, match="Input/output"):
            publish(temp, "name", folder)

    def test_a_link_that_was_sent_twice_has_won(self, folder, monkeypatch):
        """NFS may do the link, lose the reply, send it again and report 'exists': it is our own file there."""
        real = os.link

        def twice(*args, **kwargs):
            real(*args, **kwargs)
            real(*args, **kwargs)

        monkeypatch.setattr(os, "link", twice)

        with Temporary(folder) as temp:
            os.write(temp.fd, b"mine")
            publish(temp, "name", folder)

        assert ["name"] == os.listdir(folder)

    def test_a_name_that_went_again_is_still_reported_as_taken(self, folder, monkeypatch):
        """Exists, then gone: the caller may try again, but is not told that it has won."""
        monkeypatch.setattr(os, "link", _raising(errno.EEXIST))

        with Temporary(folder) as temp, pytest.raises(FileExistsError):
            publish(temp, "name", folder)


class TestRenameNoreplace:
    def test_it_moves_to_a_free_name_only(self, folder, tmp_path):
        """The real system call, through the C library: a free name is taken, a taken one is left alone."""
        (tmp_path / "one").write_bytes(b"1")
        (tmp_path / "two").write_bytes(b"2")

        with pytest.raises(FileExistsError):
            rename_noreplace("one", folder, "two", folder)
        rename_noreplace("one", folder, "three", folder)

        assert {"two": b"2", "three": b"1"} == {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def test_an_old_c_library_says_that_it_does_not_know(self, folder, monkeypatch):
        """Before glibc 2.28 there is no renameat2 to call."""
        monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())

        with pytest.raises(OSError, match="not implemented") as caught:
            rename_noreplace("one", folder, "two", folder)

        assert errno.ENOSYS == caught.value.errno


class TestFsyncDirectory:
    @pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
    def test_a_file_system_that_knows_no_such_thing_is_let_be(self, folder, monkeypatch, number):
        """Some network file systems cannot sync a folder; nothing more can be done there."""
        monkeypatch.setattr(os, "fsync", _raising(number))

        assert fsync_directory(folder) is None

    @pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
    def test_a_failure_is_a_failure(self, folder, monkeypatch, number):
        """Where syncing is known and failed, the entries may be lost: the caller must hear it."""
        monkeypatch.setattr(os, "fsync", _raising(number))

        with pytest.raises(OSError, match=f"Errno {number}"):
            fsync_directory(folder)
