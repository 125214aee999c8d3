"""Manifests: roots, blocks found by path, and lists of very large files."""

import struct
from dataclasses import replace

import pytest

from coffer.errors import ObjectCorruptError, SizeLimitError
from coffer.repository.blocks import Group
from coffer.repository.entries import Extent
from coffer.repository.manifest import BlockRef, ManifestReader, decode_list, decode_root, encode_list, encode_root
from coffer.repository.pack import MAX_RAW_BYTES, TYPE_LIST, TYPE_ROOT
from tests.harness.manifests import FOLDER, DictStore, chunk_id, content, row, sample_groups

LONG_HOLE = 3 * ((1 << 32) - 1) + 5


def _ref(number, folder=b"a", name=b"b", **changes):
    parts = {
        "folder": folder,
        "name": name,
        "entry_count": number,
        "size_bytes": number * 10,
        "fingerprint": bytes((number,)) * 16,
        "stable": chunk_id(number),
        "times": chunk_id(number + 100),
        "content": chunk_id(number + 200),
    }
    return BlockRef(**(parts | changes))


def _names(entries):
    return [entry.path for entry in entries]


# ------------------------------------------------------------------------------------------------ roots


def test_a_root_comes_back():
    """Blocks in order, with and without content, and the sparse bundles."""
    blocks = (_ref(1, b"", b"x"), _ref(2, b"a\xff/b", b"n" * 255, content=None), _ref(3))
    sparse = frozenset({chunk_id(7), chunk_id(8)})
    root = decode_root(encode_root(blocks, sparse), "x")
    assert (blocks, sparse) == (root.blocks, root.sparse)
    assert (6, 60) == (root.entry_count, root.size_bytes)


def test_a_root_is_encoded_the_same_way_every_time():
    """Whatever order a set has."""
    sparse = [chunk_id(n) for n in range(50)]
    assert encode_root([_ref(1)], frozenset(sparse)) == encode_root([_ref(1)], frozenset(reversed(sparse)))


def test_the_root_of_nothing_comes_back():
    """A source without entries has a manifest all the same."""
    assert ((), frozenset()) == (decode_root(encode_root([]), "x").blocks, decode_root(encode_root([]), "x").sparse)


@pytest.mark.parametrize("where", [(b"f" * 4097, b"n"), (b"f", b"n" * 4097)])
def test_a_root_names_no_path_that_no_system_takes(where):
    """A block that begins with one is hostile: the path would be kept for every message about it (I7)."""
    assert 1 == len(decode_root(encode_root([_ref(1, b"f" * 4096, b"n" * 4096)]), "x").blocks)
    with pytest.raises(SizeLimitError, match="path of a block is over the cap"):
        decode_root(encode_root([_ref(1, *where)]), "x")


@pytest.mark.parametrize("sizes", [(1 << 63, 1 << 63), (1 << 63, 3 << 63), (1 << 64, 0)])
def test_a_sum_over_what_a_field_holds_is_written_as_the_most_it_holds(sizes):
    """Some sparse files have more than 2^64 bytes together; what a writer writes, a reader reads."""
    blocks = [replace(_ref(n), size_bytes=size) for n, size in enumerate(sizes, start=1)]
    found = decode_root(encode_root(blocks), "x")
    assert (1 << 64) - 1 == found.size_bytes
    assert [min(size, (1 << 64) - 1) for size in sizes] == [block.size_bytes for block in found.blocks]


def test_a_root_cut_short_is_corrupt():
    """At whatever byte, and with bytes behind it too."""
    data = encode_root([_ref(1), _ref(2)], frozenset({chunk_id(7)}))
    for length in range(len(data)):
        with pytest.raises(ObjectCorruptError):
            decode_root(data[:length], "x")
    with pytest.raises(ObjectCorruptError, match="another length than it declares"):
        decode_root(data + b"\0", "x")


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        (0, "4s", b"mft2"),
        (4, "<I", 3),
        (4, "<I", 1 << 31),
        (8, "<Q", 4),
        (16, "<Q", 31),
        (24, "<I", 2),
        (24, "<I", (1 << 32) - 1),
        (28, "<I", 9),
    ],
)
def test_a_root_with_a_false_field_is_corrupt(at, form, value):
    """Mark, counts and totals are compared; a count of thousands of millions takes no memory."""
    data = bytearray(encode_root([_ref(1), _ref(2)], frozenset({chunk_id(7)})))
    struct.pack_into(form, data, at, value)
    with pytest.raises(ObjectCorruptError):
        decode_root(bytes(data), "x")


# ------------------------------------------------------------------------------------------------ reading


def _tree():
    """A manifest of five blocks: a folder in two pieces, and names that sort otherwise as plain bytes."""
    store = DictStore()
    blocks = [
        [Group(b"", [b"a", b"a-b", b"z"], [row(FOLDER)] * 3), Group(b"a", [b"1", b"b"], [row(), row(FOLDER)])],
        [Group(b"a/b", [b"%03d" % n for n in range(100)], [row()] * 100)],
        [Group(b"a/b", [b"%03d" % n for n in range(100, 150)] + [b"c"], [row()] * 50 + [row(FOLDER)])],
        [Group(b"a/b/c", [b"deep"], [row()]), Group(b"a-b", [b"x", b"y"], [row(), row()])],
        [Group(b"z", [b"last"], [row()])],
    ]
    return store, store.manifest(*blocks), blocks


def test_all_entries_come_in_manifest_order():
    """Folder by folder, names sorted within."""
    _, manifest, blocks = _tree()
    expected = [entry.path for block in blocks for group in block for entry in group.entries()]
    assert expected == _names(manifest.entries())
    assert (len(expected), 5) == (manifest.root.entry_count, len(manifest.root.blocks))


@pytest.mark.parametrize(
    "path", [b"a", b"a/1", b"a/b", b"a/b/000", b"a/b/149", b"a/b/c", b"a/b/c/deep", b"a-b/y", b"z"]
)
def test_every_entry_is_found_by_its_path(path):
    """In whatever block it lies."""
    _, manifest, _ = _tree()
    assert path == manifest.find(path).path


@pytest.mark.parametrize("path", [b"0", b"b", b"a/0", b"a/b/c/dee", b"a/b/zzz", b"zz/x", b"z/last/x", b"a//1", b""])
def test_what_is_not_there_is_not_found(path):
    """Before the first, between two, behind the last."""
    _, manifest, _ = _tree()
    assert manifest.find(path) is None


@pytest.mark.parametrize(
    "under", [b"a", b"a/b", b"a/b/c", b"a/b/100", b"a-b", b"z", b"z/last", b"none", b"a/none", b"a/", b"a/b/c/deep/x"]
)
def test_entries_under_a_path_are_itself_and_what_is_below_it(under):
    """As a filter over all entries would find them, in the same order; a path that only begins alike is another."""
    _, manifest, _ = _tree()
    expected = [p for p in _names(manifest.entries()) if p == under or p.startswith(under + b"/")]
    assert expected == _names(manifest.entries(under))


@pytest.mark.parametrize("folder", [b"", b"a", b"a/b", b"a/b/c", b"a-b", b"z", b"none", b"a/1"])
def test_children_are_what_lies_directly_in_a_folder(folder):
    """Sorted by name; nothing of the folders in it."""
    _, manifest, _ = _tree()
    expected = [
        p for p in _names(manifest.entries()) if p.rpartition(b"/")[0] == folder and (b"/" in p or folder == b"")
    ]
    assert expected == _names(manifest.children(folder))


def test_only_the_blocks_that_can_hold_a_path_are_read():
    """One block for a small folder: a restore of one file reads some hundred KiB, not the manifest."""
    store, manifest, _ = _tree()
    store.reads.clear()
    assert manifest.find(b"z/last") is not None
    block = manifest.root.blocks[4]
    assert {block.stable, block.times} == set(store.reads)


def test_a_manifest_without_blocks_has_no_entries():
    """Nor is anything found in it."""
    manifest = DictStore().manifest()
    assert ([], [], [], None) == (
        list(manifest.entries()),
        list(manifest.entries(b"a")),
        list(manifest.children(b"")),
        manifest.find(b"a"),
    )


def test_a_block_with_another_count_than_its_root_says_is_corrupt():
    """A block put in another's place would drop entries in silence."""
    store = DictStore()
    ref = store.put_block(sample_groups())
    false = BlockRef(
        ref.folder,
        ref.name,
        ref.entry_count + 1,
        ref.size_bytes,
        ref.fingerprint,
        ref.stable,
        ref.times,
        ref.content,
    )
    manifest = ManifestReader(store, store.put(TYPE_ROOT, encode_root([false])))
    with pytest.raises(ObjectCorruptError, match="another count of entries"):
        list(manifest.entries())


# ------------------------------------------------------------------------------------------------ lists

EXTENTS = [Extent(chunk_id(1), 0, 500), Extent(None, 0, LONG_HOLE), Extent(chunk_id(2), 7, MAX_RAW_BYTES - 7)]


@pytest.mark.parametrize(
    "extents", [[], EXTENTS, EXTENTS * 100, [Extent(None, 0, (1 << 32) - 1)], [Extent(None, 0, 1 << 40)]]
)
def test_a_list_comes_back(extents):
    """A hole longer than a row can say takes several rows and is one hole again: a content id counts it once."""
    assert extents == decode_list(encode_list(extents), "x")


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        encode_list(EXTENTS)[:-1],
        struct.pack("<32sII", chunk_id(1), 0, 0),
        struct.pack("<32sII", bytes(32), 0, 0),
        struct.pack("<32sII", bytes(32), 5, (1 << 32) - 1),
        struct.pack("<32sII", chunk_id(1), 1, MAX_RAW_BYTES),
        struct.pack("<32sII", chunk_id(1), (1 << 32) - 1, (1 << 32) - 1),
    ],
)
def test_a_list_that_no_writer_writes_is_corrupt(data):
    """Cut short, an extent of nothing, or one that ends behind what a chunk can hold."""
    with pytest.raises(ObjectCorruptError, match="chunk list"):
        decode_list(data, "x")


def test_lists_are_resolved_in_file_order():
    """Plain extents and holes pass, a list is replaced by what it lists."""
    store, manifest, _ = _tree()
    first = store.put(TYPE_LIST, encode_list(EXTENTS[:2]))
    second = store.put(TYPE_LIST, encode_list(EXTENTS[2:]))
    whole = content(
        1,
        Extent(first, 0, sum(e.length for e in EXTENTS[:2]), indirect=True),
        Extent(None, 0, 9),
        Extent(chunk_id(9), 3, 4),
        Extent(second, 0, EXTENTS[2].length, indirect=True),
    )
    assert [*EXTENTS[:2], Extent(None, 0, 9), Extent(chunk_id(9), 3, 4), EXTENTS[2]] == list(manifest.expand(whole))


def test_a_list_that_does_not_add_up_is_corrupt():
    """The file would have another length than its entry says."""
    store, manifest, _ = _tree()
    listed = store.put(TYPE_LIST, encode_list(EXTENTS))
    with pytest.raises(ObjectCorruptError, match="does not add up"):
        list(manifest.expand(content(1, Extent(listed, 0, 5, indirect=True))))
