"""One file of changed blocks, as an incremental base backup sends it, completed to the whole file.

What was not sent is the snapshot's before, where that cannot have been cut off meanwhile; elsewhere it is zeroes. So
what comes out is a map of the whole file, as if the whole file had been read.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coffer.crypto.hashing import PAGE_DIGEST_BYTES
from coffer.errors import CofferError, SourceFormatError
from coffer.errors_postgres import PostgresIncrementalRefusedError
from coffer.postgres.facts import PAGES_FOLDER
from coffer.postgres.page import PAGE_BYTES
from coffer.postgres.relation_path import RelationFile
from coffer.repository.blocks import SIZE
from coffer.repository.entries import Extent
from coffer.sources.postgres.incremental_file import IncrementalHeader, header_length, parse_header
from coffer.sources.postgres.pagecontent import KeptContent, PagedContent
from coffer.sources.postgres.pagefile import PIECE_BYTES, PageWriter, refer
from coffer.sources.postgres.stored import ExtentCursor, StoredCluster, StoredFile, StoredPages
from coffer.sources.postgres.summary_audit import ExpectedChanges

_DIGESTS_A_CHUNK = PIECE_BYTES // PAGE_DIGEST_BYTES


class _Before(NamedTuple):
    """What the snapshot before has of the file; `pages` is None where it was empty."""

    file: StoredFile
    digests: StoredFile | None
    pages: StoredPages | None
    blocks: int


class ChangedFile:
    """Takes a file of changed blocks, in pieces of `PIECE_BYTES` of which only the last may be shorter."""

    def __init__(
        self, shared: PageWriter, old: StoredCluster, changes: ExpectedChanges, path: bytes, file: RelationFile
    ) -> None:
        """Complete a file from what a snapshot has of it.

        Args:
            shared: Takes the pages.
            old: The snapshot that the server compared with.
            changes: What must be sent, and how much of the old file is left.
            path: Of the whole file.
            file: The same, taken apart.

        Raises:
            PostgresIncrementalRefusedError: The snapshot does not have the file, or no digests of its pages.
        """
        self._shared, self._changes, self._path, self._file = shared, changes, path, file
        self._before = _find(old, path)
        self._header: IncrementalHeader | None = None
        self._kept_until = self._stop = 0  # blocks of the file
        self._at = self._sent = 0  # the next block of the file, and the next of those that are sent
        self._content, self._digests = PagedContent(), PagedContent()
        self._whole: tuple[KeptContent, KeptContent] | None = None

    def add(self, piece: bytes, size_bytes: int) -> None:
        """Take the next piece of a file that has `size_bytes` as it is sent. The whole header is in the first one.

        Raises:
            SourceFormatError: No such file.
            PostgresIncrementalRefusedError: The snapshot lacks what is needed of it.
            PostgresIncrementalAuditError: A block that must be in it is not.
            CofferError: The store failed.
        """
        pages = memoryview(piece)
        if self._header is None:
            length = header_length(piece, repr(self._path))
            header = parse_header(piece[:length], size_bytes, repr(self._path))
            self._begin(header)
            pages = pages[length:]
        if pages:
            self._take(pages)

    def finish(self) -> tuple[PagedContent | KeptContent, PagedContent | KeptContent]:
        """End the file.

        Returns:
            (where the bytes of the whole file lie, where the digests of its pages do).

        Raises:
            SourceFormatError: Nothing came.
            PostgresIncrementalRefusedError: As `add`.
        """
        if self._header is None:
            raise SourceFormatError(f"{self._path!r}: a file of changed blocks without a header")
        if self._whole is not None:
            return self._whole
        self._fill(self._stop)
        return self._content, self._digests

    # ----------------------------------------------------------------------------------------------- the header

    def _begin(self, header: IncrementalHeader) -> None:
        self._header = header
        blocks = header.blocks
        if len(blocks) > 1 and not (blocks[1:] > blocks[:-1]).all():
            raise SourceFormatError(f"{self._path!r}: changed blocks are not in their order")
        self._changes.check(self._path, self._file, header)
        length = header.truncation_blocks
        self._kept_until = min(self._changes.limit_of(self._file), length, self._before.blocks)
        if self._file.fork == "vm":
            # The header may name blocks of the heap. Zeroes at a map's end say what its end says: nothing is visible.
            length = self._kept_until
        self._stop = max(length, int(blocks[-1]) + 1 if len(blocks) else 0)
        if not len(blocks) and self._stop == self._kept_until == self._before.blocks:
            self._keep_whole()

    def _keep_whole(self) -> None:
        """Take the file over as it is, without looking at its extents one by one."""
        file, digests = self._before.file, self._before.digests
        if file.content is None or digests is None or digests.content is None:
            return  # it was empty, and is
        self._require_stored([*file.content.extents, *digests.content.extents])
        self._whole = (
            KeptContent(file.content, self._stop * PAGE_BYTES),
            KeptContent(digests.content, self._stop * PAGE_DIGEST_BYTES),
        )

    # ----------------------------------------------------------------------------------------------- the pages

    def _take(self, pages: memoryview) -> None:
        """Store pages that were sent, run by run, and put what was not sent between them."""
        assert self._header is not None  # it came first
        count = len(pages) // PAGE_BYTES
        blocks = self._header.blocks[self._sent : self._sent + count]
        self._sent += count
        shared = self._shared
        digests = memoryview(shared.ids.page_digests(pages))
        shared.counts.read += count
        shared.counts.changed += count
        for first, stop in _runs(blocks):
            self._fill(int(blocks[first]))
            run = pages[first * PAGE_BYTES : stop * PAGE_BYTES]
            run_digests = digests[first * PAGE_DIGEST_BYTES : stop * PAGE_DIGEST_BYTES]
            self._append(run, run_digests)
            self._old_extents(min(self._at + stop - first, self._kept_until))  # these pages are not wanted
            self._at += stop - first

    def _append(self, pages: memoryview, digests: memoryview) -> None:
        self._content.add(*self._shared.pages.add(pages), len(pages))
        self._digests.add(*self._shared.digests.add(digests), len(digests))

    def _fill(self, stop: int) -> None:
        """Go on to a block with what was not sent: the old pages as far as they are left, then zeroes."""
        kept = min(stop, self._kept_until)
        if kept > self._at:
            extents, digest_extents = self._old_extents(kept)
            self._require_stored([*extents, *digest_extents])
            refer(self._content, extents)
            refer(self._digests, digest_extents)
            self._at = kept
        if stop > self._at:
            self._fill_with_zeroes(stop - self._at)
            self._at = stop

    def _fill_with_zeroes(self, count: int) -> None:
        self._content.add_hole(count * PAGE_BYTES)
        digest = self._shared.ids.page_digests(bytes(PAGE_BYTES))
        while count:
            step = min(count, _DIGESTS_A_CHUNK)
            self._digests.add(*self._shared.digests.add(digest * step), step * PAGE_DIGEST_BYTES)
            count -= step

    # ----------------------------------------------------------------------------------------------- the old file

    def _old_extents(self, stop: int) -> tuple[list[Extent], list[Extent]]:
        """Return where the old pages from here to a block lie, and their digests; each is asked for once."""
        count, old = stop - self._at, self._before.pages
        if count <= 0 or old is None:
            return [], []
        try:
            pages = _take_all(old.extents, count * PAGE_BYTES)
            digests = _take_all(old.digest_extents, count * PAGE_DIGEST_BYTES)
        except CofferError as error:
            raise _damaged(self._path) from error
        if pages is None or digests is None:
            raise _damaged(self._path)
        return pages, digests

    def _require_stored(self, extents: list[Extent]) -> None:
        knows = self._shared.knows
        if not all(extent.chunk_id is None or knows(extent.chunk_id) for extent in extents):
            raise _damaged(self._path)


def _take_all(cursor: ExtentCursor, length: int) -> list[Extent] | None:
    """Return the extents of the next `length` bytes, None where there are fewer."""
    extents = cursor.take(length)
    return extents if sum(extent.length for extent in extents) == length else None


def _runs(blocks: npt.NDArray[np.uint32]) -> list[tuple[int, int]]:
    """Return (first, behind the last) of each run of blocks that follow each other, as places in the array."""
    borders = [0, *(np.flatnonzero(blocks[1:] != blocks[:-1] + 1) + 1).tolist(), len(blocks)]
    return list(pairwise(borders))


def _find(old: StoredCluster, path: bytes) -> _Before:
    file = old.find(path)
    if file is None:
        raise PostgresIncrementalRefusedError(
            f"{path!r}: changes to it were sent, and the last snapshot does not have it"
        )
    size_bytes = file.row[SIZE]
    if not size_bytes:
        return _Before(file, None, None, 0)
    digests, pages = old.find(PAGES_FOLDER + b"/" + path), old.pages(path)
    if digests is None or pages is None or size_bytes % PAGE_BYTES:
        raise _damaged(path)
    return _Before(file, digests, pages, size_bytes // PAGE_BYTES)


def _damaged(path: bytes) -> PostgresIncrementalRefusedError:
    return PostgresIncrementalRefusedError(f"{path!r}: the last snapshot does not have all pages of it that are needed")
