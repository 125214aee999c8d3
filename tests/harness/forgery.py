"""A repository whose writer has the keys and means harm: snapshots that no backup takes, well signed."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Any

from coffer.ids import ChunkId, ContentId
from coffer.repository import lease
from coffer.repository.blocks import Group, Row, encode_content, encode_stable, encode_times
from coffer.repository.entries import Content, Extent
from coffer.repository.manifest import NO_FINGERPRINT, BlockRef, encode_root
from coffer.repository.pack import TYPE_DATA, TYPE_ROOT, TYPE_SECTION
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.repository.writer import ChunkWriter, PendingChunk
from tests.harness.repositories import make_snapshot

MTIME_NS = 1_700_000_000_123_456_789


def forged_row(mode: int = stat.S_IFREG | 0o644, size: int = 0, **fields: int) -> Row:
    """Return a stat row of a file of this user's; `fields` are uid, gid, ino, nlink, mtime."""
    values = {"uid": os.geteuid(), "gid": os.getegid(), "ino": 1, "dev": 1, "nlink": 1, "mtime": MTIME_NS} | fields
    owner = values["uid"], values["gid"]
    return (mode, *owner, size, values["ino"], values["dev"], values["nlink"], values["mtime"], 0)


class Forger:
    """Puts chunks and groups of its choice under a signed snapshot.

    Args:
        repo: The repository that is open for writing.
    """

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._writer = ChunkWriter(repo.backend, repo.keyring, repo.index(), workers=1)

    def chunk(self, data: bytes, type_: int = TYPE_DATA) -> ChunkId:
        """Store a chunk."""
        return self._writer.submit([data], len(data), type_).chunk_id

    def content(self, data: bytes) -> Content:
        """Store a file's content, honestly."""
        return Content(self._repo.keyring.ids.content_id(data), (Extent(self.chunk(data), 0, len(data)),))

    def folder(self, path: bytes, entries: Sequence[tuple[bytes, Any]]) -> Group:
        """Return a group.

        Args:
            path: Of the folder.
            entries: (name, what): bytes are a file's content, a str a link's target, an int a mode, a tuple
                (row, extras, content) is taken as it is.
        """
        group = Group(path, [], [])
        for at, (name, what) in enumerate(entries):
            row, extras, content = self._entry(what)
            group.names.append(name)
            group.rows.append(row)
            if extras is not None:
                group.extras[at] = extras
            if content is not None:
                group.contents[at] = content
        return group

    def _entry(self, what: Any) -> tuple[Row, Any, Content | None]:
        if isinstance(what, bytes):
            return forged_row(size=len(what)), None, self.content(what) if what else None
        if isinstance(what, str):
            return forged_row(stat.S_IFLNK | 0o777), (0, what.encode(), ()), None
        if isinstance(what, int):
            return forged_row(what), None, None
        return what

    def commit(self, *blocks: list[Group]) -> Snapshot:
        """Store the blocks, and sign and commit a snapshot of them."""
        repo, writer = self._repo, self._writer
        writer.flush_data()
        root = encode_root([self._block(groups) for groups in blocks])
        root_id = writer.submit([root], len(root), TYPE_ROOT).chunk_id
        writer.flush_meta()
        writer.close()
        taken = lease.acquire(repo.backend, repo.keyring, repo.keyring.ids.source_tag("forged"), repo.clock)
        draft = make_snapshot(repo.keyring, "forged", taken.sequence, manifest_root=root_id)
        return repo.commit(taken, draft)

    def _block(self, groups: list[Group]) -> BlockRef:
        def section(data: bytes) -> ChunkId:
            pending: PendingChunk = self._writer.submit([data], len(data), TYPE_SECTION)
            return pending.chunk_id

        content = encode_content(groups)
        return BlockRef(
            groups[0].folder,
            groups[0].names[0],
            sum(len(group.rows) for group in groups),
            0,
            NO_FINGERPRINT,
            section(encode_stable(groups)),
            section(encode_times(groups)),
            section(content) if content else None,
        )


def false_content(*extents: Extent) -> Content:
    """Return a content of any extents, under an id of nothing."""
    return Content(ContentId(bytes(16)), extents)
