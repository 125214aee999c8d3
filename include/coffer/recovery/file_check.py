"""The files of a restored data folder, held against the manifest that the server sent with them.

What `pg_verifybackup` does, with the server's own manifest and not with one that was written after the restore: it
covers the whole way of the bytes. The checksum of each page is computed in the same reading.

Source: PostgreSQL documentation, `pg_verifybackup`: which files are passed over.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import google_crc32c

from coffer.errors import CofferError, InterruptedRunError
from coffer.postgres.backup_manifest import ManifestFile, ManifestParser
from coffer.postgres.facts import MANIFEST_PATH, ClusterFacts, Method
from coffer.postgres.page import PAGE_BYTES, bad_pages
from coffer.postgres.relation_path import parse_relation_path, split_incremental
from coffer.recovery.drill_report import DrillFinding, DrillLog, words_of
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.restore.cluster.content import ChunkCache, pieces
from coffer.verification.findings import Severity

_STEP_BYTES = 1 << 20  # whole pages
_QUEUED = 64  # files that wait for the threads
_MAX_WORKERS = 8
_MAX_PAGES_NAMED = 5  # of one file
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# The restore writes them by rules of its own, or the server changes them.
_PASSED_OVER = frozenset(
    (
        b"backup_label",
        b"backup_label.old",
        b"backup_manifest",
        b"postgresql.auto.conf",
        b"postmaster.opts",
        b"postmaster.pid",
        b"recovery.signal",
        b"standby.signal",
        b"tablespace_map",
        b"tablespace_map.old",
    )
)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc32c:
    """CRC-32C as the manifest has it: the lowest byte first."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = google_crc32c.extend(self._value, data)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class _Checked:
    findings: list[DrillFinding]
    pages: int = 0


def check_files(
    repo: Repository,
    snapshot: Snapshot,
    facts: ClusterFacts,
    data: Path,
    notes: DrillLog,
    *,
    workers: int = 0,
    read_pages: bool = True,
    stop: threading.Event | None = None,
) -> None:
    """Compare size and checksum of every file with the manifest, and every page with its own checksum.

    Of a native incremental backup the manifest knows only the files that came whole. Before the first start: a server
    changes its files.

    Args:
        repo: Where the manifest is.
        snapshot: That was restored.
        facts: What it says of the cluster.
        data: The data folder; links below pg_tblspc are followed, others are not.
        notes: Takes what is found.
        workers: Threads; 0 for one per core, 8 at most.
        read_pages: Whether the pages are looked at.
        stop: Ends it between two files.

    Raises:
        InterruptedRunError: `stop` was set.
    """
    checker = _FileChecker(data, facts, read_pages=read_pages and facts.has_checksums)
    waiting: list[Future[_Checked]] = []
    with ThreadPoolExecutor(min(workers or os.cpu_count() or 1, _MAX_WORKERS), "coffer-files") as pool:
        try:
            for entry in _entries(repo, snapshot):
                if stop is not None and stop.is_set():
                    raise InterruptedRunError("drill: stopped by request", reason="stopped")
                waiting.append(pool.submit(checker.check, entry))
                if len(waiting) >= _QUEUED:
                    _take(waiting.pop(0), notes)
            for future in waiting:
                _take(future, notes)
        except InterruptedRunError:
            pool.shutdown(cancel_futures=True)
            raise
        except CofferError as error:  # the manifest itself: damaged, or not there
            for future in waiting:
                _take(future, notes)
            name = MANIFEST_PATH.decode()
            notes.damage("manifest", f"{name}: {words_of(error)}", file=name)
    if not notes.counts["files_checked"] and facts.method is not Method.NATIVE and not notes.counts["errors"]:
        notes.hint("no-manifest", "the snapshot holds no manifest of the server: its files were not compared")


def _take(future: Future[_Checked], notes: DrillLog) -> None:
    checked = future.result()
    notes.count("files_checked")
    notes.count("pages_checked", checked.pages)
    for finding in checked.findings:
        notes.add(finding)


def _entries(repo: Repository, snapshot: Snapshot) -> Iterator[ManifestFile]:
    """Yield what the manifest says of each file that is to be compared."""
    manifest = repo.manifest(snapshot)
    stored = manifest.find(MANIFEST_PATH)
    if stored is None or stored.content is None:
        return
    parser = ManifestParser()
    for piece in pieces(ChunkCache(repo), manifest, stored.content, _STEP_BYTES):
        for entry in parser.feed(piece):
            is_passed_over = entry.path in _PASSED_OVER or entry.path.startswith(b"pg_wal/")
            if not is_passed_over and not split_incremental(entry.path)[1]:
                yield entry
    parser.finish()


class _FileChecker:
    """Checks single files; thread-safe."""

    def __init__(self, data: Path, facts: ClusterFacts, *, read_pages: bool) -> None:
        self._data = os.fsencode(data)
        self._facts = facts
        self._read_pages = read_pages

    def check(self, entry: ManifestFile) -> _Checked:
        """Return what is wrong with a file."""
        shown = entry.path.decode("utf-8", "backslashreplace")
        if entry.path.startswith(b"/") or b".." in entry.path.split(b"/") or b"\0" in entry.path:
            return _Checked([_finding("manifest", f"{shown}: the manifest names a path outside the cluster", shown)])
        try:
            fd = os.open(self._data + b"/" + entry.path, _OPEN)
        except OSError as error:
            return _Checked([_finding("file-missing", f"{shown}: cannot be read ({error.strerror})", shown)])
        try:
            return self._compare(fd, entry, shown)
        except OSError as error:
            return _Checked([_finding("file-missing", f"{shown}: cannot be read ({error.strerror})", shown)])
        finally:
            os.close(fd)

    def _compare(self, fd: int, entry: ManifestFile, shown: str) -> _Checked:
        hasher = _hasher(entry.algorithm)
        relation = parse_relation_path(entry.path) if self._read_pages else None
        findings: list[DrillFinding] = []
        size = 0
        while piece := _read(fd, _STEP_BYTES):
            hasher.update(piece)
            if relation is not None:
                first = relation.first_block + size // PAGE_BYTES
                bad = bad_pages(piece, first, written_before=self._facts.start)
                findings += [
                    _finding(
                        "page-checksum",
                        f"{shown}: page {page.block} has checksum {page.declared:04X}, its content {page.computed:04X}",
                        shown,
                    )
                    for page in bad[: _MAX_PAGES_NAMED - len(findings)]
                ]
            size += len(piece)
        if size != entry.size_bytes:
            findings.insert(
                0, _finding("file-differs", f"{shown}: has {size} bytes, expected {entry.size_bytes}", shown)
            )
        elif entry.algorithm != "NONE" and hasher.digest() != entry.checksum:
            findings.insert(
                0, _finding("file-differs", f"{shown}: {entry.algorithm} is not that of the manifest", shown)
            )
        return _Checked(findings, size // PAGE_BYTES if relation is not None else 0)


def _read(fd: int, size: int) -> bytes:
    """Return the next bytes of a file: as many as asked for, but at its end."""
    data = os.read(fd, size)
    while 0 < len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            break
        data += more
    return data


def _hasher(algorithm: str) -> _Hash:
    return _Crc32c() if algorithm in ("CRC32C", "NONE") else hashlib.new(algorithm.lower())


def _finding(code: str, message: str, file: str) -> DrillFinding:
    return DrillFinding(Severity.ERROR, code, message, file=file)
