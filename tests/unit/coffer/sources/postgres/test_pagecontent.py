"""The runs of a file are joined where they can be, and folded into lists that stay where nothing changed."""

from __future__ import annotations

import random

from coffer.ids import ChunkId
from coffer.repository.entries import Content, Extent
from coffer.repository.manifest import decode_list
from coffer.sources.postgres.pagecontent import LIST_BYTES, PagedContent, StoredPlace, cut_lists
from tests.harness.keyrings import make_keyring

IDS = make_keyring().ids
PAGE = 8192


class NotingWriter:
    """Keeps the lists it is given; their ids are made of their content."""

    def __init__(self):
        self.lists = {}

    def submit(self, parts, length, type_):
        data = b"".join(parts)
        place = StoredPlace(IDS.chunk_id(data, type_))
        self.lists[place.chunk_id] = data
        return place


def chunk(number):
    return StoredPlace(ChunkId(bytes([number % 256, number // 256, 1]) + bytes(29)))


def resolved(content, writer):
    """Return the extents of a content, lists expanded."""
    found = content.resolve(IDS, writer)
    extents = []
    for extent in found.extents:
        extents += decode_list(writer.lists[extent.chunk_id], "a list") if extent.indirect else [extent]
    assert sum(extent.length for extent in found.extents) == sum(extent.length for extent in extents)
    return found, extents


def test_runs_that_follow_each_other_in_a_chunk_are_one():
    """A map is as long as the file is scattered, and not as the file is large."""
    content = PagedContent()
    for at in range(100):
        content.add(chunk(1), at * PAGE, PAGE)
    content.add(chunk(2), 0, PAGE)
    content.add(chunk(2), 2 * PAGE, PAGE)
    found, extents = resolved(content, NotingWriter())
    assert [Extent(chunk(1).chunk_id, 0, 100 * PAGE), Extent(chunk(2).chunk_id, 0, PAGE)] == extents[:2]
    assert 3 == len(extents)
    assert isinstance(found, Content)


def test_the_content_id_is_that_of_the_extents():
    """So that a restored file can be read back and compared with it."""
    content = PagedContent()
    content.add(chunk(1), PAGE, PAGE)
    content.add(chunk(2), 0, PAGE)
    found, extents = resolved(content, NotingWriter())
    assert IDS.extents_id((e.chunk_id, e.offset, e.length) for e in extents) == found.content_id


def test_holes_that_follow_each_other_are_one():
    """They lie in no chunk, and are no longer than what is written on either side."""
    content = PagedContent()
    content.add_hole(PAGE)
    content.add(chunk(1), 0, PAGE)
    content.add_hole(2 * PAGE)
    content.add_hole(3 * PAGE)
    content.add(chunk(1), PAGE, PAGE)
    assert 8 * PAGE == content.size_bytes
    found, extents = resolved(content, NotingWriter())
    one = chunk(1).chunk_id
    expected = [(None, 0, PAGE), (one, 0, PAGE), (None, 0, 5 * PAGE), (one, PAGE, PAGE)]
    assert expected == [tuple(extent[:3]) for extent in extents]
    assert IDS.extents_id(expected) == found.content_id


def test_the_content_id_is_that_of_the_listed_pieces():
    """Also where a run, or a hole, crosses the border of two lists: whoever reads the lists gets the same id."""
    content = PagedContent()
    for number in range(40):
        content.add(chunk(number), 0, 3 * PAGE)
        content.add_hole(LIST_BYTES // 8 + PAGE)
        content.add(chunk(100), number * PAGE, 2 * PAGE)
    found, extents = resolved(content, NotingWriter())
    assert all(extent.indirect for extent in found.extents)
    assert len(extents) > 120
    assert IDS.extents_id(extent[:3] for extent in extents) == found.content_id


def test_many_runs_are_folded_into_lists_of_64_mib_each():
    """Every list but the last covers the same stretch of the file, also where a run crosses the border."""
    draw = random.Random(5)
    content = PagedContent()
    expected = []
    for number in range(600):
        length = PAGE * draw.randrange(1, 64)
        content.add(chunk(number), 0, length)
        expected.append((chunk(number).chunk_id, length))
    writer = NotingWriter()
    found, extents = resolved(content, writer)
    assert all(extent.indirect for extent in found.extents)
    assert {LIST_BYTES} == {extent.length for extent in found.extents[:-1]}
    assert sum(length for _, length in expected) == sum(extent.length for extent in extents)
    joined = {}
    for extent in extents:
        joined[extent.chunk_id] = joined.get(extent.chunk_id, 0) + extent.length
    assert dict(expected) == joined


def test_a_stretch_without_a_change_keeps_its_list():
    """A change in one place of a large file writes the list of that place anew, and no other."""
    extents = [Extent(chunk(number).chunk_id, 0, 1 << 20) for number in range(256)]
    changed = [*extents[:10], Extent(chunk(999).chunk_id, 0, 1 << 20), *extents[11:]]
    before, after = list(cut_lists(extents)), list(cut_lists(changed))
    assert 4 == len(before) == len(after)
    assert [False, True, True, True] == [one == other for one, other in zip(before, after, strict=True)]


def test_no_run_is_no_content():
    """An empty file has no content."""
    assert PagedContent().resolve(IDS, NotingWriter()) is None
