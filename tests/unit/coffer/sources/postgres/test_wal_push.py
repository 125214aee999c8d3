"""Files of pg_wal saved one by one, as an archive_command does."""

from __future__ import annotations

import os

import pytest

from coffer.errors import SourceFormatError, SourceMissingError, SourceReadError, UsageError
from coffer.errors_postgres import PostgresSystemChangedError, WalConflictError
from coffer.postgres.lsn import Lsn
from coffer.sources.postgres.wal_push import Pushed, push
from tests.harness.wal_files import MIB, SYSTEM_ID, SavedWal, history_file, segment_bytes, write_segment


@pytest.fixture
def saved():
    """An empty archive."""
    return SavedWal()


def between(saved, start, end, timeline=1):
    """[start, end) of the archive."""
    return b"".join(saved.fresh().bytes_between(timeline, Lsn(start), Lsn(end)))


def test_a_segment_is_saved_whole_and_twice_is_once(saved, tmp_path):
    """Byte for byte; the second time nothing changes."""
    path = write_segment(tmp_path, 3)
    assert Pushed("segment", MIB) == push(saved.archive, path)
    assert segment_bytes(3) == between(saved, 3 * MIB, 4 * MIB)
    before = saved.store.contents()
    assert Pushed("segment", MIB) == push(saved.fresh(), path)
    assert before == saved.store.contents()


def test_a_large_segment_is_several_ranges(saved, tmp_path):
    """Of 16 MiB, as the receiver makes them."""
    path = write_segment(tmp_path, 1, size=64 * MIB)
    assert 64 * MIB == push(saved.archive, path).wal_bytes
    assert [16 * MIB] * 4 == [ref.length for ref in saved.archive.ranges()]
    assert path.read_bytes() == between(saved, 64 * MIB, 128 * MIB)


def test_a_different_segment_of_the_same_name_is_a_conflict(saved, tmp_path):
    """What is saved stays."""
    path = write_segment(tmp_path, 3)
    push(saved.archive, path)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(WalConflictError):
        push(saved.archive, path)
    assert segment_bytes(3) == between(saved, 3 * MIB, 4 * MIB)


def test_a_file_that_is_not_what_its_name_says_is_refused(saved, tmp_path):
    """Another segment, another timeline, a cut or a longer one, no segment at all; nothing is saved."""
    name = tmp_path / "000000010000000000000003"
    for content in (
        segment_bytes(4),
        segment_bytes(3, 2),
        segment_bytes(3)[:-1],
        segment_bytes(3) + b"x",
        bytes(MIB),
        b"",
    ):
        name.write_bytes(content)
        with pytest.raises(SourceFormatError):
            push(saved.archive, name)
    assert [] == saved.archive.ranges()


def test_a_segment_of_another_cluster_is_refused(saved, tmp_path):
    """A test restore that archives under the same source."""
    push(saved.archive, write_segment(tmp_path, 3))
    with pytest.raises(PostgresSystemChangedError):
        push(saved.fresh(), write_segment(tmp_path, 4, system_id=5))
    assert 1 == len(saved.archive.ranges())


def test_the_first_segment_of_a_promoted_server_is_saved_with_the_old_timelines_bytes(saved, tmp_path):
    """Its header may say the old timeline."""
    path = tmp_path / "000000020000000000000003"
    path.write_bytes(segment_bytes(3, 1))
    assert Pushed("segment", MIB) == push(saved.archive, path)
    assert segment_bytes(3, 1) == between(saved, 3 * MIB, 4 * MIB, 2)


def test_a_partial_segment_is_saved_up_to_where_its_timeline_was_left(saved, tmp_path):
    """By a history beside it, or one that is saved; without any it is refused."""
    path = tmp_path / "000000010000000000000003.partial"
    path.write_bytes(segment_bytes(3))
    with pytest.raises(SourceFormatError, match="no history says"):
        push(saved.archive, path)
    (tmp_path / "00000003.history").write_bytes(history_file((1, MIB), (2, 9 * MIB)))
    (tmp_path / "00000002.history").write_bytes(b"nonsense")
    with pytest.raises(SourceFormatError, match="no history says"):
        push(saved.archive, path)
    (tmp_path / "00000002.history").write_bytes(history_file((1, 3 * MIB + 500)))
    assert Pushed("partial", 500) == push(saved.archive, path)
    assert segment_bytes(3)[:500] == between(saved, 3 * MIB, 3 * MIB + 500)
    assert Lsn(3 * MIB + 500) == saved.archive.newest()[1]


def test_a_partial_segment_is_helped_by_a_saved_history(saved, tmp_path):
    """The history was pushed first, as a server does; left at the segment's first byte there is nothing to save."""
    path = tmp_path / "000000010000000000000003.partial"
    path.write_bytes(segment_bytes(3))
    saved.archive.put_history(2, history_file((1, 3 * MIB)), system_id=SYSTEM_ID)
    found = push(saved.archive, path)
    assert ("partial", 0, "its timeline was left where it begins") == (found.kind, found.wal_bytes, found.note)
    assert [] == saved.archive.ranges()


def test_a_history_is_saved_with_the_cluster_of_the_segments_beside_it(saved, tmp_path):
    """It does not say itself which cluster it is of."""
    path = tmp_path / "00000002.history"
    path.write_bytes(history_file((1, 5 * MIB)))
    with pytest.raises(SourceFormatError, match="holds no WAL segment"):
        push(saved.archive, path)
    (tmp_path / "000000010000000000000001").write_bytes(bytes(100))  # not yet written to
    write_segment(tmp_path, 5, 2)
    assert Pushed("history") == push(saved.archive, path)
    assert path.read_bytes() == saved.fresh().history_content(2)
    assert Pushed("history") == push(saved.archive, path)
    path.write_bytes(history_file((1, 6 * MIB)))
    with pytest.raises(WalConflictError):
        push(saved.archive, path)


def test_a_history_alone_is_of_the_cluster_that_is_saved(saved, tmp_path):
    """Where nothing lies beside it."""
    saved.put(0, 100)
    path = tmp_path / "00000002.history"
    path.write_bytes(history_file((1, 5 * MIB)))
    assert Pushed("history") == push(saved.fresh(), path)


def test_a_backup_label_is_taken_and_not_kept(saved, tmp_path):
    """The server must not be held up by it."""
    found = push(saved.archive, tmp_path / "000000010000000000000003.00000028.backup")
    assert ("label", 0) == (found.kind, found.wal_bytes)
    assert "not kept" in found.note
    assert [] == list(saved.store.list("wal/"))


@pytest.mark.parametrize("name", ["x", "00000001000000000000000", "0000000100000000000000aa", "%p", "postgresql.conf"])
def test_other_files_are_refused_by_their_name(saved, tmp_path, name):
    """They are not even read."""
    with pytest.raises(UsageError, match="not the name of a segment"):
        push(saved.archive, tmp_path / name)


def test_a_file_that_cannot_be_read_is_told(saved, tmp_path):
    """Missing, or a folder."""
    path = tmp_path / "000000010000000000000003"
    for name in (path, tmp_path / "00000002.history"):
        with pytest.raises(SourceMissingError):
            push(saved.archive, name)
        name.mkdir()
        with pytest.raises(SourceReadError):
            push(saved.archive, name)
        os.rmdir(name)
