"""Packs: chunks in, a table at the end, and every byte of it checked."""

import hashlib
import struct

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.crypto.seal import HEADER_BYTES, KIND_PACK, TAG_BYTES, ObjectKey, open_header
from coffer.errors import CofferError, ObjectCorruptError, SizeLimitError, WrongKeyError
from coffer.ids import PackId, pack_name
from coffer.repository.pack import (
    MAX_RAW_BYTES,
    MAX_TABLE_ROWS,
    ROW,
    TRAILER,
    TYPE_DATA,
    TYPE_SECTION,
    PackBuilder,
    iter_rows,
    open_table,
    pack_size,
    parse_trailer,
    read_table,
)
from tests.harness.keyrings import make_keyring
from tests.harness.manifests import chunk_id

KEYRING = make_keyring()
PACK_ID = PackId(bytes(32))
CHUNKS = [
    (chunk_id(1), TYPE_DATA, 0, b"first", 5),
    (chunk_id(2), TYPE_SECTION, 1, b"compressed", 400),
    (chunk_id(3), TYPE_DATA, 0, b"", 0),
]


def _build(chunks=CHUNKS):
    builder = PackBuilder(KEYRING)
    for chunk in chunks:
        builder.add(*chunk)
    assert len(chunks) == len(builder)
    return builder.finish()


def test_a_pack_says_where_its_chunks_are():
    """Each row's range opens to the payload that was added, under the frame that the row describes."""
    pack = _build()
    data = b"".join(pack.parts)
    key = open_header(KEYRING, data[:HEADER_BYTES], KIND_PACK, "x")
    found = []
    for chunk, where in iter_rows(pack.pack_id, pack.table):
        sealed = data[where.offset : where.offset + where.sealed_length]
        found.append((chunk, where.type, where.codec, key.open(sealed, where.frame(), "x"), where.raw_length))
    assert found == CHUNKS


def test_a_pack_is_named_by_the_sha_256_of_its_bytes():
    """And knows its size."""
    pack = _build()
    data = b"".join(pack.parts)
    assert hashlib.sha256(data).digest() == pack.pack_id
    assert len(data) == pack.size_bytes


def test_the_bytes_are_those_of_the_format():
    """docs/format.md §4: header, frames end to end, the sealed table, the trailer."""
    pack = _build()
    data = b"".join(pack.parts)
    frames = [len(payload) + TAG_BYTES for _, _, _, payload, _ in CHUNKS]
    table_at = HEADER_BYTES + sum(frames)
    assert (table_at, 3 * 46 + TAG_BYTES, 3, b"cofferpk") == struct.unpack(">III8s", data[-20:])
    assert table_at + 3 * 46 + TAG_BYTES + 20 == len(data)
    rows = [ROW.unpack(pack.table[i : i + 46]) for i in range(0, len(pack.table), 46)]
    assert [HEADER_BYTES, HEADER_BYTES + frames[0], HEADER_BYTES + frames[0] + frames[1]] == [r[1] for r in rows]


def test_the_table_can_be_read_back_from_the_store():
    """By header, trailer and table alone: an index is disposable (I8)."""
    store, pack = MemoryBackend(), _build()
    store.put(pack_name(pack.pack_id), pack.parts)
    assert pack.table == read_table(store, KEYRING, pack.pack_id, pack.size_bytes)


def test_a_pack_without_chunks_has_an_empty_table():
    """No writer puts one, but it is read."""
    store, pack = MemoryBackend(), _build([])
    store.put(pack_name(pack.pack_id), pack.parts)
    assert b"" == read_table(store, KEYRING, pack.pack_id, pack.size_bytes)


def test_every_bit_of_a_pack_that_reading_its_table_depends_on_is_checked():
    """Header, table and trailer: each flipped bit is a typed error. The frames' own seals guard the rest."""
    pack = _build()
    data = b"".join(pack.parts)
    name = pack_name(pack.pack_id)
    accepted = []
    table_at = TRAILER.unpack(data[-TRAILER.size :])[0]
    for bit in (*range(8 * HEADER_BYTES), *range(8 * table_at, 8 * len(data))):
        harmed = bytearray(data)
        harmed[bit // 8] ^= 1 << bit % 8
        store = MemoryBackend()
        store.put(name, [harmed])
        try:
            read_table(store, KEYRING, pack.pack_id, len(harmed))
        except CofferError:
            continue
        accepted.append(bit)
    assert [] == accepted


def test_a_pack_cut_short_is_corrupt():
    """At whatever byte, by the trailer that is not there."""
    pack = _build()
    data = b"".join(pack.parts)
    name = pack_name(pack.pack_id)
    for length in range(0, len(data), 3):
        store = MemoryBackend()
        store.put(name, [data[:length]])
        with pytest.raises((ObjectCorruptError, SizeLimitError)):
            read_table(store, KEYRING, pack.pack_id, length)


def test_a_frame_opens_at_its_own_position_only():
    """Two frames that change places are noticed (I5)."""
    pack = _build([(chunk_id(1), TYPE_DATA, 0, b"first", 5), (chunk_id(2), TYPE_DATA, 0, b"other", 5)])
    data = b"".join(pack.parts)
    key = open_header(KEYRING, data[:HEADER_BYTES], KIND_PACK, "x")
    (_, first), (_, second) = iter_rows(pack.pack_id, pack.table)
    with pytest.raises(ObjectCorruptError):
        key.open(data[second.offset : second.offset + second.sealed_length], first.frame(), "x")


def test_a_frame_of_another_pack_does_not_open():
    """Each pack has its own key (I5)."""
    mine, yours = _build(), _build()
    (_, where), *_ = iter_rows(mine.pack_id, mine.table)
    theirs = b"".join(yours.parts)
    key = open_header(KEYRING, mine.parts[0], KIND_PACK, "x")
    with pytest.raises(ObjectCorruptError):
        key.open(theirs[where.offset : where.offset + where.sealed_length], where.frame(), "x")


def test_another_repositorys_pack_is_told_by_its_header():
    """Before anything is decrypted."""
    store, pack = MemoryBackend(), _build()
    store.put(pack_name(pack.pack_id), pack.parts)
    with pytest.raises(WrongKeyError):
        read_table(store, make_keyring(bytes(16)), pack.pack_id, pack.size_bytes)


def test_a_frame_that_does_not_open_again_is_not_stored(monkeypatch):
    """Faulty memory while sealing must not become a bad backup."""
    builder = PackBuilder(KEYRING)
    whole = ObjectKey.open
    monkeypatch.setattr(ObjectKey, "open", lambda *arguments: whole(*arguments)[:-1] + b"?")
    with pytest.raises(ObjectCorruptError, match="does not open to what was sealed"):
        builder.add(*CHUNKS[0])


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ((chunk_id(1), 80, 16, MAX_RAW_BYTES + 1, 1, 0), SizeLimitError),
        ((chunk_id(1), 80, MAX_RAW_BYTES + TAG_BYTES + 1, 5, 1, 0), SizeLimitError),
        ((chunk_id(1), 79, 21, 5, 1, 0), ObjectCorruptError),
        ((chunk_id(1), 80, 15, 5, 1, 0), ObjectCorruptError),
    ],
)
def test_a_row_that_no_pack_has_is_refused(row, error):
    """Lengths over the cap of any frame, places within the header, frames without room for a tag (I7)."""
    with pytest.raises(error):
        list(iter_rows(PACK_ID, ROW.pack(*row)))


def test_rows_at_the_cap_are_taken():
    """The largest chunk there may be."""
    row = (chunk_id(1), 80, MAX_RAW_BYTES + TAG_BYTES, MAX_RAW_BYTES, 1, 0)
    ((found, where),) = iter_rows(PACK_ID, ROW.pack(*row))
    assert (chunk_id(1), 0, MAX_RAW_BYTES) == (found, where.position, where.raw_length)


def test_a_table_cut_short_is_corrupt():
    """It is whole rows, or nothing."""
    with pytest.raises(ObjectCorruptError, match="cut short"):
        list(iter_rows(PACK_ID, bytes(ROW.size + 1)))


def test_a_table_tells_the_size_of_its_pack():
    """Frames lie end to end, so the size follows; a gap or an overlap is no writer's work."""
    pack = _build()
    assert pack.size_bytes == pack_size(pack.pack_id, pack.table)
    first = ROW.pack(chunk_id(1), 80, 26, 10, 1, 0)
    assert 80 + 52 + 2 * 46 + 16 + 20 == pack_size(pack.pack_id, first + ROW.pack(chunk_id(2), 106, 26, 10, 1, 0))
    with pytest.raises(ObjectCorruptError, match="frame 1 is not where it should be"):
        pack_size(pack.pack_id, first + ROW.pack(chunk_id(2), 107, 26, 10, 1, 0))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ((100, 62, 1, b"cofferpK"), ObjectCorruptError),
        ((101, 62, 1, b"cofferpk"), ObjectCorruptError),
        ((100, 63, 1, b"cofferpk"), ObjectCorruptError),
        ((100, 62, 2, b"cofferpk"), ObjectCorruptError),
        ((100, 62, MAX_TABLE_ROWS + 1, b"cofferpk"), SizeLimitError),
        ((100, 62, (1 << 32) - 1, b"cofferpk"), SizeLimitError),
    ],
)
def test_a_trailer_must_fit_the_pack(fields, error):
    """It is not authenticated: all it can do is point at a table that then opens, or does not."""
    assert (100, 62, 1) == parse_trailer(TRAILER.pack(100, 62, 1, b"cofferpk"), 182, "x")
    with pytest.raises(error):
        parse_trailer(TRAILER.pack(*fields), 182, "x")


def test_a_table_opens_with_its_own_count_of_rows_only():
    """The count is the frame's position and part of its lengths."""
    pack = _build()
    data = b"".join(pack.parts)
    offset, length, rows, _ = TRAILER.unpack(data[-TRAILER.size :])
    key = open_header(KEYRING, data, KIND_PACK, "x")
    sealed = data[offset : offset + length]
    assert pack.table == open_table(key, sealed, rows, "x")
    with pytest.raises(ObjectCorruptError):
        open_table(key, sealed, rows + 1, "x")
