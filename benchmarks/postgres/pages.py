"""Which pages of a cluster changed: the yardstick of the incremental figures, taken from the files themselves.

A page is 8 KiB of a file below `base/` or `global/`. It changed when its bytes did, or when it was not there before.
The server must be at rest, behind a checkpoint: only then do its files hold what it knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from benchmarks.trees import regular_files

PAGE_BYTES = 8192
ZSTD_LEVEL = 3
_DIGEST_BYTES = 12
_FOLDERS = ("base", "global")

# path below the data folder → the digests of its pages, one behind another
Fingerprint = dict[str, bytes]


@dataclass(frozen=True)
class Changed:
    """The pages that changed: how many, their bytes, and these compressed as one stream (`zstd -3`)."""

    pages: int
    size_bytes: int
    zstd_bytes: int


def fingerprint(data: Path) -> Fingerprint:
    """Return the digests of all pages of the cluster in the data folder `data`."""
    return {
        str(path.relative_to(data)): b"".join(_digest(page) for page in _pages(path)) for path in _relation_files(data)
    }


def pages_of(prints: Fingerprint) -> int:
    """Return how many pages a fingerprint covers."""
    return sum(len(digests) for digests in prints.values()) // _DIGEST_BYTES


def changed_pages(before: Fingerprint, data: Path) -> Changed:
    """Compare the cluster in `data` with its fingerprint of before."""
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
    pages = size_bytes = zstd_bytes = 0
    for path in _relation_files(data):
        old = before.get(str(path.relative_to(data)), b"")
        for number, page in enumerate(_pages(path)):
            if _digest(page) != old[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES]:
                pages += 1
                size_bytes += len(page)
                zstd_bytes += len(compressor.compress(page))
    return Changed(pages, size_bytes, zstd_bytes + len(compressor.flush()))


def _relation_files(data: Path) -> list[Path]:
    return [path for folder in _FOLDERS for path in regular_files(data / folder)]


def _pages(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while page := file.read(PAGE_BYTES):
            yield page


def _digest(page: bytes) -> bytes:
    return hashlib.blake2b(page, digest_size=_DIGEST_BYTES).digest()
