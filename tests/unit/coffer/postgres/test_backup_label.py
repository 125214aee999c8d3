"""The file backup_label: read as servers write it, written as servers read it."""

import pytest

from coffer.errors import SourceFormatError
from coffer.postgres.backup_label import MAX_LABEL_BYTES, BackupLabel
from coffer.postgres.lsn import Lsn

LABEL = (
    b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n"
    b"CHECKPOINT LOCATION: 0/2000060\n"
    b"BACKUP METHOD: streamed\n"
    b"BACKUP FROM: standby\n"
    b"START TIME: 2026-11-25 05:38:17 UTC\n"
    b"LABEL: nightly: a\xffb\n"
    b"START TIMELINE: 3\n"
)


def test_a_label_is_read_and_written_as_it_was():
    """Every field is there, and the file comes back byte for byte, also where the user's words are no UTF-8."""
    found = BackupLabel.parse(LABEL)
    expected = (Lsn(0x2000028), "000000010000000000000002", Lsn(0x2000060), "streamed", "standby", 3, None)
    assert expected == (
        found.start, found.segment, found.checkpoint, found.method, found.taken_from, found.timeline,
        found.incremental_from,
    )  # fmt: skip
    assert ("2026-11-25 05:38:17 UTC", "nightly: a\udcffb") == (found.start_time, found.label)
    assert LABEL == found.render()


def test_what_says_incremental_is_left_out():
    """The snapshot is whole whatever the server sent, and a server starts no folder whose label says otherwise."""
    found = BackupLabel.parse(LABEL + b"INCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n")
    assert Lsn(0x1000028) == found.incremental_from
    assert LABEL == found.render()


def test_an_empty_label_is_one():
    """BASE_BACKUP takes an empty label; its line has a space behind the colon or none."""
    empty = LABEL.replace(b"nightly: a\xffb", b"")
    assert "" == BackupLabel.parse(empty).label
    assert "" == BackupLabel.parse(empty.replace(b"LABEL: \n", b"LABEL:\n")).label
    assert empty == BackupLabel.parse(empty).render()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        LABEL.replace(b"START TIMELINE: 3\n", b""),
        LABEL.replace(b": 3\n", b": 0\n"),
        LABEL.replace(b": 3\n", b": three\n"),
        LABEL.replace(b"0/2000028 (", b"0/2000028["),
        LABEL.replace(b"0/2000060", b"nowhere"),
        LABEL + b"START TIMELINE: 3\n",
        LABEL + b"ANOTHER LINE: 1\n",
        LABEL + b"x" * MAX_LABEL_BYTES,
    ],
)
def test_another_file_is_refused(content):
    """Nothing is guessed where a recovery would begin at the wrong place."""
    with pytest.raises(SourceFormatError):
        BackupLabel.parse(content)
