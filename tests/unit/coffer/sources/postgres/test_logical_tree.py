"""Files that arrive in pieces become a manifest; what did not change lies where it lay."""

import random

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.progress import Progress
from coffer.repository.entries import Kind
from coffer.repository.pack import TYPE_DATA
from coffer.repository.repository import Repository
from coffer.sources.assembly.bundle import Bundler
from coffer.sources.assembly.run import WriteOptions, WriteRun
from coffer.sources.postgres.logical_tree import Before, TreeWriter
from tests.harness.snapshots import KEY, SMALL_CHUNKS


class Store:
    """A repository, and one backup after another of files given as lists of pieces."""

    def __init__(self):
        self.repo = Repository.create(MemoryBackend(), KEY, chunking=SMALL_CHUNKS)

    def save(self, files):
        """Save path → pieces, taking turns piece by piece; return the snapshot."""
        run = WriteRun(self.repo, "x")
        before = Before.of(self.repo, run.previous)
        run.begin(WriteOptions(workers=1))
        try:
            tree = TreeWriter(
                run.writer,
                self.repo.keyring.ids,
                before,
                bundle_below_bytes=SMALL_CHUNKS.bundle_below_bytes,
                bundler=Bundler(run.writer, SMALL_CHUNKS),
                time_ns=run.started_ns,
                progress=Progress(),
            )
            left = {path: list(pieces) for path, pieces in files.items()}
            while left:
                for path in list(left):
                    if left[path]:
                        tree.add(path, left[path].pop(0))
                    else:
                        tree.finish(path)
                        del left[path]
            root = tree.draft().finish(self.repo.index(), before.manifest, run.lease.sequence)
            return run.commit(root, stats=tree.stats())[0]
        finally:
            run.close()

    def contents(self, snapshot):
        """Return path → content of the files of a snapshot."""
        manifest, reader = self.repo.manifest(snapshot), self.repo.reader()
        found = {}
        for entry in manifest.entries():
            if entry.kind is Kind.FILE:
                extents = manifest.expand(entry.content) if entry.content else ()
                parts = [reader.read(e.chunk_id, TYPE_DATA)[e.offset : e.offset + e.length] for e in extents]
                found[entry.path] = b"".join(parts)
                assert len(found[entry.path]) == entry.size_bytes
        return found


@pytest.fixture
def store():
    return Store()


def pieces_of(seed, count, size=1500):
    source = random.Random(seed)
    return [source.randbytes(size) for _ in range(count)]


FILES = {
    b"globals.sql": [b"CREATE ROLE x;\n"],
    b"db/schema.dump": pieces_of(1, 3),
    b"db/data/1-empty.copy": [],
    b"db/data/2-small.copy": [b"1\tone\n"],
    b"db/data/3-same.copy": [b"1\tone\n"],
    b"db/data/4-one piece.copy": pieces_of(2, 1),
    b"db/data/5-large.copy": pieces_of(3, 40),
    b"another db/toc.json": [b"{}"],
}


def test_files_come_back_whatever_the_order_of_their_pieces(store):
    """Small ones in bundles, one of one piece, large ones of many, an empty one; folders above them are entries."""
    snapshot = store.save(FILES)
    assert {path: b"".join(pieces) for path, pieces in FILES.items()} == store.contents(snapshot)
    paths = [entry.path for entry in store.repo.manifest(snapshot).entries()]
    assert paths[:3] == [b"another db", b"db", b"globals.sql"]
    assert {b"db/data", b"another db/toc.json"} <= set(paths)


def test_counts_compare_with_the_snapshot_before(store):
    """New, changed and unchanged files, by their content and path."""
    first = store.save(FILES)
    assert (8, 0, 0) == tuple(first.stats[f"files_{kind}"] for kind in ("new", "changed", "unchanged"))
    changed = {**FILES, b"db/data/2-small.copy": [b"2\ttwo\n"], b"db/data/9-new.copy": [b"x"]}
    second = store.save(changed)
    assert (1, 1, 7) == tuple(second.stats[f"files_{kind}"] for kind in ("new", "changed", "unchanged"))


def test_what_did_not_change_is_not_stored_again(store):
    """Large files by their chunks, small ones by the place that they had, though the bundle around them changed."""
    store.save(FILES)
    second = store.save({**FILES, b"db/data/2-small.copy": [b"2\ttwo\n"]})
    assert second.stats["raw_bytes_new"] < 4000  # the manifest's blocks, and a bundle of some bytes
    assert store.contents(second)[b"db/data/3-same.copy"] == b"1\tone\n"


def test_a_snapshot_before_that_is_damaged_is_passed_over(store):
    """Everything counts as new then; what is stored is found by its chunks all the same."""
    first = store.save(FILES)
    store.repo.manifest(first)

    class Broken:
        root = store.repo.manifest(first).root

        def entries(self):
            from coffer.errors import ObjectCorruptError

            raise ObjectCorruptError("planted")

    before = Before(Broken(), store.repo.index())
    assert (None, {}) == (before.manifest, before.ids)


def test_many_files_make_several_blocks(store):
    """A database of thousands of tables is cut into blocks like any folder."""
    files = {f"db/data/{n}-t.copy".encode(): [b"%d\n" % n] for n in range(14_000)}
    snapshot = store.save(files)
    assert len(store.repo.manifest(snapshot).root.blocks) > 1
    assert store.contents(snapshot) == {path: pieces[0] for path, pieces in files.items()}
