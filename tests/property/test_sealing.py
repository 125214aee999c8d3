"""Frames, packs and segments come back, and open in no other place."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.backends.memory import MemoryBackend
from coffer.crypto.seal import KIND_PACK, TAG_BYTES, FrameMeta, ObjectKey, open_single, seal_single
from coffer.errors import CofferError, ObjectCorruptError
from coffer.ids import ChunkId, PackId, pack_name
from coffer.repository.index import ChunkIndex, load_index, write_segments
from coffer.repository.pack import MAX_RAW_BYTES, ROW, PackBuilder, iter_rows, pack_size, read_table
from tests.harness.keyrings import REPOSITORY_ID, make_keyring

KEYRING = make_keyring()
bytes_32 = st.binary(min_size=32, max_size=32)
object_keys = st.builds(
    ObjectKey,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 255),
    st.integers(0, (1 << 32) - 1),
    bytes_32,
    bytes_32,
)


@st.composite
def frames(draw):
    """A payload, and what its frame is bound to."""
    payload = draw(st.binary(max_size=200))
    meta = FrameMeta(
        draw(st.integers(0, (1 << 64) - 1)),
        draw(st.integers(0, 255)),
        draw(st.integers(0, 255)),
        draw(st.integers(0, (1 << 32) - 1)),
        len(payload) + TAG_BYTES,
        draw(st.booleans()),
    )
    return payload, meta


@given(object_keys, frames())
def test_a_frame_comes_back(key, frame):
    """Under its key, in its place."""
    payload, meta = frame
    assert payload == key.open(key.seal(payload, meta), meta, "x")


@given(object_keys, frames(), frames(), st.sampled_from([field.name for field in fields(FrameMeta)]))
def test_a_frame_opens_in_no_other_place(key, frame, other, name):
    """Whichever single thing it is bound to is another."""
    payload, meta = frame
    moved = replace(meta, **{name: getattr(other[1], name)})
    if moved == meta:
        return
    with pytest.raises(ObjectCorruptError):
        key.open(key.seal(payload, meta), moved, "x")


@given(object_keys, object_keys, frames())
def test_a_frame_opens_under_no_other_key(key, other, frame):
    """Two objects never share one: the commitments tell them apart."""
    payload, meta = frame
    if key.header[-32:] == other.header[-32:]:
        return
    with pytest.raises(ObjectCorruptError):
        other.open(key.seal(payload, meta), meta, "x")


@given(st.binary(max_size=500), st.integers(1, 6), st.data())
def test_an_object_of_one_frame_is_whole_or_refused(plain, kind, data):
    """As it was sealed it opens; with any byte another, or any end missing, it does not."""
    sealed = seal_single(KEYRING, kind, plain)
    assert plain == open_single(KEYRING, kind, sealed, "x")
    at, by = data.draw(st.integers(0, len(sealed) - 1)), data.draw(st.integers(1, 255))
    altered = sealed[:at] + bytes((sealed[at] ^ by,)) + sealed[at + 1 :]
    for harmed in (altered, sealed[:at]):
        with pytest.raises(CofferError):
            open_single(KEYRING, kind, harmed, "x")


chunks = st.lists(
    st.tuples(
        bytes_32.map(ChunkId),
        st.integers(0, 254),
        st.integers(0, 255),
        st.binary(max_size=100),
        st.integers(0, MAX_RAW_BYTES),
    ),
    max_size=8,
)


@given(chunks)
def test_a_pack_comes_back(contents):
    """Its table says of each chunk where it lies, and each opens there."""
    builder = PackBuilder(KEYRING)
    for chunk in contents:
        builder.add(*chunk)
    pack = builder.finish()
    store = MemoryBackend()
    store.put(pack_name(pack.pack_id), pack.parts)
    table = read_table(store, KEYRING, pack.pack_id, pack.size_bytes)
    assert (pack.table, pack.size_bytes) == (table, pack_size(pack.pack_id, table))
    data = store.get(pack_name(pack.pack_id))
    key = ObjectKey(REPOSITORY_ID, KIND_PACK, 1, data[16:48], KEYRING.root(1))
    found = [
        (
            chunk,
            at.type,
            at.codec,
            key.open(data[at.offset : at.offset + at.sealed_length], at.frame(), "x"),
            at.raw_length,
        )
        for chunk, at in iter_rows(pack.pack_id, table)
    ]
    assert contents == found


rows = st.tuples(
    bytes_32,
    st.integers(80, (1 << 32) - 1),
    st.integers(16, MAX_RAW_BYTES + 16),
    st.integers(0, MAX_RAW_BYTES),
    st.integers(0, 255),
    st.integers(0, 255),
)
tables = st.dictionaries(bytes_32.map(PackId), st.lists(rows, max_size=5, unique_by=lambda row: row[0]), max_size=5)


@given(tables)
def test_an_index_comes_back(packs):
    """Every chunk is found in a pack that holds it; a pack that is forgotten takes nothing of the others along."""
    store = MemoryBackend()
    plain = {pack: b"".join(ROW.pack(*row) for row in table) for pack, table in packs.items()}
    write_segments(store, KEYRING, plain.items())
    index, damages = load_index(store, KEYRING)
    assert ([], packs.keys()) == (damages, index.pack_ids() if packs else packs.keys())
    _assert_finds(index, packs)
    for pack in list(packs):
        index.forget_pack(pack)
        del packs[pack]
        _assert_finds(index, packs)
    assert 0 == len(index)


def _assert_finds(index: ChunkIndex, packs: dict) -> None:
    holders: dict[bytes, set[bytes]] = {}
    for pack, table in packs.items():
        for row in table:
            holders.setdefault(row[0], set()).add((pack, *row[1:]))
    assert len(holders) == len(index)
    for chunk, places in holders.items():
        where = index.find(chunk)
        found = where.pack_id, where.offset, where.sealed_length, where.raw_length, where.type, where.codec
        assert found in places
