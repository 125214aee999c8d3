"""`coffer wal`: push and fetch as a server runs them, and the list of what is saved."""

from __future__ import annotations

import shutil

import pytest

from coffer.backends.local import LocalBackend
from coffer.crypto.kek import KeyFileUnlocker
from coffer.postgres.lsn import Lsn, Segment
from coffer.postgres.wal_archive import WalArchive
from coffer.repository.repository import Repository
from tests.harness.wal_files import MIB, SYSTEM_ID, history_file, segment_bytes, write_segment


@pytest.fixture
def pg_wal(tmp_path, monkeypatch):
    """A folder of five segments of 1 MiB, from the second on; the working folder is the one above it."""
    folder = tmp_path / "data" / "pg_wal"
    folder.mkdir(parents=True)
    for number in range(1, 6):
        write_segment(folder, number)
    monkeypatch.chdir(folder.parent)
    return folder


def name_of(number, timeline=1):
    """The name of a segment."""
    return Segment(timeline, number).name(MIB)


def push(coffer, name, *more):
    """Run the archive command."""
    return coffer("wal", "push", f"pg_wal/{name}", "--source", "db", *more)


def fetch(coffer, name, *more, destination="out"):
    """Run the restore command, without what it starts in the background."""
    return coffer("wal", "fetch", name, destination, "--source", "db", "--prefetch", "0", *more)


def archive_of(folder):
    """The archive of the repository in a folder."""
    unlocker = KeyFileUnlocker.load(folder.with_name(folder.name + ".key"))
    return WalArchive(Repository.open(LocalBackend(folder), unlocker), "db")


def test_a_segment_goes_in_and_comes_back(coffer, repo, pg_wal, tmp_path):
    """Byte for byte; the second push is no error and stores nothing."""
    assert (0, "", "") == push(coffer, name_of(1))
    result = push(coffer, name_of(1), "--json").result
    assert (name_of(1), "segment", MIB, None) == tuple(result[key] for key in ("file", "kind", "wal_bytes", "note"))
    assert (0, "", "") == fetch(coffer, name_of(1))
    assert segment_bytes(1) == (tmp_path / "data" / "out").read_bytes()
    assert 1 == len(archive_of(repo).ranges())
    assert {"file": name_of(1), "brought": True} == {
        key: value for key, value in fetch(coffer, name_of(1), "--json").result.items() if key != "store"
    }


def test_another_segment_of_the_same_name_is_an_error(coffer, repo, pg_wal):
    """The server must not remove it; what is saved stays."""
    push(coffer, name_of(1))
    (pg_wal / name_of(1)).write_bytes(segment_bytes(1)[:-1] + b"\xff")
    code, line, hint = push(coffer, name_of(1)).fault()
    assert (1, True, True) == (code, "is saved with other bytes" in line, "test restore that archives" in hint)
    fetch(coffer, name_of(1))
    assert segment_bytes(1) == (pg_wal.parent / "out").read_bytes()


def test_histories_and_labels_are_taken(coffer, repo, pg_wal):
    """A label is not kept, and says so; a history comes back."""
    push(coffer, name_of(1))
    (pg_wal / "00000002.history").write_bytes(history_file((1, 3 * MIB)))
    assert (0, "", "") == push(coffer, "00000002.history")
    ended = push(coffer, f"{name_of(1)}.00000028.backup")
    assert (0, True) == (ended.code, "nothing was saved: backup labels are not kept" in ended.err)
    assert (0, "", "") == push(coffer, f"{name_of(1)}.00000028.backup", "--quiet")
    assert 0 == fetch(coffer, "00000002.history").code
    assert history_file((1, 3 * MIB)) == (pg_wal.parent / "out").read_bytes()


@pytest.mark.parametrize("name", ["00000001000000000000000F", "00000003.history", "000000010000000000000001.partial"])
def test_what_is_not_saved_ends_with_1_and_without_a_word(coffer, repo, pg_wal, name):
    """A server asks for many files that never were."""
    push(coffer, name_of(1))
    assert (1, "", "") == fetch(coffer, name)
    assert not (pg_wal.parent / "out").exists()
    found = fetch(coffer, name, "--json")
    assert (1, None, False) == (found.code, found.envelope["error"], found.result["brought"])


def test_a_segment_that_is_saved_in_part_is_not_there_unless_it_is_asked_for(coffer, repo, pg_wal):
    """With zeros for the rest."""
    archive_of(repo).put(1, Lsn(7 * MIB), b"log", system_id=SYSTEM_ID, segment_bytes=MIB)
    assert (1, "", "") == fetch(coffer, name_of(7))
    assert (0, "", "") == fetch(coffer, name_of(7), "--partial")
    assert b"log" + bytes(MIB - 3) == (pg_wal.parent / "out").read_bytes()


def test_whatever_else_is_wrong_ends_with_126(coffer, repo, pg_wal, tmp_path):
    """PostgreSQL takes a lower code for the end of the archive, and would open the database there."""
    push(coffer, name_of(1))
    (path,) = (repo / "wal").rglob("*-*")
    harmed = bytearray(path.read_bytes())
    harmed[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(harmed)
    code, line, _ = fetch(coffer, name_of(1)).fault()
    assert (126, True) == (code, "failed authentication" in line)
    assert 126 == fetch(coffer, "%f").fault()[0]
    assert 126 == fetch(coffer, name_of(1), destination="no/out").fault()[0]
    assert 126 == fetch(coffer, name_of(1), "--repo", tmp_path / "nowhere").fault()[0]
    assert 126 == coffer("wal", "fetch", name_of(1), "out").fault()[0]
    assert 126 == coffer("wal", "fetch", name_of(1), "out", "--source", "db", "--bogus").fault()[0]
    found = fetch(coffer, name_of(1), "--json")
    assert (126, 126, "object-corrupt") == (found.code, found.envelope["exit_code"], found.envelope["error"]["code"])


def test_other_commands_end_with_their_usual_codes(coffer, repo, pg_wal):
    """An archive_command that fails is tried again; from 126 on the server's archiver would end."""
    assert 2 == coffer("wal", "push", "pg_wal/x").fault()[0]
    assert 2 == push(coffer, "postgresql.conf").fault()[0]
    assert 1 == push(coffer, "00000001000000000000000F").fault()[0]


def test_a_segment_in_the_spool_is_taken_without_opening_the_repository(coffer, repo, pg_wal):
    """Where it is gone even."""
    push(coffer, name_of(1))
    spool = pg_wal.parent / "coffer-spool"
    spool.mkdir(mode=0o700)
    (spool / name_of(1)).write_bytes(b"ready")
    shutil.rmtree(repo)
    assert (0, "", "") == fetch(coffer, name_of(1))
    assert (b"ready", []) == ((pg_wal.parent / "out").read_bytes(), list(spool.iterdir()))


def test_the_list_joins_what_meets_and_names_what_is_missing(coffer, repo, pg_wal):
    """Per timeline, with sizes and times."""
    for number in (1, 2, 5):
        push(coffer, name_of(number))
    (pg_wal / "00000002.history").write_bytes(history_file((1, 6 * MIB)))
    push(coffer, "00000002.history")
    result = coffer("wal", "list", "--source", "db", "--json").result
    first, second = result["timelines"]
    assert ([("0/100000", "0/300000", 2), ("0/500000", "0/600000", 1)], False) == (
        [(span["start"], span["end"], span["objects"]) for span in first["spans"]],
        first["has_history"],
    )
    assert [{"start": "0/300000", "end": "0/500000", "wal_bytes": 2 * MIB}] == first["gaps"]
    assert (2, True, [], []) == (second["timeline"], second["has_history"], second["spans"], second["gaps"])
    assert first["spans"][0]["first_saved"] <= first["spans"][0]["last_saved"] <= first["spans"][1]["first_saved"]
    lines = coffer("wal", "list", "--source", "db").out.splitlines()
    assert (5, True, "3 objects, 1 gap") == (len(lines), "missing" in lines[2], lines[-1])


def test_a_damaged_range_is_a_warning_of_the_list(coffer, repo, pg_wal):
    """Its time is not known; the rest is shown, and the exit code is 3."""
    push(coffer, name_of(1))
    (path,) = (repo / "wal").rglob("*-*")
    harmed = bytearray(path.read_bytes())
    harmed[90] ^= 1
    path.chmod(0o600)
    path.write_bytes(harmed)
    ended = coffer("wal", "list", "--source", "db", "--json")
    assert (3, None) == (ended.code, ended.result["timelines"][0]["spans"][0]["first_saved"])


def test_a_source_without_wal_is_told(coffer, repo, pg_wal):
    """Mostly its name is misspelt."""
    assert (2, "source 'dd': has no WAL") == coffer("wal", "list", "--source", "dd").fault()[:2]


def test_a_server_must_be_named(coffer, repo, pg_wal, monkeypatch):
    """For what speaks to one; a password is no option."""
    monkeypatch.delenv("PGHOST", raising=False)
    for word in ("receive", "status"):
        code, _, _ = coffer("wal", word).fault()
        assert 2 == code
