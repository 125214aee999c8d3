"""Manifests are read as the server sends them; those written here are accepted by PostgreSQL's own program."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.errors import SourceFormatError
from coffer.postgres.backup_manifest import (
    MAX_LINE_BYTES,
    ManifestFile,
    ManifestParser,
    ManifestWriter,
    WalRange,
)
from coffer.postgres.lsn import Lsn

RANGES = [WalRange(1, Lsn(0xA00028), Lsn(0xA00120))]


def read(data, piece_bytes=1 << 16):
    """Return (files, facts) of a manifest that arrives in pieces."""
    parser, files = ManifestParser(), []
    for at in range(0, len(data), piece_bytes):
        files += parser.feed(memoryview(data[at : at + piece_bytes]))
    return files, parser.finish()


def written(files, system_id=7, ranges=RANGES):
    """Return a whole manifest."""
    writer = ManifestWriter(system_id)
    return b"".join([writer.head(), *(writer.file(entry) for entry in files), writer.tail(ranges)])


FILES = st.lists(
    st.builds(
        ManifestFile,
        st.binary(min_size=1, max_size=40)
        | st.text(min_size=1, max_size=40).map(lambda t: t.encode("utf-8", "replace")),
        st.integers(0, 1 << 40),
        st.just("2026-11-25 05:38:17 GMT"),
        st.just("SHA256"),
        st.binary(min_size=32, max_size=32),
    ),
    max_size=5,
)


@given(FILES, st.none() | st.integers(0, 2**64 - 1), st.integers(1, 300))
def test_a_manifest_survives_its_text(files, system_id, piece_bytes):
    """Paths of any bytes, both versions, pieces of any size."""
    found, facts = read(written(files, system_id), piece_bytes)
    assert (files, system_id, RANGES, len(files)) == (found, facts.system_id, facts.ranges, facts.files)


@given(st.data())
def test_one_changed_byte_is_noticed(data):
    """Wherever it is, the manifest is refused: by its form, or by its checksum."""
    text = bytearray(written([ManifestFile(b"base/5/1", 8192, "now", "SHA256", bytes(32))]))
    at = data.draw(st.integers(0, len(text) - 2))
    text[at] ^= data.draw(st.integers(1, 255))
    if bytes(text).split() != written([ManifestFile(b"base/5/1", 8192, "now", "SHA256", bytes(32))]).split():
        with pytest.raises(SourceFormatError, match="backup manifest"):
            read(bytes(text))


def test_a_truncated_manifest_is_noticed():
    """Wherever it ends."""
    text = written([ManifestFile(b"base/5/1", 8192, "now", "SHA256", bytes(32))])
    for end in range(len(text)):
        with pytest.raises(SourceFormatError, match="backup manifest"):
            read(text[:end])


def test_something_behind_the_end_is_noticed():
    """A manifest ends with its checksum."""
    with pytest.raises(SourceFormatError, match=r"follows the checksum|ends here"):
        read(written([]) + b"{}\n")


def test_a_line_without_end_is_refused():
    """No more than one line is ever held."""
    with pytest.raises(SourceFormatError, match="longer than"):
        list(ManifestParser().feed(b"x" * (MAX_LINE_BYTES + 1)))


@given(st.binary(max_size=300))
def test_no_bytes_lead_to_another_error(data):
    """Garbage gives the typed error and nothing else."""
    with pytest.raises(SourceFormatError):
        read(data)


@pytest.fixture(scope="module")
def base_backup(servers):
    """A plain base backup that PostgreSQL's own program took: (its server, its folder)."""
    server = servers.start()
    server.sql("CREATE TABLE t AS SELECT * FROM generate_series(1, 1000)")
    target = server.home / "copy"
    server.must("pg_basebackup", "-D", target, "-c", "fast", "-X", "none", "--manifest-checksums=CRC32C")
    return server, target


def test_a_real_manifest_is_read(base_backup):
    """Every file of it is there with the size it says, and the system identifier where the version has it."""
    server, target = base_backup
    files, facts = read((target / "backup_manifest").read_bytes())
    assert len(files) == facts.files > 900
    assert all((target / entry.path.decode()).stat().st_size == entry.size_bytes for entry in files)
    if facts.version == 2:
        assert facts.system_id == server.value("SELECT system_identifier FROM pg_control_system()")
    assert 1 == len(facts.ranges)
    assert facts.ranges[0].start < facts.ranges[0].end


def test_the_crc32c_of_a_real_manifest_is_lowest_byte_first(base_backup):
    """The same polynomial as iSCSI's; the text begins with the lowest byte."""
    import google_crc32c

    _, target = base_backup
    files, _ = read((target / "backup_manifest").read_bytes())
    entry = next(entry for entry in files if entry.path == b"PG_VERSION")
    assert entry.checksum == google_crc32c.value((target / "PG_VERSION").read_bytes()).to_bytes(4, "little")


def test_postgresql_accepts_a_manifest_written_here(base_backup):
    """pg_verifybackup compares every file with the SHA-256 of a manifest that this code wrote; and finds a lie."""
    server, target = base_backup
    files, facts = read((target / "backup_manifest").read_bytes())
    anew = [
        ManifestFile(
            entry.path,
            entry.size_bytes,
            entry.modified,
            "SHA256",
            hashlib.sha256((target / entry.path.decode()).read_bytes()).digest(),
        )
        for entry in files
    ]
    path = server.home / "manifest"
    path.write_bytes(written(anew, facts.system_id, facts.ranges))
    arguments = ("pg_verifybackup", "-n", "-m", path, target)
    result = server.program(*arguments)
    assert (0, "") == (result.returncode, result.stderr)
    path.write_bytes(written([*anew[:-1], ManifestFile(b"absent", 1, "", "NONE", b"")], facts.system_id, facts.ranges))
    assert '"absent" is present in the manifest but not on disk' in server.program(*arguments).stderr
