"""Every reference of a snapshot is followed, whatever is wrong on the way, and each shared block once."""

from dataclasses import replace

import pytest

from coffer.ids import ChunkId, pack_name
from coffer.repository.blocks import Group, encode_content, encode_stable, encode_times
from coffer.repository.entries import Content, Extent
from coffer.repository.index import write_segments
from coffer.repository.manifest import NO_FINGERPRINT, BlockRef, encode_list, encode_root
from coffer.repository.pack import TYPE_DATA, TYPE_LIST, TYPE_ROOT, TYPE_SECTION, PackBuilder
from coffer.repository.reader import ChunkReader
from coffer.verification.damage import Damage
from coffer.verification.findings import MAX_PATHS_KEPT, FindingLog
from coffer.verification.inventory import take_inventory
from coffer.verification.placement import place_chunks
from coffer.verification.references import ReferenceWalk

CONTENT = b"ten bytes!"


class Forge:
    """Makes manifests that no writer makes, sealed with the repository's keys.

    Attributes:
        repo: The repository of a copy of the store.
        found: The findings of the last walk that concern a snapshot.
    """

    def __init__(self, history, store):
        self.repo, self.store = history.open(store), store
        self.base = history.snapshots[-1]
        self._builder = PackBuilder(self.repo.keyring)
        self.pack = ""
        self.found = []
        self._notes = FindingLog()

    def chunk(self, data, type_=TYPE_DATA):
        chunk_id = self.repo.keyring.ids.chunk_id(data, type_)
        self._builder.add(chunk_id, type_, 0, data, len(data))
        return chunk_id

    def snapshot(self, *extents, mode=0o100644, folder=b"folder", sections=None):
        """A snapshot of one file of these extents."""
        size = sum(extent.length for extent in extents)
        row = (mode, 0, 0, size, 1, 1, 1, 0, 0)
        group = Group(folder, [b"file"], [row], {}, {0: Content(bytes(16), extents)} if extents else {})
        stable, times, content = sections or (
            self.chunk(encode([group]), TYPE_SECTION) for encode in (encode_stable, encode_times, encode_content)
        )
        block = BlockRef(folder, b"file", 1, size, NO_FINGERPRINT, stable, times, content)
        root = self.chunk(encode_root([block]), TYPE_ROOT)
        return replace(self.base, manifest_root=root, id="f" * 16)

    def seal(self):
        pack = self._builder.finish()
        self.pack = pack_name(pack.pack_id)
        self.store.put(self.pack, pack.parts)
        write_segments(self.store, self.repo.keyring, [(pack.pack_id, pack.table)])

    def walk(self, *snapshots, damage=None):
        """Visit snapshots; return the walk and the findings as (code, object, snapshots, paths)."""
        notes = FindingLog()
        repo = self.repo
        placement = place_chunks(repo.backend, repo.keyring, take_inventory(repo.backend, notes), notes, lambda: None)
        walk = ReferenceWalk(
            ChunkReader(repo.backend, repo.keyring, placement.index), placement, damage or Damage(), notes, lambda: None
        )
        for snapshot in snapshots:
            walk.visit(snapshot)
        self.found = [found for found in notes.close()[0] if found.snapshots]
        return walk, [(f.code, f.object, f.snapshots, f.paths) for f in self.found]


@pytest.fixture
def forge(history, store):
    """A forge on a copy of the store."""
    return Forge(history, store)


def test_a_shared_block_is_visited_once(history, forge):
    """Three snapshots of one tree: the counts are of distinct blocks, and nothing is found."""
    walk, findings = forge.walk(*history.snapshots)
    assert [] == findings
    once, _ = forge.walk(history.snapshots[0])
    again, _ = forge.walk(history.snapshots[0], history.snapshots[0])
    assert (once.blocks, once.entries, once.files) == (again.blocks, again.entries, again.files)
    assert walk.files > once.files
    assert set() == walk.needed


def test_a_good_forgery_is_sound(forge):
    """The forge itself makes what a writer makes: holes, lists and plain extents."""
    data = forge.chunk(CONTENT)
    listed = forge.chunk(encode_list([Extent(data, 0, 10), Extent(None, 0, 5)]), TYPE_LIST)
    snapshot = forge.snapshot(Extent(data, 2, 8), Extent(None, 0, 7), Extent(listed, 0, 15, indirect=True))
    forge.seal()
    walk, findings = forge.walk(snapshot)
    assert ([], 1, 1, 1) == (findings, walk.blocks, walk.entries, walk.files)


def test_an_extent_beyond_its_chunk_is_an_error_of_the_manifest(forge):
    """Restored, the file would be short."""
    snapshot = forge.snapshot(Extent(forge.chunk(CONTENT), 1, 10))
    forge.seal()
    _, findings = forge.walk(snapshot)
    assert [("object-corrupt", forge.pack, (snapshot.id,), (b"folder/file",))] == findings


def test_a_chunk_in_no_pack_is_an_error_named_by_its_id(forge):
    """No object is known for it."""
    missing = ChunkId(bytes(range(32)))
    snapshot = forge.snapshot(Extent(missing, 0, 10), folder=b"")
    forge.seal()
    _, findings = forge.walk(snapshot)
    assert [("chunk-missing", missing.hex(), (snapshot.id,), (b"file",))] == findings


def test_a_chunk_of_another_type_is_no_content(forge):
    """A manifest's own section under a file's name would come out as the file."""
    section = forge.chunk(b"a section", TYPE_SECTION)
    snapshot = forge.snapshot(Extent(section, 0, 9))
    forge.seal()
    _, findings = forge.walk(snapshot)
    assert [("object-corrupt", forge.pack, (snapshot.id,), (b"folder/file",))] == findings


@pytest.mark.parametrize(
    "listed",
    [b"not a list", encode_list([Extent(ChunkId(b"x" * 32), 0, 3)]), None],
    ids=["no-list", "another-length", "missing"],
)
def test_a_list_that_does_not_read_is_an_error(forge, listed):
    """Its pack is named, or its id where it is nowhere."""
    list_id = ChunkId(bytes(range(32))) if listed is None else forge.chunk(listed, TYPE_LIST)
    snapshot = forge.snapshot(Extent(list_id, 0, 10, indirect=True))
    forge.seal()
    _, findings = forge.walk(snapshot)
    code, name = ("chunk-missing", list_id.hex()) if listed is None else ("object-corrupt", forge.pack)
    assert [(code, name, (snapshot.id,), (b"folder/file",))] == findings


def test_a_missing_chunk_in_a_list_is_an_error_of_the_file(forge):
    """Lists are expanded."""
    missing = ChunkId(bytes(range(32)))
    listed = forge.chunk(encode_list([Extent(missing, 0, 10)]), TYPE_LIST)
    snapshot = forge.snapshot(Extent(listed, 0, 10, indirect=True))
    forge.seal()
    _, findings = forge.walk(snapshot)
    assert [("chunk-missing", missing.hex(), (snapshot.id,), (b"folder/file",))] == findings


def test_a_manifest_in_a_missing_pack_is_an_error_of_the_pack(history, forge, store):
    """The index still says where it was."""
    (snapshot,) = history.snapshots[:1]
    where = forge.repo.index().find(snapshot.manifest_root)
    store.delete(pack_name(where.pack_id))
    _, findings = forge.walk(snapshot)
    assert [("object-not-found", pack_name(where.pack_id), (snapshot.id,), ())] == findings


def test_the_paths_of_one_loss_are_bounded(forge):
    """A block of many files that all need one chunk."""
    missing = ChunkId(bytes(range(32)))
    count = 3 * MAX_PATHS_KEPT
    names = [b"file-%03d" % number for number in range(count)]
    rows = [(0o100644, 0, 0, 10, number, 1, 1, 0, 0) for number in range(count)]
    contents = {at: Content(bytes(16), (Extent(missing, 10 * at, 10),)) for at in range(count)}
    group = Group(b"folder", names, rows, {}, contents)
    sections = [forge.chunk(encode([group]), TYPE_SECTION) for encode in (encode_stable, encode_times, encode_content)]
    root = encode_root([BlockRef(b"folder", names[0], count, 10 * count, NO_FINGERPRINT, *sections)])
    snapshot = replace(forge.base, manifest_root=forge.chunk(root, TYPE_ROOT), id="f" * 16)
    forge.seal()
    walk, ((_, _, _, paths),) = forge.walk(snapshot)
    assert tuple(b"folder/" + name for name in names[:MAX_PATHS_KEPT]) == paths
    assert count == walk.files


def test_a_block_without_content_has_two_sections(forge):
    """Folders and links alone."""
    row = (0o040755, 0, 0, 0, 1, 1, 1, 0, 0)
    group = Group(b"folder", [b"below"], [row])
    stable, times = (forge.chunk(encode([group]), TYPE_SECTION) for encode in (encode_stable, encode_times))
    root = encode_root([BlockRef(b"folder", b"below", 1, 0, NO_FINGERPRINT, stable, times, None)])
    snapshot = replace(forge.base, manifest_root=forge.chunk(root, TYPE_ROOT), id="f" * 16)
    forge.seal()
    walk, findings = forge.walk(snapshot)
    assert ([], 1, 0) == (findings, walk.entries, walk.files)


@pytest.mark.parametrize("missing", ["stable", "root"])
def test_a_manifest_in_no_pack_is_an_error_named_by_its_id(forge, missing):
    """The snapshot that needs it is told; of a block, its first path."""
    gone = ChunkId(bytes(range(32)))
    data = forge.chunk(CONTENT)
    snapshot = forge.snapshot(Extent(data, 0, 10), sections=(gone, gone, None) if missing == "stable" else None)
    if missing == "root":
        snapshot = replace(snapshot, manifest_root=gone)
    forge.seal()
    _, findings = forge.walk(snapshot)
    paths = (b"folder/file",) if missing == "stable" else ()
    assert [("chunk-missing", gone.hex(), (snapshot.id,), paths)] == findings


def test_the_entries_of_a_block_that_cannot_be_read_are_counted(forge):
    """Its first path is known, since the root holds it; the others have no name, and are a number."""
    bad = forge.chunk(b"no section", TYPE_SECTION)
    block = BlockRef(b"folder", b"file", 243, 10, NO_FINGERPRINT, bad, bad, bad)
    root = forge.chunk(encode_root([block]), TYPE_ROOT)
    forge.seal()
    forge.walk(replace(forge.base, manifest_root=root, id="f" * 16))
    assert [((b"folder/file",), (242,))] == [(f.paths, f.further) for f in forge.found]


def test_a_section_that_is_none_is_an_error_of_its_pack(forge):
    """Authentic, and no column can be read from it."""
    bad = forge.chunk(b"no section", TYPE_SECTION)
    snapshot = forge.snapshot(Extent(forge.chunk(CONTENT), 0, 10), sections=(bad, bad, bad))
    forge.seal()
    _, findings = forge.walk(snapshot)
    assert [("object-corrupt", forge.pack, (snapshot.id,), (b"folder/file",))] == findings


def test_every_snapshot_that_shares_a_hurt_block_is_told(history, forge, store):
    """The block is read once; the second snapshot's share of the loss is remembered."""
    missing = ChunkId(bytes(range(32)))
    one = forge.snapshot(Extent(missing, 0, 10))
    two = replace(one, id="e" * 16)
    forge.seal()
    walk, findings = forge.walk(one, two)
    assert [("chunk-missing", missing.hex(), (one.id, two.id), (b"folder/file",))] == findings
    assert 1 == walk.blocks


def test_frames_that_did_not_open_when_packs_were_read_are_told_with_their_files(history, forge):
    """What the reading of packs found counts, whatever the manifest's reader sees."""
    index = history.bench.reopen().index()
    damage = Damage()
    for pack_id in index.pack_ids():
        damage.mark(pack_id, None)
    notes = FindingLog()
    repo = forge.repo
    placement = place_chunks(repo.backend, repo.keyring, take_inventory(repo.backend, notes), notes, lambda: None)
    for pack_id in placement.index.pack_ids():
        notes.error(pack_name(pack_id), "object-corrupt", "damaged")
    walk = ReferenceWalk(
        ChunkReader(repo.backend, repo.keyring, placement.index), placement, damage, notes, lambda: None
    )
    walk.visit(history.snapshots[0])
    told = [found.object for found in notes.close()[0] if found.snapshots]
    assert set(told) <= set(history.packs(TYPE_DATA))
    assert told
