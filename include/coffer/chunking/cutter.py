"""Cut one large file into chunks, as a stream, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ChunkParams:
    """How content is cut; part of a repository's configuration, since other values find no old chunk again.

    Attributes:
        method: "cdc" or "fixed".
        min_bytes, avg_bytes, max_bytes: Bounds of a chunk [bytes]; "fixed" cuts at avg_bytes.
        bundle_below_bytes: Files smaller than this are bundled [bytes].
        bundle_min_bytes, bundle_max_bytes: A bundle is cut between files from the first on, at the second at the
            latest.
        bundle_avg_bytes: Mean distance of the content-defined cut beyond bundle_min_bytes [bytes].

    The defaults are measured: docs/adr/0021.
    """

    method: str = "cdc"
    min_bytes: int = 256 * KIB
    avg_bytes: int = MIB
    max_bytes: int = 4 * MIB
    bundle_below_bytes: int = 512 * KIB
    bundle_min_bytes: int = 3 * MIB
    bundle_avg_bytes: int = MIB
    bundle_max_bytes: int = 6 * MIB


class Cutter:
    """Cuts streams with one set of parameters. Not thread-safe (FastCDC keeps its state)."""

    def __init__(self, params: ChunkParams, seed: int) -> None:
        self._params = params
        self._seed = seed
        self._window = bytearray()  # made by the first cut, then used again: fresh pages cost more than the cutting

    def cut(self, readinto: Callable[[memoryview], int]) -> Iterator[bytes]:
        """Yield the stream's chunks in order; contiguous; only the last may be shorter than the minimum.

        One cut at a time: the window is shared. Each chunk is a copy, so that a slow consumer holds a chunk and no
            window.

        Args:
            readinto: Fills a view and returns the count of bytes, 0 at the end; short reads are fine.
        """
        if not self._window:
            self._window = bytearray(self._params.max_bytes * 2)
        view = memoryview(self._window)
        carried = 0
        while True:
            filled = _fill(view, carried, readinto)
            if filled == 0:
                return
            at_end = filled < len(view)
            used = 0
            for length in self._lengths(view[:filled]):
                # A cut that touches the window's end may lie elsewhere once more data is seen.
                if not at_end and used + length == filled:
                    break
                yield bytes(view[used : used + length])
                used += length
            if at_end:
                return
            carried = filled - used
            view[:carried] = view[used:filled]

    def _lengths(self, view: memoryview) -> Iterator[int]:
        if self._params.method == "fixed":
            block = self._params.avg_bytes
            for start in range(0, len(view), block):
                yield min(block, len(view) - start)
            return
        for chunk in _fastcdc(self._params, self._seed).cut_buf(view):
            yield chunk.length


@lru_cache(maxsize=4)
def _fastcdc(params: ChunkParams, seed: int) -> FastCDC:
    from pyfastcdc import FastCDC  # a run without large new files does not pay for the import

    return FastCDC(params.avg_bytes, min_size=params.min_bytes, max_size=params.max_bytes, seed=seed)


def _fill(view: memoryview, start: int, readinto: Callable[[memoryview], int]) -> int:
    filled = start
    while filled < len(view):
        count = readinto(view[filled:])
        if count == 0:
            break
        filled += count
    return filled


def bundle_is_cut(params: ChunkParams, size_bytes: int, last_file_bytes: int, last_content_id: bytes) -> bool:
    """Say whether a bundle ends after its last file.

    The decision takes only the content ids and sizes, so the same files in the same order are cut at the same places
    wherever they stand. The chance is proportional to the file's size, so the mean distance beyond the minimum is
    `bundle_avg_bytes` whatever the sizes of the files are.

    Args:
        params: The repository's parameters.
        size_bytes: The bundle's size with its last file [bytes].
        last_file_bytes: That file's size [bytes].
        last_content_id: That file's content id.
    """
    if size_bytes < params.bundle_min_bytes:
        return False
    if size_bytes >= params.bundle_max_bytes:
        return True
    draw = int.from_bytes(last_content_id[:4], "big")
    return draw * params.bundle_avg_bytes < last_file_bytes << 32
