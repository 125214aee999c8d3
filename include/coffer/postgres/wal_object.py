"""One object of saved write-ahead log: a range of bytes of one timeline, or a timeline's history (docs/format.md §17).

A range is a sealed object: its header, the length of its head in the clear, the head's frame, then frames of at most
1 MiB of log each. The head says what the object is, so one that stands under another name, source or cluster is found.
It also says how long each frame is: every size but the head's own is authenticated before it is used (invariant I7).
"""

from __future__ import annotations

import json
import re
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from coffer.compression.codec import CODEC_RAW, CODEC_ZSTD, Compressor, decompress
from coffer.crypto.keyring import Keyring
from coffer.crypto.seal import (
    HEADER_BYTES,
    KIND_WAL,
    KIND_WAL_HISTORY,
    TAG_BYTES,
    FrameMeta,
    ObjectKey,
    new_object_key,
    open_header,
    open_single,
    seal_single,
)
from coffer.errors import FormatVersionError, ObjectCorruptError, SizeLimitError, SourceFormatError
from coffer.postgres.lsn import MAX_TIMELINE, Lsn, require_segment_size
from coffer.postgres.timeline import History

PREFIX = "wal/"
FORMAT = 1
FRAME_BYTES = 1 << 20  # of log in a frame; the last of an object may have less
MAX_RANGE_BYTES = 64 << 20  # of log in an object
MAX_HEAD_BYTES = 8192  # a head of 64 frames has about 1,200
MAX_HISTORY_OBJECT_BYTES = 2 << 20  # a history has at most 1 MiB, in base64 a third more
TYPE_HEAD = 1
TYPE_DATA = 2

_LEAD = struct.Struct(">I")  # length of the head's frame, tag included
HEAD_OFFSET = HEADER_BYTES + _LEAD.size
# What is read first: the head fits in it, and an idle server's range fits whole. [bytes]
FIRST_READ_BYTES = HEAD_OFFSET + MAX_HEAD_BYTES + TAG_BYTES
_MAX_FRAMES = MAX_RANGE_BYTES // FRAME_BYTES
MAX_OBJECT_BYTES = FIRST_READ_BYTES + MAX_RANGE_BYTES + _MAX_FRAMES * TAG_BYTES
_LEVEL = 3  # of zstd; docs/adr/0030
_RANGE = re.compile(r"wal/[0-9a-f]{8}/([0-9a-f]{8})-([0-9a-f]{16})-([0-9a-f]{16})")
_HISTORY = re.compile(r"wal/[0-9a-f]{8}/([0-9a-f]{8})\.history")
_NUMBERS_END = 1 << 64
_TIMES_END = 1 << 63
_ID_BYTES = 32


@dataclass(frozen=True, slots=True, order=True)
class WalRangeRef:
    """A range that the store has, as its name says. In order: by timeline, then by where it begins.

    Attributes:
        timeline: On which its bytes were written.
        start: Its first byte.
        end: The byte after its last; at most 64 MiB further on.
        name: The object.
        size_bytes: Of the object, as the store tells it.
    """

    timeline: int
    start: Lsn
    end: Lsn
    name: str
    size_bytes: int

    @property
    def length(self) -> int:
        """How much log it holds [bytes]."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class WalHead:
    """What a range says of itself, authenticated.

    Attributes:
        source_tag: Of the source that it belongs to.
        system_id: Of the cluster that wrote it.
        timeline, start, end: As in its name.
        segment_bytes: Size of the cluster's WAL segments [bytes].
        saved_ns: When it was put, by the writer's clock [ns since the Unix epoch].
        content_id: Keyed BLAKE3 of its log [32 bytes].
        frames: (codec, length in the object [bytes], tag included) of each frame of log, in order.
    """

    source_tag: str
    system_id: int
    timeline: int
    start: Lsn
    end: Lsn
    segment_bytes: int
    saved_ns: int
    content_id: bytes
    frames: tuple[tuple[int, int], ...] = ()

    def to_json(self) -> bytes:
        """Return the plaintext of the head's frame."""
        fields = {
            "format": FORMAT,
            "source": self.source_tag,
            "system_id": self.system_id,
            "timeline": self.timeline,
            "start": f"{self.start:016x}",
            "end": f"{self.end:016x}",
            "segment_bytes": self.segment_bytes,
            "saved_ns": self.saved_ns,
            "content_id": self.content_id.hex(),
            "frames": [list(frame) for frame in self.frames],
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    def raw_length(self, number: int) -> int:
        """Return how much log a frame holds [bytes]; they are counted from 0."""
        return min(FRAME_BYTES, self.end - self.start - number * FRAME_BYTES)


# ------------------------------------------------------------------------------------------------ names


def range_name(source_tag: str, timeline: int, start: Lsn, end: Lsn) -> str:
    """Return the name of a range's object.

    Raises:
        ValueError: No range has these bounds.
    """
    if not (0 < end - start <= MAX_RANGE_BYTES and 1 <= timeline <= MAX_TIMELINE):
        raise ValueError(f"range {start}..{end} of timeline {timeline}: not from 1 byte to {MAX_RANGE_BYTES}")
    return f"{PREFIX}{source_tag}/{timeline:08x}-{start:016x}-{end:016x}"


def history_object_name(source_tag: str, timeline: int) -> str:
    """Return the name of the object that holds a timeline's history."""
    return f"{PREFIX}{source_tag}/{timeline:08x}.history"


def parse_range_name(name: str, size_bytes: int) -> WalRangeRef | None:
    """Return what an object's name says; None where it is no range's: nothing that was written bears such a name."""
    found = _RANGE.fullmatch(name)
    if found is None:
        return None
    timeline, start, end = (int(part, 16) for part in found.groups())
    if not timeline or not 0 < end - start <= MAX_RANGE_BYTES:
        return None
    return WalRangeRef(timeline, Lsn(start), Lsn(end), name, size_bytes)


def parse_history_object_name(name: str) -> int | None:
    """Return the timeline whose history has this object name; None where it is another name."""
    found = _HISTORY.fullmatch(name)
    return int(found[1], 16) or None if found else None


# ------------------------------------------------------------------------------------------------ writing


def encode_range(keyring: Keyring, head: WalHead, data: bytes | bytearray | memoryview) -> list[bytes]:
    """Return the object of a range in parts, to be put one after the other.

    Args:
        keyring: The repository's keys.
        head: Without `frames`, which are made here; `content_id` must be that of the data.
        data: The log, `head.end - head.start` bytes.
    """
    view = memoryview(data)
    if len(view) != head.end - head.start:
        raise ValueError(f"range {head.start}..{head.end}: {len(view)} bytes were given")
    compressor = Compressor(_LEVEL)
    packed = [
        (len(piece), *compressor.compress(bytes(piece)))
        for piece in (view[at : at + FRAME_BYTES] for at in range(0, len(view), FRAME_BYTES))
    ]
    frames = tuple((codec, len(payload) + TAG_BYTES) for _, codec, payload in packed)
    key = new_object_key(keyring, KIND_WAL)
    plain = replace(head, frames=frames).to_json()
    sealed_head = key.seal(plain, _head_meta(len(plain) + TAG_BYTES))
    parts = [key.header, _LEAD.pack(len(sealed_head)), sealed_head]
    for number, (raw_length, codec, payload) in enumerate(packed):
        last = number == len(packed) - 1
        meta = FrameMeta(number + 1, TYPE_DATA, codec, raw_length, len(payload) + TAG_BYTES, last=last)
        parts.append(key.seal(payload, meta))
    return parts


def encode_history(
    keyring: Keyring, source_tag: str, timeline: int, content: bytes, *, system_id: int, saved_ns: int
) -> bytes:
    """Return the object of a timeline's history."""
    fields = {
        "format": FORMAT,
        "source": source_tag,
        "system_id": system_id,
        "timeline": timeline,
        "saved_ns": saved_ns,
        "content": b64encode(content).decode(),
    }
    return seal_single(keyring, KIND_WAL_HISTORY, json.dumps(fields).encode())


# ------------------------------------------------------------------------------------------------ reading


@dataclass(frozen=True, slots=True)
class OpenRange:
    """A range whose head was opened.

    Attributes:
        ref: As its name says.
        key: Of the object.
        head: As it says itself; the two agree.
        offsets: Where each frame of log begins in the object, and where the last ends [bytes].
    """

    ref: WalRangeRef
    key: ObjectKey
    head: WalHead
    offsets: tuple[int, ...]

    def frame(self, number: int, sealed: bytes | memoryview) -> bytes:
        """Return the log of one frame.

        Args:
            number: From 0.
            sealed: The frame's bytes.

        Raises:
            ObjectCorruptError: They are not what was sealed there.
        """
        codec, sealed_length = self.head.frames[number]
        raw_length = self.head.raw_length(number)
        last = number == len(self.head.frames) - 1
        meta = FrameMeta(number + 1, TYPE_DATA, codec, raw_length, sealed_length, last=last)
        return decompress(codec, self.key.open(sealed, meta, self.ref.name), raw_length, self.ref.name)

    def frames(self, first: int, sealed: bytes) -> Iterator[bytes]:
        """Yield the log of consecutive frames from `first` on, whose bytes lie end to end."""
        view = memoryview(sealed)
        base = self.offsets[first]
        for number in range(first, len(self.head.frames)):
            begin, end = self.offsets[number] - base, self.offsets[number + 1] - base
            if end > len(view):
                return
            yield self.frame(number, view[begin:end])


def open_range(keyring: Keyring, ref: WalRangeRef, begin: bytes) -> OpenRange:
    """Open the head of a range and hold it against the name and the size of its object.

    Args:
        keyring: The repository's keys.
        ref: What the name says.
        begin: The object's first bytes: `FIRST_READ_BYTES` of them, or all.

    Raises:
        ObjectCorruptError, WrongKeyError, KeyMissingError: Damaged, truncated, or it belongs in another place.
        SizeLimitError: It declares more than any range has.
        FormatVersionError: A newer format.
    """
    name = ref.name
    if ref.size_bytes > MAX_OBJECT_BYTES:
        raise SizeLimitError(f"{name}: {ref.size_bytes} bytes, over the cap of {MAX_OBJECT_BYTES}", object=name)
    key = open_header(keyring, begin, KIND_WAL, name)
    if len(begin) < HEAD_OFFSET:
        raise ObjectCorruptError(f"{name}: truncated", object=name)
    (sealed_length,) = _LEAD.unpack_from(begin, HEADER_BYTES)
    if sealed_length > MAX_HEAD_BYTES + TAG_BYTES:
        raise SizeLimitError(f"{name}: its head declares {sealed_length} bytes", object=name)
    sealed = memoryview(begin)[HEAD_OFFSET : HEAD_OFFSET + sealed_length]
    if not TAG_BYTES < sealed_length == len(sealed):
        raise ObjectCorruptError(f"{name}: truncated, or the length of its head was altered", object=name)
    head = _parse_head(name, key.open(sealed, _head_meta(sealed_length), name))
    _compare(ref, head)
    offsets = [HEAD_OFFSET + sealed_length]
    for _, length in head.frames:
        offsets.append(offsets[-1] + length)
    if offsets[-1] != ref.size_bytes:
        raise ObjectCorruptError(f"{name}: has {ref.size_bytes} bytes, its head says {offsets[-1]}", object=name)
    return OpenRange(ref, key, head, tuple(offsets))


def decode_history(keyring: Keyring, name: str, data: bytes) -> tuple[bytes, int]:
    """Return (content of the history file, system id) of a history's object.

    Raises:
        ObjectCorruptError, WrongKeyError, KeyMissingError, FormatVersionError: Damaged, or it belongs elsewhere.
    """
    fields = _json(name, open_single(keyring, KIND_WAL_HISTORY, data, name))
    try:
        content = b64decode(fields["content"], validate=True)
        timeline, system_id = _number(fields["timeline"]), _number(fields["system_id"])
        History.parse(timeline, content)
        own_name = history_object_name(str(fields["source"]), timeline)
    except (KeyError, TypeError, ValueError, SourceFormatError):
        raise _damaged(name) from None
    if own_name != name:
        raise ObjectCorruptError(f"{name}: holds {own_name[:80]}, not what its name says", object=name)
    return content, system_id


def _head_meta(sealed_length: int) -> FrameMeta:
    return FrameMeta(0, TYPE_HEAD, CODEC_RAW, sealed_length - TAG_BYTES, sealed_length)


def _parse_head(name: str, plain: bytes) -> WalHead:
    fields = _json(name, plain)
    try:
        head = WalHead(
            source_tag=str(fields["source"]),
            system_id=_number(fields["system_id"]),
            timeline=_number(fields["timeline"]),
            start=_position(fields["start"]),
            end=_position(fields["end"]),
            segment_bytes=require_segment_size(_number(fields["segment_bytes"])),
            saved_ns=_number(fields["saved_ns"], _TIMES_END),
            content_id=bytes.fromhex(fields["content_id"]),
            frames=tuple((_number(codec), _number(length)) for codec, length in fields["frames"]),
        )
    except (KeyError, TypeError, ValueError, SourceFormatError):
        raise _damaged(name) from None
    if len(head.content_id) != _ID_BYTES or not 1 <= head.timeline <= MAX_TIMELINE:
        raise _damaged(name)
    if not 0 < head.end - head.start <= MAX_RANGE_BYTES:
        raise _damaged(name)
    if len(head.frames) != -(-(head.end - head.start) // FRAME_BYTES):
        raise _damaged(name)
    for number, (codec, length) in enumerate(head.frames):
        # A frame that does not shrink is stored as it is, so none is longer than its log.
        if codec not in (CODEC_RAW, CODEC_ZSTD) or not TAG_BYTES < length <= head.raw_length(number) + TAG_BYTES:
            raise _damaged(name)
    return head


def _compare(ref: WalRangeRef, head: WalHead) -> None:
    """Make sure that an object stands where it belongs."""
    own_name = range_name(head.source_tag, head.timeline, head.start, head.end)
    if own_name != ref.name:
        raise ObjectCorruptError(f"{ref.name}: holds {own_name[:80]}, not what its name says", object=ref.name)


def _json(name: str, plain: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(plain)
    except (ValueError, RecursionError):
        raise _damaged(name) from None
    if not isinstance(fields, dict):
        raise _damaged(name)
    if type(fields.get("format")) is not int:
        raise _damaged(name)
    if fields["format"] != FORMAT:
        raise FormatVersionError(f"{name}: format {fields['format']}, this version reads {FORMAT}", object=name)
    return fields


def _number(value: object, end: int = _NUMBERS_END) -> int:
    if type(value) is not int or not 0 <= value < end:
        raise ValueError
    return value


def _position(text: object) -> Lsn:
    if not isinstance(text, str) or re.fullmatch(r"[0-9a-f]{16}", text) is None:
        raise ValueError
    return Lsn(int(text, 16))


def _damaged(name: str) -> ObjectCorruptError:
    return ObjectCorruptError(f"{name}: what it says of itself is damaged", object=name)
