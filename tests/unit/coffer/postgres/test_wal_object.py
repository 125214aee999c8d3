"""The form of a range: what is put comes back, and nothing else does."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest

from coffer.crypto.seal import (
    HEADER_BYTES,
    KIND_WAL,
    KIND_WAL_HISTORY,
    TAG_BYTES,
    FrameMeta,
    new_object_key,
    seal_single,
)
from coffer.errors import (
    CofferError,
    FormatVersionError,
    KeyMissingError,
    ObjectCorruptError,
    SizeLimitError,
    WrongKeyError,
)
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_object import (
    FIRST_READ_BYTES,
    FRAME_BYTES,
    HEAD_OFFSET,
    MAX_HEAD_BYTES,
    MAX_OBJECT_BYTES,
    MAX_RANGE_BYTES,
    TYPE_HEAD,
    WalHead,
    WalRangeRef,
    decode_history,
    encode_history,
    encode_range,
    history_object_name,
    open_range,
    parse_history_object_name,
    parse_range_name,
    range_name,
)
from tests.harness.corrupt import HEADER_FIELDS
from tests.harness.keyrings import make_keyring
from tests.harness.wal_files import MIB, SYSTEM_ID, history_file, log_bytes

KEYRING = make_keyring()
TAG = "0123abcd"
START, END = 5000, 5000 + 2 * FRAME_BYTES + 777
DATA = log_bytes(START, END)


def head(**changes):
    """The head of the sample, or of one that differs from it."""
    sample = WalHead(TAG, SYSTEM_ID, 1, Lsn(START), Lsn(END), MIB, 1_793_491_200, bytes(32))
    return replace(sample, **changes)


def ref_of(data, start=START, end=END, timeline=1, tag=TAG):
    """What the store says of an object that stands under these bounds' name."""
    return WalRangeRef(timeline, Lsn(start), Lsn(end), range_name(tag, timeline, Lsn(start), Lsn(end)), len(data))


OBJECT = b"".join(encode_range(KEYRING, head(), DATA))


def read(data, ref=None):
    """All the log of an object, opened as the archive does."""
    opened = open_range(KEYRING, ref or ref_of(data), data[:FIRST_READ_BYTES])
    frames = b"".join(opened.frames(0, data[opened.offsets[0] :]))
    if len(frames) != END - START:
        raise ObjectCorruptError("frames are missing")
    return frames


def forged(frames=None, **changes):
    """An object with true seals whose head says what it is told to; its frames are those of the sample."""
    opened = open_range(KEYRING, ref_of(OBJECT), OBJECT[:FIRST_READ_BYTES])
    fields = json.loads(opened.head.to_json()) | changes
    if frames is not None:
        fields["frames"] = frames
    return sealed_head({name: value for name, value in fields.items() if value is not None})


def sealed_head(fields, plain=None):
    """An object of a head alone."""
    plain = json.dumps(fields).encode() if plain is None else plain
    key = new_object_key(KEYRING, KIND_WAL)
    sealed = key.seal(plain, FrameMeta(0, TYPE_HEAD, 0, len(plain), len(plain) + TAG_BYTES))
    return key.header + struct.pack(">I", len(sealed)) + sealed


def test_a_range_comes_back():
    """Byte for byte, and its head says what it was told."""
    assert DATA == read(OBJECT)
    opened = open_range(KEYRING, ref_of(OBJECT), OBJECT[:FIRST_READ_BYTES])
    assert head(frames=opened.head.frames) == opened.head
    assert 3 == len(opened.head.frames)
    assert len(OBJECT) < len(DATA)


@pytest.mark.parametrize("length", [1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1])
def test_ranges_of_every_length_have_the_frames_that_they_need(length):
    """One byte, just under, just, and just over a frame."""
    data = log_bytes(0, length)
    parts = b"".join(encode_range(KEYRING, head(start=Lsn(0), end=Lsn(length)), data))
    opened = open_range(KEYRING, ref_of(parts, 0, length), parts[:FIRST_READ_BYTES])
    assert -(-length // FRAME_BYTES) == len(opened.head.frames)
    assert data == b"".join(opened.frames(0, parts[opened.offsets[0] :]))


def test_the_largest_range_fits_its_caps():
    """64 MiB that do not shrink: the head and the object stay under what a reader takes."""
    data = bytes(MAX_RANGE_BYTES)
    parts = encode_range(KEYRING, head(start=Lsn(0), end=Lsn(MAX_RANGE_BYTES)), data)
    assert len(parts[2]) <= MAX_HEAD_BYTES + TAG_BYTES
    stored_as_it_is = HEAD_OFFSET + len(parts[2]) + MAX_RANGE_BYTES + (len(parts) - 3) * TAG_BYTES
    assert stored_as_it_is <= MAX_OBJECT_BYTES


def test_a_head_of_other_bounds_than_the_data_is_a_mistake_of_the_caller():
    """Nothing is sealed."""
    with pytest.raises(ValueError, match="bytes were given"):
        encode_range(KEYRING, head(), DATA[:-1])


# ------------------------------------------------------------------------------------------------ damage


def places():
    """One byte of every part."""
    opened = open_range(KEYRING, ref_of(OBJECT), OBJECT[:FIRST_READ_BYTES])
    found = dict(HEADER_FIELDS)
    found |= {
        "lead": HEADER_BYTES + 3,
        "lead-high": HEADER_BYTES,
        "head": HEAD_OFFSET,
        "head-tag": opened.offsets[0] - 1,
    }
    for number in range(3):
        found[f"frame-{number}"] = opened.offsets[number]
        found[f"tag-{number}"] = opened.offsets[number + 1] - 1
    return found


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("place", places())
def test_a_flipped_bit_is_noticed_in_every_part(place, bit):
    """Header, length of the head, head, frames, tags."""
    data = bytearray(OBJECT)
    data[places()[place]] ^= 1 << bit
    with pytest.raises((ObjectCorruptError, WrongKeyError, KeyMissingError, FormatVersionError, SizeLimitError)):
        read(bytes(data))


@pytest.mark.parametrize(
    "length", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEAD_OFFSET - 1, HEAD_OFFSET, HEAD_OFFSET + 5]
)
def test_an_object_that_is_cut_off_is_damaged(length):
    """In its header, before its head, in its head."""
    with pytest.raises(ObjectCorruptError):
        read(OBJECT[:length])


@pytest.mark.parametrize("cut", [1, TAG_BYTES, 5000, -1, -5000])
def test_an_object_of_another_length_than_its_head_says_is_damaged(cut):
    """Cut off in the last frame, or with something behind it."""
    data = OBJECT[:-cut] if cut > 0 else OBJECT + bytes(-cut)
    with pytest.raises(ObjectCorruptError, match="its head says"):
        read(data)


def test_frames_do_not_change_places():
    """Two frames of one length, swapped in an object whose head allows it."""
    data = bytes(2 * FRAME_BYTES + END - START - 2 * FRAME_BYTES)
    parts = encode_range(KEYRING, head(), data)
    assert len(parts[3]) == len(parts[4])
    with pytest.raises(ObjectCorruptError, match="frame 1 failed"):
        read(b"".join([*parts[:3], parts[4], parts[3], *parts[5:]]))


def test_a_frame_of_another_range_opens_in_none():
    """Each object has its own key."""
    parts, others = encode_range(KEYRING, head(), DATA), encode_range(KEYRING, head(), DATA)
    with pytest.raises(ObjectCorruptError, match="frame 1 failed"):
        read(b"".join([*parts[:3], others[3], *parts[4:]]))


@pytest.mark.parametrize(
    "changes",
    [
        {"tag": "ffffffff"},
        {"timeline": 2},
        {"start": START + 1, "end": END + 1},
        {"start": START - 1},
        {"end": END + 1},
    ],
    ids=["source", "timeline", "moved", "longer in front", "longer behind"],
)
def test_a_range_stands_under_no_other_name(changes):
    """What it says of itself is held against the name."""
    with pytest.raises(ObjectCorruptError, match="not what its name says"):
        read(OBJECT, ref_of(OBJECT, **changes))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"format": 2}, FormatVersionError),
        ({"format": "1"}, ObjectCorruptError),
        ({"source": None}, ObjectCorruptError),
        ({"source": 5}, ObjectCorruptError),
        ({"system_id": -1}, ObjectCorruptError),
        ({"system_id": 1 << 64}, ObjectCorruptError),
        ({"system_id": True}, ObjectCorruptError),
        ({"timeline": 0}, ObjectCorruptError),
        ({"timeline": 1 << 32}, ObjectCorruptError),
        ({"start": "5"}, ObjectCorruptError),
        ({"end": f"{START:016x}"}, ObjectCorruptError),
        ({"end": f"{START + MAX_RANGE_BYTES + 1:016x}"}, ObjectCorruptError),
        ({"segment_bytes": 1000}, ObjectCorruptError),
        ({"saved_ns": 1 << 63}, ObjectCorruptError),
        ({"saved_ns": 1.5}, ObjectCorruptError),
        ({"content_id": "00"}, ObjectCorruptError),
        ({"content_id": "zz" * 32}, ObjectCorruptError),
        ({"frames": []}, ObjectCorruptError),
        ({"frames": [[1, 17]] * 2}, ObjectCorruptError),
        ({"frames": [[1, 17]] * 4}, ObjectCorruptError),
        ({"frames": [[1, 16]] * 3}, ObjectCorruptError),
        ({"frames": [[2, 17]] * 3}, ObjectCorruptError),
        ({"frames": [[1, FRAME_BYTES + 17]] * 3}, ObjectCorruptError),
        ({"frames": [[1, 1 << 40]] * 3}, ObjectCorruptError),
        ({"frames": [[1, 17]] * 2 + [[1, 777 + 17]]}, ObjectCorruptError),
        ({"frames": [17, 17, 17]}, ObjectCorruptError),
        ({"frames": {"a": 1}}, ObjectCorruptError),
    ],
)
def test_a_head_that_means_nothing_is_refused(changes, error):
    """Also one with true seals: whoever has the key may still be an older or a broken writer."""
    data = forged(**changes)
    with pytest.raises(error) as caught:
        open_range(KEYRING, ref_of(data), data)
    assert "its head says" not in caught.value.message  # it is too short as well, which is seen last


@pytest.mark.parametrize("plain", [b"", b"[]", b"null", b"\xff", b"[" * 5000, b"{}"])
def test_a_head_that_is_no_object_is_refused(plain):
    """No JSON, another kind of it, too deep."""
    data = sealed_head({}, plain)
    with pytest.raises(ObjectCorruptError):
        open_range(KEYRING, ref_of(data), data)


def test_declared_lengths_over_the_caps_are_refused_before_anything_is_read():
    """An object that is too large, and a head that says it is (I7)."""
    with pytest.raises(SizeLimitError, match="over the cap"):
        open_range(KEYRING, replace(ref_of(OBJECT), size_bytes=MAX_OBJECT_BYTES + 1), OBJECT)
    key = new_object_key(KEYRING, KIND_WAL)
    for length in (MAX_HEAD_BYTES + TAG_BYTES + 1, 0xFFFF_FFFF):
        data = key.header + struct.pack(">I", length) + bytes(100)
        with pytest.raises(SizeLimitError, match="its head declares"):
            open_range(KEYRING, ref_of(data), data)


def test_an_object_of_another_kind_is_no_range():
    """A history under a range's name."""
    data = seal_single(KEYRING, KIND_WAL_HISTORY, b"{}")
    with pytest.raises(ObjectCorruptError, match="kind 8, expected 7"):
        open_range(KEYRING, ref_of(data), data)


# ------------------------------------------------------------------------------------------------ names and histories


def test_a_name_says_where_a_range_lies():
    """There and back; what no writer makes is no range."""
    name = range_name(TAG, 3, Lsn(1), Lsn(1 << 20))
    assert f"wal/{TAG}/00000003-0000000000000001-0000000000100000" == name
    assert WalRangeRef(3, Lsn(1), Lsn(1 << 20), name, 5) == parse_range_name(name, 5)


@pytest.mark.parametrize(
    "name",
    [
        f"wal/{TAG}/00000000-0000000000000001-0000000000000002",
        f"wal/{TAG}/00000001-0000000000000002-0000000000000002",
        f"wal/{TAG}/00000001-0000000000000003-0000000000000002",
        f"wal/{TAG}/00000001-0000000000000000-0000000004000001",
        f"wal/{TAG}/00000001-000000000000000A-000000000000000B",
        f"wal/{TAG}/00000001.history",
        f"wal/{TAG}/x",
        "wal/0123/00000001-0000000000000001-0000000000000002",
    ],
)
def test_other_names_are_no_ranges(name):
    """Timeline 0, nothing or less than nothing, too much, capitals, another kind of object."""
    assert parse_range_name(name, 5) is None


@pytest.mark.parametrize(("timeline", "start", "end"), [(0, 0, 1), (1, 5, 5), (1, 5, 4), (1, 0, MAX_RANGE_BYTES + 1)])
def test_no_name_is_made_for_what_is_no_range(timeline, start, end):
    """A mistake of the caller."""
    with pytest.raises(ValueError, match="not from 1 byte"):
        range_name(TAG, timeline, Lsn(start), Lsn(end))


def test_a_history_comes_back_under_its_own_name_only():
    """Content and cluster; another timeline's or source's name is damage."""
    content = history_file((1, 0x5000000))
    data = encode_history(KEYRING, TAG, 2, content, system_id=SYSTEM_ID, saved_ns=1)
    name = history_object_name(TAG, 2)
    assert (content, SYSTEM_ID) == decode_history(KEYRING, name, data)
    assert 2 == parse_history_object_name(name)
    assert parse_history_object_name(history_object_name(TAG, 0)) is None
    for other in (history_object_name(TAG, 3), history_object_name("ffffffff", 2)):
        with pytest.raises(ObjectCorruptError, match="not what its name says"):
            decode_history(KEYRING, other, data)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"format": 1, "source": TAG, "system_id": 7, "timeline": 2, "content": "%%%"},
        {"format": 1, "source": TAG, "system_id": 7, "timeline": 2, "content": "eA=="},
        {"format": 1, "source": TAG, "system_id": 7, "timeline": 2, "content": ""},
        {"format": 1, "source": TAG, "system_id": "7", "timeline": 1, "content": ""},
        {"format": 2, "source": TAG},
    ],
)
def test_a_history_that_means_nothing_is_refused(fields):
    """No base64, no history, no ancestor, numbers that are none, a later format."""
    data = seal_single(KEYRING, KIND_WAL_HISTORY, json.dumps(fields).encode())
    with pytest.raises((ObjectCorruptError, FormatVersionError)):
        decode_history(KEYRING, history_object_name(TAG, 2), data)


def test_a_flipped_bit_in_a_history_is_noticed():
    """At every byte."""
    data = encode_history(KEYRING, TAG, 2, history_file((1, 0x5000000)), system_id=SYSTEM_ID, saved_ns=1)
    for at in range(len(data)):
        harmed = bytearray(data)
        harmed[at] ^= 1
        with pytest.raises(CofferError):
            decode_history(KEYRING, history_object_name(TAG, 2), bytes(harmed))
