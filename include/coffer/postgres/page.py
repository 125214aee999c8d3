"""Pages of relation files: their header, and the checksum that PostgreSQL gives them.

Source: PostgreSQL's `src/include/storage/bufpage.h` and `checksum_impl.h` (versions 15 to 18 are alike). It is FNV-1a,
changed so that the high bits reach the low ones, in 32 lanes side by side. Then the number of the block is mixed in, so
a page that was written to another place is found too. numpy does many pages at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PAGE_BYTES = 8192  # BLCKSZ; other sizes are made by building PostgreSQL oneself, and are refused when connecting
_LANES = 32
_ROUNDS = PAGE_BYTES // (4 * _LANES)
_PRIME = np.uint32(16777619)
_SHIFT = np.uint32(17)
_BATCH_PAGES = 128  # 1 MiB: a batch and its transposed copy stay in a core's cache
# fmt: off
_OFFSETS = np.array([
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
], dtype=np.uint32)
# fmt: on


@dataclass(frozen=True, slots=True)
class BadPage:
    """A page whose checksum is not what its content gives.

    Attributes:
        block: Its number in the relation, from 0.
        declared: What its header says.
        computed: What its content gives.
    """

    block: int
    declared: int
    computed: int


def checksums(pages: npt.NDArray[np.uint32], first_block: int) -> npt.NDArray[np.uint16]:
    """Return the checksum of each page.

    Args:
        pages: Of shape (pages, 2048), little-endian words; not changed.
        first_block: Number of the first page in its relation; the others follow.

    Returns:
        One number from 1 to 65,535 for each page.
    """
    count = len(pages)
    found = np.empty(count, np.uint16)
    for begin in range(0, count, _BATCH_PAGES):
        batch = pages[begin : begin + _BATCH_PAGES]
        blocks = np.arange(first_block + begin, first_block + begin + len(batch), dtype=np.uint64).astype(np.uint32)
        found[begin : begin + len(batch)] = _checksums_of_batch(batch, blocks)
    return found


def _checksums_of_batch(pages: npt.NDArray[np.uint32], blocks: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint16]:
    # Pages last, so that numpy's inner loop runs along them: (rounds, lanes, pages).
    words = np.array(pages.reshape(len(pages), _ROUNDS, _LANES).transpose(1, 2, 0), order="C")  # a copy
    words[0, 2] &= np.uint32(0xFFFF_0000)  # the field of the checksum itself counts as zero
    sums = np.repeat(_OFFSETS[:, np.newaxis], len(pages), axis=1)
    scratch = np.empty_like(sums)
    for number in range(_ROUNDS):
        _mix(sums, words[number], scratch)
    zeroes = np.zeros_like(sums)
    _mix(sums, zeroes, scratch)
    _mix(sums, zeroes, scratch)
    folded = np.bitwise_xor.reduce(sums, axis=0) ^ blocks
    found: npt.NDArray[np.uint16] = (folded % np.uint32(65535) + np.uint32(1)).astype(np.uint16)
    return found


def _mix(sums: npt.NDArray[np.uint32], words: npt.NDArray[np.uint32], scratch: npt.NDArray[np.uint32]) -> None:
    """One round: sum = (sum ^ word) * prime ^ ((sum ^ word) >> 17), in place."""
    np.bitwise_xor(sums, words, out=sums)
    np.right_shift(sums, _SHIFT, out=scratch)
    np.multiply(sums, _PRIME, out=sums)
    np.bitwise_xor(sums, scratch, out=sums)


def bad_pages(content: bytes | memoryview, first_block: int, *, written_before: int | None = None) -> list[BadPage]:
    """Find the pages of a relation file whose checksum is wrong.

    Pages that were never written (pd_upper is 0) have no checksum. A page that was changed while the backup was read
    may be torn: WAL replaces it whole when the backup is restored, so only pages older than the backup count.

    Args:
        content: Whole pages; what is left behind them is not looked at.
        first_block: Number of the first page in its relation; the second file of 1 GiB begins with 131,072.
        written_before: LSN at which the backup began; None for files that nobody writes to.

    Returns:
        In the order of the blocks.
    """
    count = len(content) // PAGE_BYTES
    if not count:
        return []
    pages = np.frombuffer(content, "<u4", count * (PAGE_BYTES // 4)).reshape(count, -1)
    declared = (pages[:, 2] & np.uint32(0xFFFF)).astype(np.uint16)  # pd_checksum, at byte 8
    upper = (pages[:, 3] >> np.uint32(16)).astype(np.uint16)  # pd_upper, at byte 14
    counts = upper != 0
    if written_before is not None:
        lsns = pages[:, 0].astype(np.uint64) << np.uint64(32) | pages[:, 1].astype(np.uint64)  # pd_lsn: high, low
        counts &= lsns < np.uint64(written_before)
    computed = checksums(pages, first_block)
    wrong = np.flatnonzero(counts & (declared != computed))
    return [BadPage(first_block + int(n), int(declared[n]), int(computed[n])) for n in wrong]
