"""The beginning of a WAL segment, and whether a file is the segment that its name says.

Source: `src/include/access/xlog_internal.h`: XLogPageHeaderData and XLogLongPageHeaderData (versions 15 to 18), in the
server's byte order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import Lsn, Segment, require_segment_size

HEADER_BYTES = 40
_FORM = struct.Struct("<HHIQI4xQII")  # magic, info, timeline, page address, rest of a record; system, segment, page
_LONG_HEADER = 0x0002  # in info: the first page of a segment has the long form
_ANY_FLAG = 0x000F
# A server writes one number for each version of the format. Only what was seen on real servers is known here.
_MAGICS = {0xD110: 15, 0xD118: 18}


@dataclass(frozen=True, slots=True)
class WalHeader:
    """What a segment says of itself.

    Attributes:
        major: PostgreSQL's major version; None for a number that is not known.
        timeline: On which its first page was written.
        start: Position of its first byte.
        system_id: Of the cluster.
        segment_bytes: Size of a segment.
        page_bytes: Size of a page of WAL.
    """

    major: int | None
    timeline: int
    start: Lsn
    system_id: int
    segment_bytes: int
    page_bytes: int


def parse_wal_header(begin: bytes, what: str) -> WalHeader:
    """Read the header of a segment.

    Args:
        begin: Its first 40 bytes or more.
        what: Names it in messages.

    Raises:
        SourceFormatError: Too short, or not the beginning of a segment.
    """
    if len(begin) < HEADER_BYTES:
        raise SourceFormatError(f"{what}: {len(begin)} bytes, the header of a WAL segment has {HEADER_BYTES}")
    magic, info, timeline, address, _, system_id, segment_bytes, page_bytes = _FORM.unpack_from(begin)
    if magic >> 8 != 0xD1 or not info & _LONG_HEADER or info & ~_ANY_FLAG:
        raise SourceFormatError(f"{what}: does not begin like a WAL segment")
    require_segment_size(segment_bytes)
    if address % segment_bytes or not timeline:
        raise SourceFormatError(f"{what}: begins at {Lsn(address)} on timeline {timeline}, which no segment does")
    return WalHeader(_MAGICS.get(magic), timeline, Lsn(address), system_id, segment_bytes, page_bytes)


def require_segment(header: WalHeader, name: str, system_id: int) -> Segment:
    """Make sure that a segment is the one its name says, of the cluster that is expected.

    A server that was promoted in the middle of a segment copies its beginning, so the header may say an older timeline
    than the name. A file that waits for being used again has an older address: that is how it is told.

    Raises:
        SourceFormatError: It is of another cluster, or another segment.
    """
    segment = Segment.parse(name, header.segment_bytes)
    if header.system_id != system_id:
        raise SourceFormatError(f"WAL segment {name}: is of cluster {header.system_id}, expected {system_id}")
    if header.start != segment.start(header.segment_bytes) or header.timeline > segment.timeline:
        raise SourceFormatError(
            f"WAL segment {name}: holds {header.start} of timeline {header.timeline}, and not what its name says"
        )
    return segment
