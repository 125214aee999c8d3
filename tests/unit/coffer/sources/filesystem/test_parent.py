"""The parent answers, in the order of the walk, what the last manifest says."""

from __future__ import annotations

import pytest

from coffer.errors import ObjectCorruptError
from coffer.ids import ChunkId, ContentId
from coffer.repository.blocks import Group
from coffer.repository.entries import Content, Extent, path_key
from coffer.repository.manifest import NO_FINGERPRINT, BlockRef, ManifestRoot
from coffer.sources.filesystem import parent as module
from coffer.sources.filesystem.parent import Parent

ROW = (0o100644, 0, 0, 5, 1, 2, 1, 10, 11)


class Manifest:
    """A manifest made of lists of groups, one list for each block; some of them damaged."""

    def __init__(self, *blocks, damaged=()):
        self._blocks = blocks
        self._damaged = damaged
        self.read = []
        self.root = ManifestRoot(
            tuple(
                BlockRef(groups[0].folder, groups[0].names[0], 1, 1, b"%016d" % n, *self.sections(n))
                for n, groups in enumerate(blocks)
            ),
            frozenset(),
        )

    @staticmethod
    def sections(number):
        return tuple(ChunkId(b"%031d" % number + kind) for kind in (b"s", b"t", b"c"))

    def groups(self, block):
        number = self.root.blocks.index(block)
        self.read.append(number)
        if number in self._damaged:
            raise ObjectCorruptError("block: damaged")
        return self._blocks[number]


def group(folder, *names):
    return Group(folder, list(names), [(*ROW[:4], n, *ROW[5:]) for n, _ in enumerate(names)])


def everything(chunk_id):
    return True


def lookup(parent, folder, *names):
    return sorted(parent.lookup(group(folder, *names)))


class TestLookup:
    def test_entries_of_a_folder_are_found_by_name(self):
        """With their row and content."""
        old = group(b"a", b"x", b"y")
        old.contents[1] = Content(ContentId(b"i" * 16), (Extent(ChunkId(b"c" * 32), 0, 5),))
        found = Parent(Manifest([old]), everything).lookup(group(b"a", b"x", b"y", b"z"))
        assert [b"x", b"y"] == sorted(found)
        assert (old.rows[1], old.contents[1]) == (found[b"y"].row, found[b"y"].content)
        assert found[b"x"].content is None

    def test_a_folder_that_is_not_there_has_no_entries(self):
        """Before, between and behind those that are there."""
        parent = Parent(Manifest([group(b"b", b"x")], [group(b"d", b"x")]), everything)
        for folder in (b"", b"a", b"c", b"d/e", b"e"):
            assert [] == lookup(parent, folder, b"x")
        assert [] == lookup(Parent(Manifest(), everything), b"a", b"x")

    def test_a_large_folder_is_found_across_its_blocks(self):
        """Its pieces may be cut at other names than those that are asked for."""
        parent = Parent(
            Manifest([group(b"a", b"a", b"b")], [group(b"a", b"c", b"d")], [group(b"a", b"e"), group(b"b", b"x")]),
            everything,
        )
        assert [b"a", b"b", b"c", b"d", b"e"] == lookup(parent, b"a", b"a", b"e")
        assert {b"c", b"d"} <= set(lookup(parent, b"a", b"d", b"dd"))
        assert {b"e"} <= set(lookup(parent, b"a", b"ee", b"z"))

    def test_blocks_are_decoded_once_while_the_walk_goes_on(self):
        """A few are kept; the walk and the parent go in step."""
        manifest = Manifest(*[[group(b"%02d" % n, b"x"), group(b"%02d/y" % n, b"z")] for n in range(20)])
        parent = Parent(manifest, everything)
        for n in range(20):
            assert [b"x"] == lookup(parent, b"%02d" % n, b"x")
            assert [b"z"] == lookup(parent, b"%02d/y" % n, b"z")
        assert list(range(20)) == manifest.read

    def test_a_damaged_block_is_absent_and_the_others_are_not(self):
        """Its files are read as if they were new."""
        parent = Parent(Manifest([group(b"a", b"x")], [group(b"b", b"x")], damaged={0}), everything)
        assert [] == lookup(parent, b"a", b"x")
        assert [b"x"] == lookup(parent, b"b", b"x")


class TestSameBlock:
    def test_a_block_of_the_same_beginning_and_fingerprint_is_taken_over(self):
        """All three must be equal."""
        manifest = Manifest([group(b"a", b"x")])
        parent = Parent(manifest, everything)
        assert manifest.root.blocks[0] == parent.same_block([group(b"a", b"x")], b"%016d" % 0)
        assert parent.same_block([group(b"a", b"x")], b"%016d" % 1) is None
        assert parent.same_block([group(b"a", b"y")], b"%016d" % 0) is None
        assert parent.same_block([group(b"b", b"x")], b"%016d" % 0) is None

    @pytest.mark.parametrize("missing", [0, 1, 2])
    def test_a_block_that_lost_a_section_is_not_taken_over(self, missing):
        """The store does not know one of its chunks any more: it must be written anew."""
        parent = Parent(Manifest([group(b"a", b"x")]), lambda chunk_id: chunk_id != Manifest.sections(0)[missing])
        assert parent.same_block([group(b"a", b"x")], b"%016d" % 0) is None


class TestTail:
    BLOCKS = (
        [group(b"", b"a", b"b"), group(b"a", b"k", b"m"), group(b"a/k", b"z")],
        [group(b"b", b"1", b"2")],
        [group(b"b/1", b"x")],
    )

    def tail(self, folder, name):
        rest, blocks = Parent(Manifest(*self.BLOCKS), everything).tail_after((path_key(folder), name))
        return [(g.folder, g.names) for g in rest], [block.folder for block in blocks]

    def test_before_everything_the_tail_is_everything(self):
        """Nothing was walked yet."""
        manifest = Manifest(*self.BLOCKS)
        assert ([], manifest.root.blocks) == Parent(manifest, everything).tail_after(([], b""))

    def test_within_a_block_the_tail_begins_with_the_rest_of_it(self):
        """The rest of the folder at hand, then the folders behind it, then the blocks behind that."""
        assert ([(b"", [b"b"]), (b"a", [b"k", b"m"]), (b"a/k", [b"z"])], [b"b", b"b/1"]) == self.tail(b"", b"a")
        assert ([(b"a", [b"m"]), (b"a/k", [b"z"])], [b"b", b"b/1"]) == self.tail(b"a", b"kk")
        assert ([(b"a/k", [b"z"])], [b"b", b"b/1"]) == self.tail(b"a", b"m")
        assert ([], [b"b", b"b/1"]) == self.tail(b"a/k", b"z")
        assert ([], []) == self.tail(b"b/1", b"x")

    def test_extras_and_contents_go_with_their_rows(self):
        """Their places are counted anew in what is left of a group."""
        old = group(b"a", b"x", b"y", b"z")
        content = Content(ContentId(b"i" * 16), (Extent(ChunkId(b"c" * 32), 0, 5),))
        old.contents = {0: content, 2: content}
        old.extras = {1: (0, b"", ((b"user.a", b"v"),)), 0: (1, b"", ())}
        rest, _ = Parent(Manifest([old]), everything).tail_after((path_key(b"a"), b"x"))
        (left,) = rest
        assert ([b"y", b"z"], {1: content}, {0: (0, b"", ((b"user.a", b"v"),))}) == (
            left.names,
            left.contents,
            left.extras,
        )

    def test_a_manifest_without_blocks_has_no_tail(self):
        """An empty tree was backed up."""
        assert ([], ()) == Parent(Manifest(), everything).tail_after(([], b""))


class TestMoved:
    def content(self, number, *, offset=0, chunk=b"c", indirect=False, pieces=1):
        extent = Extent(ChunkId(chunk * 32) if chunk else None, offset, 5, indirect)
        return Content(ContentId(b"%016d" % number), (extent,) * pieces)

    def test_small_contents_are_found_wherever_they_lie(self):
        """By content id, with their chunk and offset."""
        first, second = group(b"a", b"x", b"y"), group(b"b", b"z")
        first.contents = {0: self.content(1), 1: self.content(2, offset=70)}
        second.contents = {0: self.content(3, chunk=b"d", offset=5)}
        manifest = Manifest([first], [second])
        parent = Parent(manifest, everything)
        assert (b"c" * 32, 70) == parent.find_content(b"%016d" % 2)
        assert (b"d" * 32, 5) == parent.find_content(b"%016d" % 3)
        assert parent.find_content(b"%016d" % 4) is None
        assert [0, 1] == manifest.read, "the manifest is read once"

    def test_contents_in_several_pieces_are_not_remembered(self):
        """Nor those that are a hole, nor lists: a chunk and an offset do not say where they are."""
        old = group(b"a", b"x", b"y", b"z")
        old.contents = {
            0: self.content(1, pieces=2),
            1: self.content(2, chunk=b""),
            2: self.content(3, indirect=True),
        }
        parent = Parent(Manifest([old]), everything)
        assert [None] * 3 == [parent.find_content(b"%016d" % n) for n in (1, 2, 3)]

    def test_the_table_is_bounded_and_damage_passed_over(self, monkeypatch):
        """Beyond the bound no more blocks are read; a damaged one is none."""
        monkeypatch.setattr(module, "_MAX_MOVED", 2)
        groups = [group(b"%d" % n, b"x") for n in range(5)]
        for n, each in enumerate(groups):
            each.contents = {0: self.content(n)}
        manifest = Manifest(*[[each] for each in groups], damaged={0})
        parent = Parent(manifest, everything)
        assert parent.find_content(b"%016d" % 0) is None
        assert parent.find_content(b"%016d" % 1) is not None
        assert [0, 1, 2] == manifest.read


def test_a_block_without_a_fingerprint_is_never_the_same():
    """Zeros say that some entry must be looked at again; no digest is zeros."""
    manifest = Manifest([group(b"a", b"x")])
    block = manifest.root.blocks[0]
    manifest.root = ManifestRoot((BlockRef(b"a", b"x", 1, 1, NO_FINGERPRINT, *Manifest.sections(0)),), frozenset())
    assert Parent(manifest, everything).same_block([group(b"a", b"x")], block.fingerprint) is None
