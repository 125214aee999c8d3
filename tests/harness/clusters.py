"""Snapshots of clusters, made by hand: a tree of any files, with facts, in a repository; and WAL beside them."""

from __future__ import annotations

import stat
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from coffer.backends.base import Backend
from coffer.backends.memory import MemoryBackend
from coffer.postgres.facts import CLUSTER_PATH, PAGES_FOLDER, ClusterFacts, Method
from coffer.postgres.lsn import Lsn
from coffer.postgres.record import ClusterRecord
from coffer.postgres.wal_archive import WalArchive
from coffer.progress import Progress
from coffer.repository.blocks import Group, Row
from coffer.repository.entries import Content, Extent, path_key
from coffer.repository.manifest import NO_FINGERPRINT
from coffer.repository.pack import TYPE_DATA
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.restore.cluster import (
    ClusterPlan,
    ClusterRestoreOptions,
    ClusterRestoreResult,
    parse_target,
    plan_cluster_restore,
    restore_cluster,
)
from coffer.sources.assembly.bundle import Bundler
from coffer.sources.assembly.drafts import DraftBlock, ManifestDraft
from coffer.sources.assembly.run import WriteOptions, WriteRun
from tests.harness.manual_clock import EPOCH_NS
from tests.harness.repositories import make_repository
from tests.harness.wal_maker import SEGMENT, SYSTEM_ID, WalMaker

PIECE = 1 << 20
MTIME_NS = 1_700_000_000_000_000_000
FACTS = ClusterFacts(
    system_id=SYSTEM_ID,
    version=150018,
    method=Method.FULL,
    timeline=1,
    start=Lsn(SEGMENT + 40),
    end=Lsn(SEGMENT + 4096),
    start_timeline=1,
    segment_bytes=SEGMENT,
)


def label_of(facts: ClusterFacts, *more: str) -> bytes:
    """Return the backup_label that a server writes for such a backup."""
    lines = [
        f"START WAL LOCATION: {facts.start} (file {facts.start_timeline:08X}0000000000000001)",
        f"CHECKPOINT LOCATION: {facts.start}",
        "BACKUP METHOD: streamed",
        "BACKUP FROM: primary",
        "START TIME: 2026-11-25 05:38:17 UTC",
        "LABEL: coffer main",
        f"START TIMELINE: {facts.start_timeline}",
        *more,
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def control_of(facts: ClusterFacts) -> bytes:
    """Return a pg_control of which only the cluster can be read."""
    return facts.system_id.to_bytes(8, "little").ljust(8192, b"\x2a")


def data_files(facts: ClusterFacts = FACTS, **changes: bytes | None) -> dict[bytes, bytes | None]:
    """Return a small data folder: path -> content, None for a folder."""
    found: dict[bytes, bytes | None] = {
        b"PG_VERSION": b"15\n",
        b"backup_label": label_of(facts),
        b"base": None,
        b"base/5": None,
        b"base/5/1259": bytes(range(256)) * 32 * 5,
        b"base/5/1259_vm": b"v" * 8192,
        b"base/5/PG_VERSION": b"15\n",
        b"global": None,
        b"global/1262": b"g" * 8192,
        b"global/pg_control": control_of(facts),
        b"pg_hba.conf": b"local all all trust\n",
        b"pg_ident.conf": b"",
        b"pg_tblspc": None,
        b"pg_wal": None,
        b"pg_wal/archive_status": None,
        b"postgresql.auto.conf": b"# Do not edit\nwork_mem = '8MB'\n",
        b"postgresql.conf": b"port = 5432\n",
    }
    return {**found, **{name.encode(): content for name, content in changes.items()}}


def keep_snapshot(
    repo: Repository,
    files: Mapping[bytes, bytes | None],
    facts: ClusterFacts = FACTS,
    *,
    source: str = "main",
    record: ClusterRecord | None = None,
    digests: bool = False,
    owner: tuple[int, int] = (0, 0),
) -> Snapshot:
    """Commit a snapshot that holds these files.

    Args:
        repo: Where.
        files: Path -> content, None for a folder; folders above may be missing.
        facts: What it says of the cluster.
        source: Its name.
        record: Kept as `.coffer/cluster.json`; an empty one where omitted.
        digests: Keep the digests of the pages of files below base/ and pg_tblspc/.
        owner: Of every entry.
    """
    whole = dict(files)
    whole[CLUSTER_PATH] = (record or ClusterRecord("15.18")).encode()
    if digests:
        for path, content in files.items():
            if content and path.startswith((b"base/", b"pg_tblspc/")) and not path.endswith(b"PG_VERSION"):
                whole[PAGES_FOLDER + b"/" + path] = repo.keyring.ids.page_digests(content)
    for path in list(whole):
        while path := path.rpartition(b"/")[0]:
            whole.setdefault(path, None)
    run = WriteRun(repo, source)
    try:
        run.begin(WriteOptions(workers=1))
        groups = _groups(repo, run, whole, owner)
        draft = ManifestDraft(run.writer, Bundler(run.writer, repo.settings.chunking))
        draft.add(DraftBlock(groups, NO_FINGERPRINT, []))
        root = draft.finish(repo.index(), None, run.lease.sequence)
        sizes = sum(len(content) for content in whole.values() if content)
        return run.commit(root, stats={"files": len(whole), "size_bytes": sizes}, facts=facts.to_snapshot())[0]
    finally:
        run.close()


def _groups(
    repo: Repository, run: WriteRun, files: Mapping[bytes, bytes | None], owner: tuple[int, int]
) -> list[Group]:
    by_folder: dict[bytes, dict[bytes, bytes | None]] = {}
    for path, content in files.items():
        folder, _, name = path.rpartition(b"/")
        by_folder.setdefault(folder, {})[name] = content
    groups = []
    for folder in sorted(by_folder, key=path_key):
        names = sorted(by_folder[folder])
        rows = [_row(by_folder[folder][name], owner) for name in names]
        group = Group(folder, names, rows)
        for at, name in enumerate(names):
            content = by_folder[folder][name]
            if content:
                group.contents[at] = _store(repo, run, content)
        groups.append(group)
    return groups


def _row(content: bytes | None, owner: tuple[int, int]) -> Row:
    mode = stat.S_IFDIR | 0o700 if content is None else stat.S_IFREG | 0o600
    return mode, *owner, len(content or b""), 0, 0, 1, MTIME_NS, 0


def _store(repo: Repository, run: WriteRun, content: bytes) -> Content:
    parts = [content[at : at + PIECE] for at in range(0, len(content), PIECE)]
    pending = [run.writer.submit([part], len(part), TYPE_DATA) for part in parts]
    run.writer.flush_data()
    extents = tuple(Extent(chunk.chunk_id, 0, len(part)) for chunk, part in zip(pending, parts, strict=True))
    ids = repo.keyring.ids
    if len(extents) == 1:
        return Content(ids.content_id(content), extents)
    return Content(ids.extents_id((e.chunk_id, e.offset, e.length) for e in extents), extents)


def save_wal(
    repo: Repository,
    wal: WalMaker,
    start: int | None = None,
    end: int | None = None,
    *,
    source: str = "main",
    **given: Any,
) -> None:
    """Save WAL as one range."""
    first, last = wal.start if start is None else start, wal.end if end is None else end
    timeline = given.get("timeline", wal.timeline)
    archive = WalArchive(repo, source)
    archive.put(timeline, Lsn(first), wal.between(first, last), system_id=SYSTEM_ID, segment_bytes=SEGMENT)


def facts_at(start: int, end: int, **changes: Any) -> ClusterFacts:
    """Return the facts of a backup between two positions."""
    return replace(FACTS, start=Lsn(start), end=Lsn(end), **changes)


class SmallCluster:
    """A snapshot of a few files, and WAL over three segments behind it.

    Attributes:
        files: Path -> content, None for a folder.
        facts: Of the snapshot.
        wal: All of it is saved.
        last: Its last record, a commit.
    """

    def __init__(
        self,
        files: Mapping[bytes, bytes | None] | None = None,
        *,
        record: ClusterRecord | None = None,
        backend: Backend | None = None,
        repo: Repository | None = None,
        digests: bool = False,
        **facts: Any,
    ) -> None:
        self.repo = repo or make_repository(backend or MemoryBackend())
        self.wal = WalMaker()
        start = self.wal.filler().start
        self.wal.filler(3000)
        self.facts = facts_at(start, self.wal.filler().end, **facts)
        self.files = {**data_files(self.facts), **(files or {})}
        self.record = record or ClusterRecord("15.18", settings={"max_connections": "321", "wal_level": "replica"})
        self.keep(self.files, digests=digests)
        while self.wal.end < 3 * SEGMENT + 5000:
            self.wal.filler(30_000)
        self.last = self.wal.commit(1000, EPOCH_NS // 1000)
        save_wal(self.repo, self.wal)

    def keep(self, files: Mapping[bytes, bytes | None], **given: Any) -> None:
        """Commit a snapshot of other files; it is the newest from here on."""
        self.snapshot = keep_snapshot(self.repo, files, self.facts, record=self.record, **given)

    def plan(self, text: str = "latest", **given: Any) -> ClusterPlan:
        """Plan a restore."""
        return plan_cluster_restore(self.repo, "main", parse_target(text), **given)

    def restore(
        self,
        target: Path,
        text: str = "latest",
        *,
        stop: threading.Event | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> ClusterRestoreResult:
        """Restore it."""
        given = ClusterRestoreOptions(**{"workers": 2, "durable": False, **options})
        return restore_cluster(self.repo, self.plan(text), target, options=given, stop=stop, progress=progress)
