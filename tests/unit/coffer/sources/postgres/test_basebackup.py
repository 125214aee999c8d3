"""Base backups of real servers arrive whole, and end cleanly whatever happens."""

from __future__ import annotations

import io
import shutil
import threading

import google_crc32c
import pytest

from coffer.errors import InterruptedRunError, UsageError
from coffer.errors_postgres import PostgresIncrementalRefusedError
from coffer.postgres.backup_manifest import ManifestParser
from coffer.sources.postgres.basebackup import BaseBackupOptions, CorruptPage, take_base_backup
from coffer.sources.postgres.basebackup_tar import Kind, Member, TarParser
from coffer.sources.postgres.replication import ReplicationSession
from tests.harness.postgres import unprivileged

OPTIONS = BaseBackupOptions("a test")


class Collector:
    """Keeps a whole backup in memory: archives by name, each with its files; and the manifest."""

    def __init__(self):
        self.archives, self.files, self.manifest_text, self.reported = [], {}, b"", []
        self._tar = None

    def archive(self, name, location):
        self._close()
        self.archives.append((name, location))
        self._tar = TarParser(name)

    def archive_data(self, data):
        for event in self._tar.feed(data):
            if isinstance(event, Member):
                self._member = event
                if event.kind is Kind.FILE:
                    self.files[event.name] = bytearray()
            else:
                self.files[self._member.name] += event

    def manifest(self):
        self._close()

    def manifest_data(self, data):
        self.manifest_text += data

    def progress(self, done_bytes):
        self.reported.append(done_bytes)

    def _close(self):
        if self._tar is not None:
            self._tar.finish()


@pytest.fixture(scope="module")
def filled(servers):
    """A server with a table."""
    server = servers.start()
    server.sql("CREATE TABLE t AS SELECT n, repeat('x', 200) AS text FROM generate_series(1, 20000) n")
    return server


def take(server, options=OPTIONS, **more):
    """Take a base backup; return (what arrived, what the server said)."""
    collector = Collector()
    with ReplicationSession(server.connection()) as session:
        return collector, take_base_backup(session, options, collector, **more)


def test_every_file_has_the_checksum_of_the_manifest(filled):
    """All that the manifest names arrived, byte for byte, and nothing else but the manifest's own exceptions."""
    collector, result = take(filled)
    parser = ManifestParser()
    entries = {entry.path: entry for entry in parser.feed(collector.manifest_text)}
    parser.finish()
    assert [("base.tar", "")] == collector.archives
    assert set(entries) == set(collector.files)
    for path, entry in entries.items():
        content = bytes(collector.files[path])
        assert (entry.size_bytes, entry.checksum) == (
            len(content),
            google_crc32c.value(content).to_bytes(4, "little"),
        ), path
    assert (False, ()) == (result.is_corrupt, result.corrupt_pages)
    assert collector.reported[-1] > 1 << 20


def test_a_damaged_page_is_named_and_everything_arrives(servers):
    """The backup is not thrown away: the caller keeps it as suspect."""
    server = servers.start()
    server.sql("CREATE TABLE t AS SELECT n FROM generate_series(1, 5000) n")
    path = server.value("SELECT pg_relation_filepath('t')")
    server.stop()
    with (server.data / path).open("r+b") as file:
        file.seek(2 * 8192 + 5000)
        file.write(b"\xff\x00\xff")
    server.start()
    collector, result = take(server)
    assert (True, (CorruptPage(path, 2),)) == (result.is_corrupt, result.corrupt_pages)
    assert path.encode() in collector.files
    unchecked = take(server, BaseBackupOptions("x", verify_checksums=False))[1]
    assert (False, ()) == (unchecked.is_corrupt, unchecked.corrupt_pages)


def test_a_tablespace_is_an_archive_of_its_own(servers):
    """It comes before the data folder, with its place on the server."""
    server = servers.start()
    place = server.home / "space one"
    place.mkdir()
    shutil.chown(place, unprivileged().pw_uid, unprivileged().pw_gid)
    server.must("psql", "-c", f"CREATE TABLESPACE apart LOCATION '{place}'")
    server.sql("CREATE TABLE t (n int) TABLESPACE apart")
    oid = server.value("SELECT oid FROM pg_tablespace WHERE spcname = 'apart'")
    collector, _ = take(server)
    assert [(f"{oid}.tar", str(place)), ("base.tar", "")] == collector.archives


def test_a_stop_ends_it(filled):
    """With the next message, and the server is free again."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError, match="stopped by request"):
        take(filled, stop=stop)
    take(filled)


def test_what_the_consumer_raises_ends_it(filled):
    """A full disk at our end is raised as it is, and the connection is closed."""

    class Full(Collector):
        def archive_data(self, data):
            raise OSError(28, "No space left on device")

    with ReplicationSession(filled.connection()) as session:
        with pytest.raises(OSError, match="No space left"):
            take_base_backup(session, OPTIONS, Full())
        assert session.connection.closed


def test_an_incremental_without_summaries_is_refused(filled):
    """Versions before 17, and servers without summarize_wal, say so; the error leads to the other method."""
    collector, _ = take(filled)
    with pytest.raises(PostgresIncrementalRefusedError, match=r"(?i)incremental"):
        take(
            filled,
            BaseBackupOptions("x", incremental=True),
            base_manifest=io.BytesIO(collector.manifest_text),
        )


@pytest.mark.parametrize("label", ["", "it's", "line\nbreak", "ü", "x" * 1001])
def test_labels_that_could_change_the_command_are_refused(label):
    """Before anything is sent."""
    with pytest.raises(UsageError, match="label"):
        BaseBackupOptions(label).command()


@pytest.mark.parametrize("rate", [0, 31 << 10, 1 << 31])
def test_rates_that_the_server_does_not_take_are_refused(rate):
    """With the range that it takes."""
    with pytest.raises(UsageError, match="32 KiB/s to 1 GiB/s"):
        BaseBackupOptions("x", max_rate_bytes_s=rate).command()
