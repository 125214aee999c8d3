"""One file of pages: compared page by page with the snapshot before, so that only changed pages are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from coffer.crypto.hashing import PAGE_DIGEST_BYTES, IdKeys
from coffer.errors import CofferError
from coffer.postgres.page import PAGE_BYTES
from coffer.repository.entries import Extent
from coffer.repository.writer import ChunkWriter
from coffer.sources.postgres.pagebundle import PageBundler
from coffer.sources.postgres.pagecontent import PagedContent, StoredPlace
from coffer.sources.postgres.stored import ExtentCursor, StoredPages

# Of a file, and of a chunk of pages: 128 of them compress as well as more, and one page alone is read fast.
PIECE_BYTES = 1 << 20
# Where so much of a piece changed it is stored whole: an eighth more bytes, and one run instead of many.
_DENSE = 7 / 8


@dataclass(slots=True)
class PageCounts:
    """What was found.

    Attributes:
        read: Pages that were looked at.
        changed: Pages that the snapshot before has otherwise, or not.
    """

    read: int = 0
    changed: int = 0


class PageWriter:
    """What the files of one backup share: chunks of changed pages, and chunks of digests. For one thread."""

    def __init__(self, writer: ChunkWriter, ids: IdKeys, knows: Callable[[bytes], bool]) -> None:
        """Write through a writer; `knows` says whether a chunk is in the store."""
        self.writer, self.ids, self.knows = writer, ids, knows
        self.pages = PageBundler(writer, PIECE_BYTES)
        self.digests = PageBundler(writer, PIECE_BYTES)
        self.counts = PageCounts()

    def close(self) -> None:
        """Hand open chunks to the writer, so that contents can be resolved."""
        self.pages.close()
        self.digests.close()


class PagedFile:
    """Takes one file, in pieces of `PIECE_BYTES` of which only the last may be shorter.

    Attributes:
        content: Where its bytes lie.
        digests: Where the digests of its pages lie, as a file of 16 bytes for each page.
    """

    def __init__(self, shared: PageWriter, old: StoredPages | None) -> None:
        """Compare with what the snapshot before has of it; None stores everything."""
        self._shared, self._old = shared, old
        self.content, self.digests = PagedContent(), PagedContent()

    def add(self, piece: bytes) -> None:
        """Take the next piece [1 byte to `PIECE_BYTES`].

        Raises:
            CofferError: The store failed.
        """
        digests = self._shared.ids.page_digests(piece)
        count = len(digests) // PAGE_DIGEST_BYTES
        self._shared.counts.read += count
        before = self._before(len(piece), len(digests))
        if before is None:
            self._store_whole(piece, digests)
            return
        known, extents, digest_extents = before
        if known == digests and self._keep_whole(extents, digest_extents):
            return
        changed = _differences(known, digests)
        if changed.sum() >= count * _DENSE:
            self._store_whole(piece, digests)
        else:
            self._store_runs(piece, digests, changed, ExtentCursor(iter(extents)), ExtentCursor(iter(digest_extents)))

    def _before(self, length: int, digests_length: int) -> tuple[bytes, list[Extent], list[Extent]] | None:
        """Return (digests, extents, extents of the digests) of the piece in the snapshot before."""
        old = self._old
        if old is None:
            return None
        try:
            return (
                old.digests.read(digests_length),
                old.extents.take(length),
                old.digest_extents.take(digests_length),
            )
        except CofferError:
            self._old = None  # damaged from here on: stored anew, and `check` names the damage
            return None

    def _keep_whole(self, extents: list[Extent], digest_extents: list[Extent]) -> bool:
        """Refer to what is stored already, if all of it is there."""
        if not self._is_stored(extents) or not self._is_stored(digest_extents):
            return False
        refer(self.content, extents)
        refer(self.digests, digest_extents)
        return True

    def _is_stored(self, extents: list[Extent]) -> bool:
        knows = self._shared.knows
        return all(chunk_id is None or knows(chunk_id) for chunk_id, _, _, _ in extents)

    def _store_whole(self, piece: bytes, digests: bytes) -> None:
        """Store a whole piece as a chunk of its own: a later full backup finds it again. A short one is bundled."""
        shared = self._shared
        shared.counts.changed += len(digests) // PAGE_DIGEST_BYTES
        if len(piece) == PIECE_BYTES:
            self.content.add(shared.writer.submit([piece], len(piece)), 0, len(piece))
        else:
            self.content.add(*shared.pages.add(piece), len(piece))
        self.digests.add(*shared.digests.add(digests), len(digests))

    def _store_runs(
        self,
        piece: bytes,
        digests: bytes,
        changed: npt.NDArray[np.bool_],
        extents: ExtentCursor,
        digest_extents: ExtentCursor,
    ) -> None:
        """Store runs of changed pages, and refer to what lies between them."""
        view, digest_view = memoryview(piece), memoryview(digests)
        borders = [0, *(np.flatnonzero(changed[1:] != changed[:-1]) + 1).tolist(), len(changed)]
        for first, stop in pairwise(borders):
            run = view[first * PAGE_BYTES : stop * PAGE_BYTES]
            run_digests = digest_view[first * PAGE_DIGEST_BYTES : stop * PAGE_DIGEST_BYTES]
            old, old_digests = extents.take(len(run)), digest_extents.take(len(run_digests))
            if not changed[first] and self._keep_whole(old, old_digests):
                continue
            self._shared.counts.changed += stop - first
            self.content.add(*self._shared.pages.add(run), len(run))
            self.digests.add(*self._shared.digests.add(run_digests), len(run_digests))


def refer(content: PagedContent, extents: list[Extent]) -> None:
    """Append what lies in the store already, and holes."""
    for chunk_id, offset, length, _ in extents:
        if chunk_id is None:
            content.add_hole(length)
        else:
            content.add(StoredPlace(chunk_id), offset, length)


def _differences(before: bytes, after: bytes) -> npt.NDArray[np.bool_]:
    """Say of each page whether its digest is another; pages that were not there before are."""
    new = np.frombuffer(after, "<u8").reshape(-1, 2)
    old = np.frombuffer(before[: len(before) // PAGE_DIGEST_BYTES * PAGE_DIGEST_BYTES], "<u8").reshape(-1, 2)
    changed = np.ones(len(new), np.bool_)
    changed[: len(old)] = (new[: len(old)] != old).any(axis=1)
    return changed
