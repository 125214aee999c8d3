"""Keyed ids: every use has its own key, and equal bytes have equal ids only under equal keys."""

import pytest
from blake3 import blake3

from coffer.crypto.hashing import IdKeys
from coffer.ids import CHUNK_ID_BYTES, CONTENT_ID_BYTES

KEY = b"k" * 32


def test_ids_are_keyed_blake3_under_a_key_of_their_own_use():
    """Computed here from the specification: derive_key by context, then keyed mode."""
    ids = IdKeys(KEY)
    chunk_key = blake3(KEY, derive_key_context="coffer/1 chunk id 1").digest()
    content_key = blake3(KEY, derive_key_context="coffer/1 content id").digest()
    source_key = blake3(KEY, derive_key_context="coffer/1 source tag").digest()
    assert blake3(b"data", key=chunk_key).digest() == ids.chunk_id(b"data")
    assert blake3(b"data", key=content_key).digest(16) == ids.content_id(b"data")
    assert blake3(b"home", key=source_key).hexdigest()[:8] == ids.source_tag("home")
    assert (CHUNK_ID_BYTES, CONTENT_ID_BYTES) == (len(ids.chunk_id(b"")), len(ids.content_id(b"")))


def test_any_buffer_of_the_same_bytes_has_the_same_id():
    """bytes, bytearray and memoryview are the same to an id."""
    ids = IdKeys(KEY)
    assert 1 == len({ids.chunk_id(b"abc"), ids.chunk_id(bytearray(b"abc")), ids.chunk_id(memoryview(b"abc"))})


def test_another_repository_has_other_ids():
    """Nobody can test a store for a known file without the key."""
    mine, yours = IdKeys(KEY), IdKeys(b"K" * 32)
    assert mine.chunk_id(b"data") != yours.chunk_id(b"data")
    assert mine.content_id(b"data") != yours.content_id(b"data")
    assert mine.source_tag("home") != yours.source_tag("home")
    assert mine.chunker_seed != yours.chunker_seed


@pytest.mark.parametrize("number", range(50))
def test_the_chunker_seed_is_positive_and_below_2_63(number):
    """The chunker (pyfastcdc) shifts the seed left by one bit: it must not be nought, nor lose its top bit."""
    assert 1 <= IdKeys(bytes((number,)) * 32).chunker_seed < 1 << 63


def test_the_id_of_a_file_in_pieces_depends_on_every_piece_and_its_order():
    """Chunk ids, places in them, lengths, holes and their order all count; a hole is not a chunk of zeros' id."""
    ids = IdKeys(KEY)
    a, b = ids.chunk_id(b"a"), ids.chunk_id(b"b")
    variants = [
        [(a, 0, 1), (b, 0, 1)],
        [(b, 0, 1), (a, 0, 1)],
        [(a, 0, 1), (b, 0, 2)],
        [(a, 0, 1), (b, 8192, 1)],
        [(a, 8192, 1), (b, 0, 1)],
        [(a, 0, 1), (None, 0, 1)],
        [(None, 0, 1), (a, 0, 1)],
        [(a, 0, 1)],
        [],
    ]
    found = {ids.extents_id(variant) for variant in variants}
    assert len(variants) == len(found)
    assert {CONTENT_ID_BYTES} == {len(content_id) for content_id in found}
    assert ids.extents_id([(a, 0, 1)]) == ids.extents_id(iter([(a, 0, 1)]))


def test_the_id_of_a_file_in_pieces_is_computed_as_written_down():
    """docs/format.md §7: "extents", NUL, then id and length (u64 LE) of each chunk; bit 63 of it tells an offset."""
    ids = IdKeys(KEY)
    content_key = blake3(KEY, derive_key_context="coffer/1 content id").digest()
    a = ids.chunk_id(b"a")
    told = b"extents\0" + a + (7).to_bytes(8, "little") + bytes(32) + (9).to_bytes(8, "little")
    assert blake3(told, key=content_key).digest(16) == ids.extents_id([(a, 0, 7), (None, 0, 9)])
    with_offset = b"extents\0" + a + (7 | 1 << 63).to_bytes(8, "little") + (5).to_bytes(8, "little")
    assert blake3(with_offset, key=content_key).digest(16) == ids.extents_id([(a, 5, 7)])


def test_chunks_of_another_type_have_other_ids():
    """A file with the bytes of a manifest's section must not stand in for it."""
    ids = IdKeys(KEY)
    section_key = blake3(KEY, derive_key_context="coffer/1 chunk id 2").digest()
    assert blake3(b"data", key=section_key).digest() == ids.chunk_id(b"data", 2)
    assert 256 == len({ids.chunk_id(b"data", type_) for type_ in range(256)})
    assert ids.chunk_id(b"data") == ids.chunk_id(b"data", 1)


def test_a_whole_file_and_its_only_chunk_have_different_ids():
    """Content ids and chunk ids never meet: their keys differ."""
    ids = IdKeys(KEY)
    assert ids.chunk_id(b"data")[:CONTENT_ID_BYTES] != ids.content_id(b"data")
