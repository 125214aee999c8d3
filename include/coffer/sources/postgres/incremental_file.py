"""Files of changed blocks, as an incremental base backup of PostgreSQL 17 and newer sends them.

Source: `src/backend/backup/basebackup_incremental.h` and `basebackup.c` (17, 18): numbers of four bytes in the server's
byte order: magic, count of blocks, length up to which the relation was truncated [blocks], then the blocks' numbers;
zeroes up to a whole page where there are blocks; then the pages in the order of the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coffer.errors import SourceFormatError
from coffer.postgres.page import PAGE_BYTES
from coffer.postgres.relation_path import SEGMENT_PAGES

MAGIC = 0xD3AE1F0D
_FIXED_BYTES = 12
MAX_HEADER_BYTES = _FIXED_BYTES + 4 * SEGMENT_PAGES + PAGE_BYTES


@dataclass(frozen=True, slots=True)
class IncrementalHeader:
    """What such a file holds.

    Attributes:
        blocks: Numbers of the blocks that follow, in their order in the file; each once.
        truncation_blocks: The relation had no more blocks at some time since the parent [blocks]: blocks from there
            on that are not in `blocks` are not the parent's.
        header_bytes: Where the first page begins [bytes].
    """

    blocks: npt.NDArray[np.uint32]
    truncation_blocks: int
    header_bytes: int


def header_length(begin: bytes, what: str) -> int:
    """Return how long a header is.

    Args:
        begin: At least the first 12 bytes of the file.
        what: Names it in messages.

    Returns:
        Length with the padding [bytes]; `MAX_HEADER_BYTES` at the most.

    Raises:
        SourceFormatError: No such file.
    """
    if len(begin) < _FIXED_BYTES:
        raise SourceFormatError(f"{what}: {len(begin)} bytes, a file of changed blocks has 12 at least")
    magic, count, truncation = (int(number) for number in np.frombuffer(begin, "<u4", 3))
    if magic != MAGIC:
        raise SourceFormatError(f"{what}: begins with {magic:#x}, expected {MAGIC:#x}")
    if count > SEGMENT_PAGES or truncation > SEGMENT_PAGES:
        raise SourceFormatError(f"{what}: {count} blocks of {truncation}, a file has {SEGMENT_PAGES} at the most")
    length = _FIXED_BYTES + 4 * count
    return length + (-length % PAGE_BYTES if count else 0)


def parse_header(header: bytes, size_bytes: int, what: str) -> IncrementalHeader:
    """Read a whole header.

    Args:
        header: `header_length` bytes.
        size_bytes: Of the whole file, as its archive declares it.
        what: Names it in messages.

    Raises:
        SourceFormatError: Another length, a block twice or beyond a file's end, or padding that is not zero.
    """
    length = header_length(header, what)
    count = int(np.frombuffer(header, "<u4", 1, 4)[0])
    if len(header) != length or size_bytes != length + count * PAGE_BYTES:
        raise SourceFormatError(f"{what}: {size_bytes} bytes do not hold {count} blocks behind {length} bytes")
    blocks = np.frombuffer(header, "<u4", count, _FIXED_BYTES)
    if count and (int(blocks.max()) >= SEGMENT_PAGES or len(np.unique(blocks)) != count):
        raise SourceFormatError(f"{what}: a block comes twice, or is beyond the end of a file")
    if header[_FIXED_BYTES + 4 * count :].strip(b"\0"):
        raise SourceFormatError(f"{what}: something stands between the header and the first page")
    return IncrementalHeader(blocks, int(np.frombuffer(header, "<u4", 1, 8)[0]), length)
