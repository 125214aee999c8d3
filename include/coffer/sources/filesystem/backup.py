"""Back up a source: walk, compare, read what changed, and commit one snapshot."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator

from coffer.chunking.cutter import Cutter
from coffer.errors import CofferError, InterruptedRunError, UsageError
from coffer.ids import ChunkId, ContentId
from coffer.progress import Progress
from coffer.repository import checkpoint
from coffer.repository.blocks import CTIME, DEV, INO, MODE, NLINK, SIZE, Extras, Group, Row
from coffer.repository.entries import path_key
from coffer.repository.manifest import NO_FINGERPRINT, ManifestReader
from coffer.repository.repository import Repository
from coffer.repository.snapshot import refuse_many_words
from coffer.sources.assembly.blockcut import cut_blocks, fingerprint
from coffer.sources.assembly.bundle import Bundler, Known
from coffer.sources.assembly.drafts import DraftBlock, ManifestDraft
from coffer.sources.assembly.extents import PendingContent
from coffer.sources.assembly.result import BackupResult, WarningLog
from coffer.sources.assembly.run import WriteOptions, WriteRun
from coffer.sources.assembly.tally import Tally
from coffer.sources.filesystem.content import ContentReader, Xattrs, read_special, read_xattrs
from coffer.sources.filesystem.filters import make_excludes
from coffer.sources.filesystem.folder import ListedFolder, OpenFolder, VanishedError
from coffer.sources.filesystem.ownrepository import refuse_own_repository
from coffer.sources.filesystem.parent import Found, Key, Parent
from coffer.sources.filesystem.spec import BackupOptions, FilesystemSource
from coffer.sources.filesystem.walk import Walk, make_row, resolve_paths

# A file changed this shortly before it was read may change again without its times telling: it is read again next time.
# 2 s is the coarsest time stamp of a file system in use (FAT; ext4 and XFS have some milliseconds).
_RACY_NS = 2_000_000_000
_TRIES = 3  # of reading what another file took the place of, while it was read
_CHECK_EVERY = 64  # new files between two looks at the clock
_MAX_HARD_LINKS = 100_000  # inodes remembered so that a file with many names is read once

_NO_EXTRAS: Extras = (0, b"", ())


class _StoppedError(Exception):
    """The run is to end early, with a checkpoint."""


def backup(
    repo: Repository,
    source: FilesystemSource,
    *,
    options: BackupOptions | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> BackupResult:
    """Take one snapshot of a source.

    Safe to repeat and to run beside other backups. On return the snapshot is committed: it and all it needs are
    durable. Unchanged files (same size, times and inode as in the newest snapshot) are not read.

    Args:
        repo: The repository.
        source: What to back up.
        options: How.
        progress: Counters to keep up to date.
        stop: Once set, the run checkpoints and ends.

    Raises:
        UsageError, SourceMissingError, SourceContainsRepositoryError: Before anything was stored.
        SourceReadError: A path of the source cannot be listed; what was stored before that is found by the next run.
        InterruptedRunError: `stop` was set, or the deadline came; a checkpoint was stored and the next run goes on
            there.
        BackendError, TransientError: The store failed; packs put so far are found by the next run.
        LeaseLostError: The writer was revoked; nothing was committed.
    """
    _require_text(source.name)
    paths = resolve_paths(source)
    refuse_many_words(source.name, (options and options.host) or "", tuple(map(os.fsdecode, paths)), source.tags)
    excludes = make_excludes(source.exclude, source.include)
    refuse_own_repository(repo, paths, source, filtered=excludes is not None)
    run = _Run(repo, source, paths, options or BackupOptions(), progress or Progress(), stop)
    walk = Walk(source, paths, excludes, run.warnings)
    try:
        return run.execute(walk)
    finally:
        run.close()


class _Run:
    """One backup: its state, and its steps in the order of time."""

    def __init__(
        self,
        repo: Repository,
        source: FilesystemSource,
        paths: tuple[bytes, ...],
        options: BackupOptions,
        progress: Progress,
        stop: threading.Event | None,
    ) -> None:
        self.repo, self.source, self.paths, self.options = repo, source, paths, options
        self.progress, self.stop = progress, stop
        self.warnings = WarningLog()
        ids = repo.keyring.ids
        self.run = WriteRun(repo, source.name)
        self.previous = self.run.previous
        self.parent = self._open_parent()
        opens = repo.reader().opens if options.force_read else None
        self.run.begin(WriteOptions(options.level, options.workers, options.pack_size_bytes, opens))
        writer = self.run.writer
        chunking = repo.settings.chunking
        self.bundler = Bundler(writer, chunking)
        self.reader = ContentReader(
            writer,
            self.bundler,
            ids,
            Cutter(chunking, ids.chunker_seed),
            chunking.bundle_below_bytes,
            progress,
            self._check_stop,
            self._known_elsewhere,
            self.warnings,
        )
        self.draft = ManifestDraft(writer, self.bundler)
        self.last_key: Key | None = None
        self._links: dict[tuple[int, int], tuple[PendingContent | None, int]] = {}
        self.tally = Tally(progress)
        self._until_check = _CHECK_EVERY

    def close(self) -> None:
        """Stop the workers and give the lease back."""
        self.run.close()

    def execute(self, walk: Walk) -> BackupResult:
        """Do it all; see `backup`."""
        self.progress.phase = "backing up"
        if self.previous is not None:
            self.progress.files_total = self.previous.stats.get("files", 0)
            self.progress.bytes_total = self.previous.stats.get("size_bytes", 0)
        try:
            for groups in cut_blocks(self._watched(walk)):
                self._take_block(groups)
                self.last_key = path_key(groups[-1].folder), groups[-1].names[-1]
        except _StoppedError as stopped:
            self._checkpoint()
            raise InterruptedRunError(f"backup of {self.source.name!r}: {stopped}", reason=str(stopped)) from None
        self.bundler.close()
        self.progress.phase = "committing"
        root = self.draft.finish(
            self.repo.index(), self.parent.manifest if self.parent else None, self.run.lease.sequence
        )
        return self._commit(root)

    # ----------------------------------------------------------------------------------------------- the walk

    def _watched(self, walk: Walk) -> Iterator[ListedFolder]:
        for group in walk.groups():
            self._check_stop()
            yield group

    def _check_stop(self) -> None:
        """Between two steps of a long run: keep the lease, and end where that was asked for."""
        self.run.keep_lease()
        if self.stop is not None and self.stop.is_set():
            raise _StoppedError("stopped by request")
        if self.options.deadline_s is not None and self.repo.clock.monotonic_s() >= self.options.deadline_s:
            raise _StoppedError("the time given to it is over")

    def _check_file(self) -> None:
        """Before each new file: as `_check_stop`, but the clock is asked now and then only."""
        self._until_check -= 1
        if self._until_check <= 0:
            self._until_check = _CHECK_EVERY
            self._check_stop()
        elif self.stop is not None and self.stop.is_set():
            raise _StoppedError("stopped by request")

    def _take_block(self, groups: list[ListedFolder]) -> None:
        self.progress.current = groups[0].folder
        print_ = fingerprint(groups)
        if self.parent is not None and not self._looks_closer:
            same = self.parent.same_block(groups, print_)
            if same is not None:
                self.draft.reuse(same)
                self.tally.count_unchanged(groups, same.size_bytes)
                return
        warned = self.warnings.total
        block = DraftBlock([], print_, [])
        changed_rows = False
        try:
            for group in groups:
                changed_rows |= self._take_group(block, group)
        except _StoppedError:
            self._take_part(block)
            raise
        if changed_rows or self.warnings.total != warned:
            block.fingerprint = NO_FINGERPRINT  # it is looked at entry by entry next time
        if block.groups:
            self.draft.add(block)

    def _take_part(self, block: DraftBlock) -> None:
        """Take what was finished of a block when the run was stopped, so that the next one need not read it."""
        if block.groups:
            block.fingerprint = NO_FINGERPRINT
            self.draft.add(block)
            self.last_key = path_key(block.groups[-1].folder), block.groups[-1].names[-1]

    @property
    def _looks_closer(self) -> bool:
        """Whether even blocks that did not change are looked at entry by entry."""
        assert self.parent is not None  # asked only then
        return self.options.force_read or self.run.store_is_damaged or bool(self.parent.manifest.root.sparse)

    def _take_group(self, block: DraftBlock, group: ListedFolder) -> bool:
        """Decide for every entry of a folder; return whether a row differs from what was walked."""
        old = self.parent.lookup(group) if self.parent is not None else {}
        racy_from_ns = self.repo.clock.now_ns() - _RACY_NS
        taken = Group(group.folder, [], [])
        folder = OpenFolder(group)
        try:
            for name, row in zip(group.names, group.rows, strict=True):
                found = old.get(name)
                if found is not None and found.row == row and self._may_copy(found):
                    self._copy(taken, name, found)
                else:
                    self._check_file()
                    self._try_new(block, taken, folder, name, row, found)
        finally:  # also where the run is stopped here: what was finished counts
            folder.close()
            taken.rows, racy = _mark_racy(taken.rows, racy_from_ns)
            if taken.names:
                block.groups.append(taken)
        return racy or taken.names != group.names or taken.rows != group.rows

    # ----------------------------------------------------------------------------------------------- one entry

    def _may_copy(self, found: Found) -> bool:
        """Whether an unchanged file's content can stay where it is."""
        if self.options.force_read and found.content is not None:
            return False
        content = found.content
        if content is None or self.parent is None:
            return True
        sparse = self.parent.manifest.root.sparse
        if sparse and content.extents[0].chunk_id in sparse:
            return False
        if not self.run.store_is_damaged:
            return True
        try:
            extents = list(self.parent.manifest.expand(content))
        except CofferError:
            return False
        return all(extent.chunk_id is None or extent.chunk_id in self.repo.index() for extent in extents)

    def _copy(self, taken: Group, name: bytes, found: Found) -> None:
        at = len(taken.names)
        row = found.row
        taken.names.append(name)
        taken.rows.append(row)
        extras = found.group.extras.get(found.at)
        if extras is not None:
            taken.extras[at] = extras
        if found.content is not None:
            taken.contents[at] = found.content
        self.tally.count(row, "files_unchanged")
        if stat.S_ISREG(row[MODE]):
            self.progress.bytes_done += row[SIZE]

    def _try_new(
        self, block: DraftBlock, taken: Group, folder: OpenFolder, name: bytes, row: Row, found: Found | None
    ) -> None:
        """Read one new or changed file; what cannot be read is a warning."""
        warned = self.warnings.total
        try:
            self._take_new(block, taken, folder, name, row, found)
        except (VanishedError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            if isinstance(error, VanishedError) and self._take_other(block, taken, folder, name, found):
                return
            self.warnings.add(folder.path_of(name), "vanished", f"vanished: {error.args[-1]}")
        except OSError as error:
            self.warnings.add(folder.path_of(name), "unreadable", f"unreadable: {error.strerror}")
        else:
            if self.warnings.total != warned:
                taken.rows[-1] = _without_ctime(taken.rows[-1])  # saved, but not as it should be: read again next time

    def _take_other(
        self, block: DraftBlock, taken: Group, folder: OpenFolder, name: bytes, found: Found | None
    ) -> bool:
        """Read the file that took the place of one that was listed, as by a rename: a whole file stood there always."""
        for _ in range(_TRIES):
            try:
                row = make_row(os.lstat(name, dir_fd=folder.fd))
                if stat.S_ISDIR(row[MODE]):
                    return False  # what is in it was not listed
                self._take_new(block, taken, folder, name, row, found)
            except VanishedError:
                continue
            except OSError:
                return False
            taken.rows[-1] = _without_ctime(taken.rows[-1])
            return True
        return False

    def _take_new(
        self, block: DraftBlock, taken: Group, folder: OpenFolder, name: bytes, row: Row, found: Found | None
    ) -> None:
        """Read one new or changed file of any kind into `taken`."""
        mode = row[MODE]
        content: PendingContent | None = None
        if stat.S_ISREG(mode):
            content, row, xattrs = self._read_file(folder, name, row, found)
            extras = (0, b"", xattrs) if xattrs else _NO_EXTRAS
        else:
            device, target = read_special(folder.fd, name, mode)
            path = folder.path_of(name)
            extras = (device, target, read_xattrs(path, path, self.warnings))
        at = len(taken.names)
        taken.names.append(name)
        taken.rows.append(row)
        if extras != _NO_EXTRAS:
            taken.extras[at] = extras
        if content is not None:
            block.pending.append((taken, at, content))
        if found is not None and stat.S_ISREG(mode) and _only_reread(row, extras, found):
            block.read_again.append((taken, at, None if found.content is None else found.content.content_id))
        self.tally.count(row, "files_new" if found is None else "files_changed")

    def _read_file(
        self, folder: OpenFolder, name: bytes, row: Row, found: Found | None
    ) -> tuple[PendingContent | None, Row, Xattrs]:
        inode = row[INO], row[DEV]
        if row[NLINK] > 1 and inode in self._links and self._links[inode][1] == row[CTIME]:
            # The other name of a file read a moment ago: same inode, same ctime, same content.
            content = self._links[inode][0]
            self.progress.bytes_done += row[SIZE]
            path = folder.path_of(name)
            return content, row, read_xattrs(path, path, self.warnings)
        before_bytes = self.progress.bytes_done
        content, row, changed, xattrs = self.reader.read(folder, name, row, found)
        self.progress.bytes_done = before_bytes + row[SIZE]
        if changed:
            text = "changed while it was read: saved as it was found, may be mixed"
            self.warnings.add(folder.path_of(name), "changed", text)
        elif row[NLINK] > 1 and len(self._links) < _MAX_HARD_LINKS:
            self._links[inode] = content, row[CTIME]
        return content, row, xattrs

    def _known_elsewhere(self, content_id: ContentId, found: Found | None) -> tuple[Known, int] | None:
        """Return where the parent has a small file's content: a touched file keeps its place, a moved one is found."""
        if self.parent is None or self.options.force_read:
            return None
        if found is None:
            place = self.parent.find_content(content_id)
        else:
            content = found.content
            if content is None or content.content_id != content_id or len(content.extents) != 1:
                return None
            extent = content.extents[0]
            place = None if extent.chunk_id is None else (extent.chunk_id, extent.offset)
        if place is None or place[0] in self.parent.manifest.root.sparse or place[0] not in self.repo.index():
            return None
        return Known(place[0]), place[1]

    # ----------------------------------------------------------------------------------------------- parent and end

    def _open_parent(self) -> Parent | None:
        """Open the newest checkpoint or snapshot of the source, whichever began later."""
        found = checkpoint.newest(self.repo.backend, self.repo.keyring, self.run.tag)
        roots: list[ChunkId] = []
        if found is not None and (self.previous is None or found.started_ns > self.previous.started_ns):
            roots.append(found.manifest_root)
        if self.previous is not None:
            roots.append(ChunkId(self.previous.manifest_root))
        for root in roots:
            try:
                return Parent(ManifestReader(self.repo.reader(), root), self.repo.index().__contains__)
            except CofferError:
                continue  # damaged: read everything again; `check` names the damage
        return None

    def _checkpoint(self) -> None:
        """Store how far the run came: its own blocks, then the parent's for the rest."""
        self.progress.phase = "checkpointing"
        self.bundler.close()
        if self.parent is not None:
            key: Key = self.last_key if self.last_key is not None else ([], b"")
            rest, blocks = self.parent.tail_after(key)
            if rest:
                self.draft.add(DraftBlock(rest, NO_FINGERPRINT, []))
            for block in blocks:
                self.draft.reuse(block)
        elif self.last_key is None:
            return
        root = self.draft.finish(self.repo.index(), None, self.run.lease.sequence)
        checkpoint.put(self.repo.backend, self.repo.keyring, self.run.tag, self.run.started_ns, root)

    def _commit(self, root: ChunkId) -> BackupResult:
        committed, concerns = self.run.commit(
            root,
            stats={**self.tally.stats(files_same=self.draft.files_same), "read_bytes": self.reader.read_bytes},
            paths=tuple(os.fsdecode(path) for path in self.paths),
            tags=self.source.tags,
            host=self.options.host,
            warnings_count=self.warnings.total,
            parent=self.previous,
        )
        return BackupResult(committed, committed.stats, tuple(self.warnings.kept), concerns)


def _mark_racy(rows: list[Row], from_ns: int) -> tuple[list[Row], bool]:
    """Set ctime to 0 where a file changed just before it was read; return whether there was any."""
    if not rows or max(row[CTIME] for row in rows) < from_ns:
        return rows, False
    marked = [_without_ctime(row) if row[CTIME] >= from_ns and stat.S_ISREG(row[MODE]) else row for row in rows]
    return marked, marked != rows


def _without_ctime(row: Row) -> Row:
    mode, uid, gid, size, ino, dev, nlink, mtime, _ = row
    return mode, uid, gid, size, ino, dev, nlink, mtime, 0


def _only_reread(row: Row, extras: Extras, found: Found) -> bool:
    """Say whether the parent's row leaves out the ctime and all else of it is as before: the content decides."""
    old_extras = found.group.extras.get(found.at, _NO_EXTRAS)
    return found.row[CTIME] == 0 and found.row == _without_ctime(row) and old_extras == extras


def _require_text(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:  # an argument of the command line that was not UTF-8
        raise UsageError(f"source name {name!r}: not text in UTF-8") from None
