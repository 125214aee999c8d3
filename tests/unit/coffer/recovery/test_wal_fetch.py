"""Files of pg_wal brought out of the repository."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from coffer.errors import ObjectCorruptError, RestoreSpaceError, RestoreTargetError, SourceFormatError, UsageError
from coffer.errors_postgres import WalConflictError
from coffer.recovery.wal_fetch import fetch, is_segment_name, plan_of, write_file
from tests.harness.wal_files import MIB, SYSTEM_ID, SavedWal, history_file, log_bytes

SECOND = "000000010000000000000001"


@pytest.fixture
def saved():
    """An archive of three and a half segments of 1 MiB."""
    found = SavedWal()
    found.put(0, 2 * MIB + 5)
    found.put(2 * MIB + 5, 3 * MIB + MIB // 2)
    return found


def names_in(folder):
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_segment_is_brought_whole(saved, tmp_path):
    """Byte for byte, mode 0600, and nothing else is left in the folder; what was there is replaced."""
    target = tmp_path / "RECOVERYXLOG"
    target.write_bytes(b"of before")
    assert fetch(saved.archive, SECOND, target)
    assert log_bytes(MIB, 2 * MIB) == target.read_bytes()
    assert (["RECOVERYXLOG"], 0o600) == (names_in(tmp_path), stat.S_IMODE(target.stat().st_mode))


def test_a_history_is_brought(saved, tmp_path):
    """As it was saved."""
    saved.archive.put_history(2, history_file((1, 5)), system_id=SYSTEM_ID)
    assert fetch(saved.archive, "00000002.history", tmp_path / "h")
    assert history_file((1, 5)) == (tmp_path / "h").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "000000010000000000000003",
        "000000010000000000000004",
        "000000020000000000000001",
        "0000000100000000000000FF",
        "00000002.history",
        "00000001.history",
        "000000010000000000000001.partial",
        "000000010000000000000001.00000028.backup",
    ],
)
def test_what_is_not_saved_or_only_in_part_is_not_there(saved, tmp_path, name):
    """No error and no file: a server asks for many that never were."""
    assert not fetch(saved.archive, name, tmp_path / "out")
    assert [] == names_in(tmp_path)


def test_an_archive_without_anything_has_nothing(tmp_path):
    """Not even a segment's size is known."""
    empty = SavedWal()
    assert not fetch(empty.archive, SECOND, tmp_path / "out")
    assert plan_of(empty.archive, SECOND) is None


def test_a_part_of_a_segment_is_brought_where_it_is_asked_for(saved, tmp_path):
    """Zeros stand for what is not saved; a segment of which nothing is saved is still not there."""
    assert fetch(saved.archive, "000000010000000000000003", tmp_path / "out", partial=True)
    assert log_bytes(3 * MIB, 3 * MIB + MIB // 2) + bytes(MIB // 2) == (tmp_path / "out").read_bytes()
    assert not fetch(saved.archive, "000000010000000000000004", tmp_path / "out2", partial=True)


@pytest.mark.parametrize(
    "name", ["", "x", "00000001000000000000000", "../../etc/passwd", "%f", "0000000100000000000000aa"]
)
def test_what_is_no_files_name_is_a_mistake_and_not_the_end_of_the_archive(saved, tmp_path, name):
    """A restore_command that is written wrong."""
    with pytest.raises(UsageError, match="not the name of a segment"):
        fetch(saved.archive, name, tmp_path / "out")


def test_a_name_that_no_segment_of_this_size_has_is_a_mistake(saved, tmp_path):
    """Segments of 1 MiB have other names than those of 16 MiB."""
    with pytest.raises(SourceFormatError):
        fetch(saved.archive, "000000010000000000001000", tmp_path / "out")


def test_damage_is_an_error_and_leaves_nothing(saved, tmp_path):
    """Never the end of the archive."""
    first, _ = saved.archive.ranges()
    saved.store.flip_bit(first.name, -1)
    with pytest.raises(ObjectCorruptError):
        fetch(saved.archive, "000000010000000000000002", tmp_path / "out")
    assert [] == names_in(tmp_path)


def test_ranges_that_differ_are_an_error_and_leave_nothing(saved, tmp_path):
    """What one server pushed and another one received."""
    saved.put(2 * MIB, 2 * MIB + 10, data=bytes(10))
    with pytest.raises(WalConflictError):
        fetch(saved.archive, "000000010000000000000002", tmp_path / "out")
    assert [] == names_in(tmp_path)


def test_a_place_that_cannot_be_written_is_told(saved, tmp_path):
    """A missing folder; a folder in the file's place."""
    with pytest.raises(RestoreTargetError, match="cannot be written"):
        fetch(saved.archive, SECOND, tmp_path / "no" / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    with pytest.raises(RestoreTargetError, match="cannot be written"):
        fetch(saved.archive, SECOND, tmp_path / "out")
    assert ["out"] == names_in(tmp_path)


def test_a_file_shows_under_its_name_only_when_it_is_whole(tmp_path):
    """Until then it has another one, which goes if making its content fails."""
    seen = []

    def pieces():
        yield b"first"
        seen.append(names_in(tmp_path))
        yield b"second"

    write_file(tmp_path / "out", pieces(), size_bytes=20)
    assert [False] == ["out" in names for names in seen]
    assert b"firstsecond" + bytes(9) == (tmp_path / "out").read_bytes()

    def failing():
        yield b"first"
        raise ObjectCorruptError("x")

    with pytest.raises(ObjectCorruptError):
        write_file(tmp_path / "other", failing())
    assert ["out"] == names_in(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such_and_leaves_nothing(saved, tmp_path, monkeypatch, code):
    """The server asks again, so it is transient."""

    def full(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RestoreSpaceError, match="cannot be written"):
        fetch(saved.archive, SECOND, tmp_path / "out")
    assert [] == names_in(tmp_path)


def test_the_name_of_a_segment_is_24_capital_hexadecimal_digits():
    """As PostgreSQL writes it."""
    assert is_segment_name(SECOND)
    assert [] == [
        name for name in (SECOND.lower() + "a", SECOND[:-1] + "g", SECOND + ".partial") if is_segment_name(name)
    ]
