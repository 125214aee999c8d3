"""Blocks, roots and lists come back for every tree that a file system could hold."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from coffer.ids import ChunkId
from coffer.repository.blocks import decode_block, decode_names, encode_content, encode_stable, encode_times
from coffer.repository.entries import Extent, path_key
from coffer.repository.manifest import BlockRef, decode_list, decode_root, encode_list, encode_root
from tests.harness.manifests import DictStore
from tests.property.strategies import extents, folders, groups, odd_names

blocks = st.lists(groups(), min_size=1, max_size=4)
ids = st.binary(min_size=32, max_size=32).map(ChunkId)
real_ids = ids.filter(any)
block_refs = st.builds(
    BlockRef,
    folders,
    odd_names,
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 48) - 1),
    st.binary(min_size=16, max_size=16),
    ids,
    ids,
    st.none() | real_ids,
)


@given(blocks)
def test_a_block_comes_back(block):
    """Every name, row, extra and extent; and the names from the stable section alone."""
    stable = encode_stable(block)
    assert block == decode_block(stable, encode_times(block), encode_content(block), "x")
    assert [(group.folder, group.names) for group in block] == decode_names(stable, "x")


@given(blocks, st.data())
def test_a_group_cut_in_two_says_the_same(block, data):
    """Wherever it is cut."""
    group = block[0]
    at = data.draw(st.integers(0, len(group.names)))
    pieces = [piece for piece in (group.piece(0, at), group.piece(at, len(group.names))) if piece.names]
    assert list(group.entries()) == [entry for piece in pieces for entry in piece.entries()]


@given(st.lists(block_refs, max_size=5), st.frozensets(ids, max_size=5))
def test_a_root_comes_back(refs, sparse):
    """Blocks in order, sparse chunks as a set."""
    root = decode_root(encode_root(refs, sparse), "x")
    assert (tuple(refs), sparse) == (root.blocks, root.sparse)


@given(st.lists(extents(indirect=False), max_size=20))
def test_a_list_comes_back(runs):
    """Holes beside each other are one hole, as no file has two."""
    joined: list[Extent] = []
    for run in runs:
        if joined and run.chunk_id is None and joined[-1].chunk_id is None:
            joined[-1] = Extent(None, 0, joined[-1].length + run.length)
        else:
            joined.append(run)
    assert joined == decode_list(encode_list(runs), "x")


@settings(max_examples=50)
@given(st.lists(groups(), min_size=1, max_size=6, unique_by=lambda group: group.folder), st.data())
def test_a_manifest_finds_every_entry_and_lists_every_folder(tree, data):
    """In whatever blocks the groups lie: the same answers as a look at all entries."""
    tree.sort(key=lambda group: path_key(group.folder))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(tree)), max_size=4)) | {0, len(tree)})
    manifest = DictStore().manifest(*(tree[start:stop] for start, stop in pairwise(cuts)))
    everything = [entry for group in tree for entry in group.entries()]
    assert everything == list(manifest.entries())
    for entry in everything:
        assert entry == manifest.find(entry.path)
    for folder in {group.folder for group in tree} | {entry.path for entry in everything[:3]}:
        below = [e for e in everything if folder in (b"", e.path) or e.path.startswith(folder + b"/")]
        assert below == list(manifest.entries(folder))
        children = [entry for group in tree if group.folder == folder for entry in group.entries()]
        assert children == list(manifest.children(folder))
