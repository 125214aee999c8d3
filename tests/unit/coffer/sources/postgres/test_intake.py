"""What a base backup holds goes into the tree as it came, and what does not fit its manifest is refused."""

from __future__ import annotations

import io
import random
import tarfile

import google_crc32c
import pytest

from coffer.backends.memory import MemoryBackend
from coffer.errors import SourceFormatError
from coffer.postgres.backup_manifest import ManifestFile, ManifestWriter, WalRange
from coffer.postgres.facts import MANIFEST_PATH
from coffer.postgres.lsn import Lsn
from coffer.progress import Progress
from coffer.repository.pack import TYPE_DATA
from coffer.sources.assembly.bundle import Bundler
from coffer.sources.assembly.drafts import ManifestDraft
from coffer.sources.assembly.run import WriteOptions, WriteRun
from coffer.sources.postgres.clustertree import ClusterTree
from coffer.sources.postgres.intake import Intake
from coffer.sources.postgres.pagefile import PageWriter
from coffer.sources.postgres.stored import StoredCluster
from tests.harness.repositories import make_repository

RANGES = [WalRange(1, Lsn(0xA00028), Lsn(0xA00120))]


def archive_of(files):
    """Return a ustar archive of path -> content; None is a folder, text a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid, info.mtime = 0o600, 26, 27, 1_700_000_000
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o700
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
        end = archive.offset
    return buffer.getvalue()[:end]


def manifest_of(files, **changes):
    """Return the manifest of path -> content, with CRC32C; `changes` gives another content for a path's checksum."""
    writer = ManifestWriter(7)
    parts = [writer.head()]
    for path, content in files.items():
        if isinstance(content, bytes):
            crc = google_crc32c.value(changes.get(path, content)).to_bytes(4, "little")
            parts.append(
                writer.file(ManifestFile(path.encode(), len(content), "2026-11-25 00:00:00 GMT", "CRC32C", crc))
            )
    return b"".join([*parts, writer.tail(RANGES)])


class Bench:
    """A repository that takes base backups made by hand."""

    def __init__(self):
        self.repo = make_repository(MemoryBackend())
        self.old = None

    def take(self, archives, manifest, piece_bytes=32768):
        """Feed archives (name, location, content) and a manifest; commit, and return the manifest's reader."""
        run = WriteRun(self.repo, "a cluster")
        run.begin(WriteOptions(workers=1))
        try:
            pages = PageWriter(run.writer, self.repo.keyring.ids, self.repo.index().__contains__)
            bundler = Bundler(run.writer, self.repo.settings.chunking)
            tree = ClusterTree(self.repo.keyring.ids, run.writer, pages)
            below_bytes = self.repo.settings.chunking.bundle_below_bytes
            intake = Intake(tree, pages, bundler, self.old, below_bytes, Progress(), lambda: None)
            for name, location, data in archives:
                intake.archive(name, location)
                for at in range(0, len(data), piece_bytes):
                    intake.archive_data(memoryview(data[at : at + piece_bytes]))
            intake.manifest()
            for at in range(0, len(manifest), piece_bytes):
                intake.manifest_data(memoryview(manifest[at : at + piece_bytes]))
            facts = intake.finish()
            assert RANGES == facts.ranges
            bundler.close()
            draft = ManifestDraft(run.writer, bundler)
            tree.finish(draft)
            root = draft.finish(self.repo.index(), None, run.lease.sequence)
            snapshot, _ = run.commit(root, stats={})
            self.raw_bytes_new = snapshot.stats["raw_bytes_new"]
        finally:
            run.close()
        self.tablespaces = intake.tablespaces
        reader = self.repo.manifest(snapshot)
        self.old = StoredCluster(reader, self.repo.reader())
        return reader

    def read(self, manifest, path):
        """Return a file's content out of the repository."""
        entry = manifest.find(path)
        if entry.content is None:
            return b""
        read = self.repo.reader().read
        extents = manifest.expand(entry.content)
        return b"".join([read(e.chunk_id, TYPE_DATA)[e.offset : e.offset + e.length] for e in extents])


@pytest.fixture
def bench():
    return Bench()


def sample(seed=1):
    draw = random.Random(seed)
    return {
        "backup_label": b"START WAL LOCATION\n",
        "pg_wal": None,
        "base": None,
        "base/5": None,
        "base/5/1259": draw.randbytes(13 * 8192),
        "base/5/16384": draw.randbytes(400 * 8192),
        "base/5/16384_fsm": draw.randbytes(3 * 8192),
        "base/5/16385": b"",
        "base/5/pg_filenode.map": draw.randbytes(512),
        "pg_xact/0000": draw.randbytes(600_000),
        "global/pg_control": draw.randbytes(8192),
    }


@pytest.mark.parametrize("piece_bytes", [512, 1000, 32768, 1 << 21])
def test_every_file_is_in_the_tree_as_it_came(bench, piece_bytes):
    """Content, owner, mode and time of files and folders; the manifest; whatever the sizes of the messages are."""
    files = sample()
    manifest_text = manifest_of(files)
    manifest = bench.take([("base.tar", "", archive_of(files))], manifest_text, piece_bytes)
    for path, content in files.items():
        entry = manifest.find(path.encode())
        assert (26, 27, 1_700_000_000_000_000_000) == (entry.uid, entry.gid, entry.mtime_ns)
        assert (0o040700 if content is None else 0o100600) == entry.mode
        if content is not None:
            assert content == bench.read(manifest, path.encode())
    assert manifest_text == bench.read(manifest, MANIFEST_PATH)


def test_what_did_not_change_is_not_stored_again(bench):
    """A second backup of the same files stores entries and the like, and no content but the manifest's."""
    files = sample()
    archives = [("base.tar", "", archive_of(files))]
    bench.take(archives, manifest_of(files))
    before = bench.raw_bytes_new
    manifest = bench.take(archives, manifest_of(files))
    assert bench.raw_bytes_new < 1_300_000 < before  # the one file that is neither small nor of pages is cut as before
    for path, content in files.items():
        if content is not None:
            assert content == bench.read(manifest, path.encode())


def test_a_tablespace_lies_below_its_number(bench):
    """And where it was on the server is kept."""
    inside = {"PG_15_202209061": None, "PG_15_202209061/5": None, "PG_15_202209061/5/16400": b"p" * 8192}
    files = sample()
    named = {f"pg_tblspc/16399/{path}": content for path, content in inside.items()}
    archives = [("16399.tar", "/srv/side", archive_of(inside)), ("base.tar", "", archive_of(files))]
    manifest = bench.take(archives, manifest_of({**named, **files}))
    assert b"p" * 8192 == bench.read(manifest, b"pg_tblspc/16399/PG_15_202209061/5/16400")
    assert {16399: "/srv/side"} == bench.tablespaces
    assert 0o040700 == manifest.find(b"pg_tblspc/16399").mode


def test_a_file_that_arrived_otherwise_is_refused(bench):
    """A flipped bit between the server's disk and here is found by the manifest's checksum."""
    files = sample()
    changes = {"base/5/1259": files["base/5/1259"][:-1] + b"?"}
    with pytest.raises(SourceFormatError, match=r"base/5/1259.*checksum"):
        bench.take([("base.tar", "", archive_of(files))], manifest_of(files, **changes))
    assert [] == bench.repo.snapshots()


def test_a_file_that_is_missing_or_one_too_many_is_refused(bench):
    """The manifest says what there is."""
    files = sample()
    fewer = {path: content for path, content in files.items() if path != "base/5/1259"}
    with pytest.raises(SourceFormatError, match="in the manifest and did not come"):
        bench.take([("base.tar", "", archive_of(fewer))], manifest_of(files))
    with pytest.raises(SourceFormatError, match="is not in the manifest"):
        bench.take([("base.tar", "", archive_of(files))], manifest_of(fewer))


def test_a_path_that_comes_twice_is_refused(bench):
    """Two archives must not write one file."""
    files = sample()
    twice = [("base.tar", "", archive_of(files)), ("base.tar", "", archive_of({"base/5/1259": b"x" * 8192}))]
    with pytest.raises(SourceFormatError, match="comes twice"):
        bench.take(twice, manifest_of(files))


def test_names_that_begin_with_a_point_are_those_without(bench):
    """The server writes `./pg_wal/archive_status`: no folder of the name `.` comes of it."""
    files = {**sample(), "./pg_wal/archive_status": None}
    manifest = bench.take([("base.tar", "", archive_of(files))], manifest_of(files))
    assert manifest.find(b"pg_wal/archive_status") is not None
    assert manifest.find(b".") is None


@pytest.mark.parametrize(
    ("archives", "words"),
    [
        ([("base.tar", "", {"base/link": "/etc"})], "is a symbolic link"),
        ([("side.tar", "/srv", {"a": b"x"})], "is of no tablespace"),
        ([("base.tar", "", {"base": b"x", "base/5": b"y"})], "is a file and a folder"),
    ],
)
def test_what_no_server_sends_is_refused(bench, archives, words):
    """One clear error each; nothing is committed."""
    made = [(name, location, archive_of(files)) for name, location, files in archives]
    with pytest.raises(SourceFormatError, match=words):
        bench.take(made, manifest_of({}))
    assert [] == bench.repo.snapshots()
