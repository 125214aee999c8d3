"""A repository in which files of pages are stored, one snapshot after another, without a server."""

from __future__ import annotations

import random

from coffer.backends.memory import MemoryBackend
from coffer.postgres.facts import PAGES_FOLDER
from coffer.postgres.page import PAGE_BYTES
from coffer.repository.manifest import ManifestReader
from coffer.repository.pack import TYPE_DATA
from coffer.sources.assembly.bundle import Bundler
from coffer.sources.assembly.drafts import ManifestDraft
from coffer.sources.assembly.run import WriteOptions, WriteRun
from coffer.sources.postgres.clustertree import ClusterTree, make_row
from coffer.sources.postgres.pagefile import PIECE_BYTES, PageCounts, PagedFile, PageWriter
from coffer.sources.postgres.stored import StoredCluster
from tests.harness.repositories import make_repository

MODE = 0o100600


class WholeFile:
    """A file that comes whole, and is compared with the snapshot before."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def store(self, bench: PageBench, pages: PageWriter, tree: ClusterTree, path: bytes) -> None:
        """Put it into a tree."""
        file = PagedFile(pages, bench.old.pages(path) if bench.old is not None else None)
        for at in range(0, len(self.data), PIECE_BYTES):
            file.add(self.data[at : at + PIECE_BYTES])
        tree.add_pages(path, make_row(MODE, 0, 0, len(self.data), 0), file.content, file.digests)


class PageBench:
    """The repository, the snapshot that is compared with, and what the last snapshot took."""

    def __init__(self) -> None:
        self.repo = make_repository(MemoryBackend())
        self.old: StoredCluster | None = None
        self.counts = PageCounts()
        self.stored_bytes = 0

    def store(self, files):
        """Store files, path -> content or whatever has a `store`; return the reader of the new snapshot's manifest."""
        run = WriteRun(self.repo, "a cluster")
        run.begin(WriteOptions(workers=2))
        try:
            pages = PageWriter(run.writer, self.repo.keyring.ids, self.repo.index().__contains__)
            tree = ClusterTree(self.repo.keyring.ids, run.writer, pages)
            for path, file in files.items():
                (WholeFile(file) if isinstance(file, bytes) else file).store(self, pages, tree, path)
            draft = ManifestDraft(run.writer, Bundler(run.writer, self.repo.settings.chunking))
            tree.finish(draft)
            root = draft.finish(self.repo.index(), None, run.lease.sequence)
            snapshot, _ = run.commit(root, stats={})
            self.counts, self.stored_bytes = pages.counts, snapshot.stats["raw_bytes_new"]
        finally:
            run.close()
        manifest = self.repo.manifest(snapshot)
        self.old = StoredCluster(manifest, self.repo.reader())
        return manifest

    def read(self, manifest: ManifestReader, path: bytes) -> bytes:
        """Return a file's content out of the repository."""
        entry = manifest.find(path)
        if entry.content is None:
            return b""
        read = self.repo.reader().read
        parts = []
        for chunk_id, offset, length, _ in manifest.expand(entry.content):
            parts.append(bytes(length) if chunk_id is None else read(chunk_id, TYPE_DATA)[offset : offset + length])
        assert entry.size_bytes == sum(map(len, parts))
        return b"".join(parts)

    def must_hold(self, manifest: ManifestReader, files: dict[bytes, bytes]) -> None:
        """Compare all files, the digests of their pages and the ids of their contents with what is given back."""
        ids = self.repo.keyring.ids
        for path, data in files.items():
            assert data == self.read(manifest, path), path
            if not data:
                continue
            assert ids.page_digests(data) == self.read(manifest, PAGES_FOLDER + b"/" + path), path
            content = manifest.find(path).content
            extents = [tuple(extent[:3]) for extent in manifest.expand(content)]
            assert ids.extents_id(extents) == content.content_id, path


def changed(data: bytes, pages, seed: int) -> bytes:
    """Return data with other bytes in the middle of some pages."""
    draw = random.Random(seed)
    out = bytearray(data)
    for page in pages:
        out[page * PAGE_BYTES + 100 : page * PAGE_BYTES + 140] = draw.randbytes(40)
    return bytes(out)
