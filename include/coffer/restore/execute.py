"""Carry a restore out: one thread reads the manifest and makes folders, workers read chunks and write files."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from coffer.errors import InterruptedRunError, PermanentError, RestoreSpaceError, RestoreUnsafePathError
from coffer.progress import Progress
from coffer.repository.blocks import MODE, NLINK, NO_EXTRAS, Extras, Group, Row
from coffer.repository.entries import Content
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot
from coffer.restore.attributes import Attributes
from coffer.restore.decision import Powers
from coffer.restore.durability import flush_file_systems
from coffer.restore.fetch import Span, Window
from coffer.restore.files import FileWriter, LargeFile, Part, SmallFile, join
from coffer.restore.folders import Folder, Folders, all_safe, require_safe_folder, unsafe_name
from coffer.restore.ledger import Ledger, WaitingLink
from coffer.restore.links import Linker
from coffer.restore.nodes import NodeMaker
from coffer.restore.pagecache import make_room
from coffer.restore.placing import PER_FILE, Placer, Plain
from coffer.restore.plan import summarise
from coffer.restore.readback import ReadBack, Restored
from coffer.restore.selection import Selection
from coffer.restore.spec import IssueLog, RestoreOptions, RestoreResult
from coffer.restore.spreading import Spreading
from coffer.restore.target import Target
from coffer.restore.tree import Tree
from coffer.restore.workers import Workers, worker_count

_LARGE_FILES = 64  # open at a time: descriptors, beside those of folders
_PLAIN_BATCH = 512  # entries without content in one job
_VERIFY_BATCH = 512  # entries in one job, or more where a folder has more
_WAIT_S = 0.2  # between two looks whether the run has ended, while waiting for a large file to be done [s]


def restore(
    repo: Repository,
    snapshot: Snapshot,
    target: Path,
    *,
    options: RestoreOptions | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> RestoreResult:
    """Write what a snapshot holds below a folder: a file ``/srv/a`` lands at ``TARGET/srv/a``.

    Nothing outside the target is written or followed, whatever the snapshot says (I11). Damage costs the files that
    need what is damaged, and nothing else: they are the result's failures. A file is there whole or not at all.
    Durability: see `RestoreOptions.durable`; the repository is not changed, so a restore can always be run again.

    Safe to repeat: with `Overwrite.CHANGED`, what is there already is passed over. A run that is killed leaves folders
    of mode 0700, and up to one unfinished file per worker (mode 0600, and a time that is not the snapshot's).

    Args:
        repo: The repository.
        snapshot: What to restore.
        target: Where to; made if it does not exist.
        options: What of it, and how.
        progress: Counters to keep up to date.
        stop: Once set, the run ends after the files at hand.

    Raises:
        PathNotInSnapshotError, UsageError, RestoreTargetError: Before anything was written; but where no entry fits
            the include patterns, the target folder was made.
        ObjectCorruptError, ChunkMissingError: The manifest's root is damaged; nothing was written.
        InterruptedRunError: `stop` was set; finished files are whole.
        RestoreSpaceError: The target is full, or the system's temporary folder; finished files are whole.
        BackendUnavailableError: The store does not answer; finished files are whole.
        RestoreError: A disk of the target reported an error when everything was flushed.
    """
    options = options or RestoreOptions()
    progress = progress or Progress()
    selection = Selection(repo.manifest(snapshot), snapshot, options)
    place = Target(repo, target, options.overwrite)
    if options.dry_run:
        return summarise(snapshot, selection, place, options)
    progress.phase = "restoring"
    if selection.is_whole:
        progress.files_total = snapshot.stats.get("files", 0)
        progress.bytes_total = snapshot.stats.get("size_bytes", 0)
    run = _Run(repo, snapshot, selection, place, options, progress, stop or threading.Event())
    try:
        with run.spreading:
            return run.execute()
    except sqlite3.Error as error:
        raise RestoreSpaceError(f"temporary folder: the run's notes cannot be kept there ({error})") from None
    finally:
        run.close()


class _Run:
    """One restore: its state, and its steps in the order of time."""

    def __init__(
        self,
        repo: Repository,
        snapshot: Snapshot,
        selection: Selection,
        place: Target,
        options: RestoreOptions,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self.repo, self.snapshot, self.selection, self.place = repo, snapshot, selection, place
        self.options, self.progress, self.stop = options, progress, stop
        self.failures, self.warnings = IssueLog(), IssueLog()
        self.powers = Powers.of_process()
        self.ledger = Ledger()
        root_fd = place.open(create=True)
        assert root_fd is not None  # asked to make it
        self.folders = Folders(root_fd, self._is_fresh, forbidden=place.forbidden)
        # A target with something in it is somebody's already: its flags are not ours to change.
        self.spreading: AbstractContextManager[object] = Spreading(root_fd) if place.is_empty else nullcontext()
        self.attributes = Attributes(self.powers, self.warnings)
        self._large: set[LargeFile] = set()
        self._large_slots = threading.BoundedSemaphore(_LARGE_FILES)
        self.own = self._placer()
        self.writer = self.own.writer
        self.tree = Tree(
            self.folders,
            self.ledger,
            self.attributes,
            self.powers,
            options.overwrite,
            self.warnings,
            self.writer.tally,
        )
        self.workers = Workers([self._placer() for _ in range(worker_count(options.workers))], stop)
        self.window = Window(repo.reader(), self._submit_span, lambda: self.workers.hungry)
        self._plain: list[Plain] = []

    def _placer(self) -> Placer:
        writer = FileWriter(
            self.folders, self.attributes, self.ledger, self.failures, self.powers, self.options.overwrite
        )
        nodes = NodeMaker(writer, self.warnings)
        return Placer(writer, nodes, self.repo.backend, self.repo.reader(), lambda: self.workers.halted, self._finished)

    def close(self) -> None:
        """Stop the threads and close what is open."""
        self.workers.close()
        self.folders.close()
        self.ledger.close()

    def _is_fresh(self, path: bytes) -> bool:
        return self.ledger.made(path) if path else self.place.is_empty

    def execute(self) -> RestoreResult:
        """Do it all; see `restore`."""
        try:
            for ordinal in self.selection.ordinals:
                self._take_block(ordinal)
            self.selection.require_match()
            self._drain()
            self._make_links()
        except BaseException:
            self._end_early()
            raise
        self.tree.finish()
        if self.options.durable or self.options.verify:
            self.progress.phase = "flushing"
            flush_file_systems(self.folders)
        if self.options.verify:
            self._verify()
        return self._result()

    def _end_early(self) -> None:
        """Remove what is unfinished, and leave the rest as usable as it can be."""
        self.workers.close()
        for file in self._large:
            self.writer.abandon(file)
        self.tree.finish()

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise InterruptedRunError(
                f"restore of snapshot {self.snapshot.id}: stopped by request",
                hint="Run the same restore again with --overwrite changed: finished files are passed over.",
            )

    # ----------------------------------------------------------------------------------------------- the manifest

    def _take_block(self, ordinal: int) -> None:
        self._check_stop()
        try:
            groups = self.selection.groups(ordinal)
        except PermanentError as error:
            block = self.selection.manifest.root.blocks[ordinal]
            lost = f"{block.entry_count} entries from here on cannot be read: {error}"
            self.failures.add(join(block.folder, block.name), error.code, lost, block.entry_count)
            return
        for number, group in enumerate(groups):
            self._check_stop()
            self._take_group(ordinal, number, group)
            self.progress.current = group.folder
            self._report()

    def _take_group(self, ordinal: int, number: int, group: Group) -> None:
        picked = self.selection.pick(group)
        if not picked.rows and not picked.above:
            return
        try:
            require_safe_folder(group.folder)
            for at in picked.above:
                if not unsafe_name(group.names[at]):
                    extras = group.extras.get(at, NO_EXTRAS)
                    self.tree.note(group.folder, group.names[at], group.rows[at], extras)
            if not picked.rows:
                return
            folder = self.tree.enter(group.folder)
        except PER_FILE as error:
            for at in picked.rows:
                self.writer.fail(join(group.folder, group.names[at]), error)
            return
        safe = all_safe(group.names)
        try:
            for at in picked.rows:
                if safe or not self._is_unsafe(group, at):
                    self._take_entry(folder, group, at, (ordinal, number, at))
        finally:
            self.folders.release(folder)

    def _take_entry(self, folder: Folder, group: Group, at: int, where: tuple[int, int, int]) -> None:
        name, row = group.names[at], group.rows[at]
        try:
            if stat.S_ISDIR(row[MODE]):
                self.tree.take(folder, name, row, group.extras.get(at, NO_EXTRAS))
            elif row[NLINK] == 1 or not self._waits(group, at, where):
                self._add(folder, group, at)
        except PER_FILE as error:
            self.writer.fail(join(group.folder, name), error)

    def _is_unsafe(self, group: Group, at: int) -> bool:
        name = group.names[at]
        if not unsafe_name(name):
            return False
        error = RestoreUnsafePathError(f"name {os.fsdecode(name)!r}: not the name of one entry")
        self.writer.fail(join(group.folder, name), error)
        return True

    def _waits(self, group: Group, at: int, where: tuple[int, int, int]) -> bool:
        """Say whether an entry is a further name of a file; it is linked when that file is there."""
        path = join(group.folder, group.names[at])
        content = group.contents.get(at)
        rdev, link_target, _ = group.extras.get(at, NO_EXTRAS)
        what = content.content_id if content is not None else b"%d/%b" % (rdev, link_target)
        first = self.ledger.first_path(group.rows[at], what, path)
        if first == path:
            return False
        self.ledger.let_wait(WaitingLink(path, first, *where))
        return True

    def _add(self, folder: Folder, group: Group, at: int) -> None:
        """Queue one entry that is no folder."""
        name, row = group.names[at], group.rows[at]
        extras = group.extras.get(at, NO_EXTRAS)
        content = group.contents.get(at)
        if content is None:
            self._plain.append(Plain(group.folder, name, row, extras))
            if len(self._plain) >= _PLAIN_BATCH:
                self._flush_plain()
            return
        chunk_id, offset, _, indirect = content.extents[0]
        if len(content.extents) == 1 and chunk_id is not None and not indirect:
            self.window.add(chunk_id, SmallFile(group.folder, name, row, extras[2], offset))
        else:
            self._add_large(folder, name, row, extras, content)

    def _add_large(self, folder: Folder, name: bytes, row: Row, extras: Extras, content: Content) -> None:
        self._take_slot()
        try:
            file = self.writer.open_large(folder, name, row, extras[2])
        except BaseException:
            self._large_slots.release()
            raise
        if file is None:
            self._large_slots.release()
            return
        self._large.add(file)
        at = 0
        try:
            for chunk_id, offset, length, _ in self.selection.manifest.expand(content):
                if file.failed or self.workers.halted:
                    break
                if chunk_id is not None:
                    make_room(file.fd, at, length, file.flags)
                    file.hold()
                    try:
                        self.window.add(chunk_id, Part(file, at, offset, length))
                    except PermanentError:
                        file.let_go()
                        raise
                at += length
        except PermanentError as error:
            self.own.give_up(file, error)
        if not self.workers.halted:
            self.own.let_go(file)

    def _take_slot(self) -> None:
        if self._large_slots.acquire(blocking=False):
            return
        self.window.drain()  # the files that are open wait for chunks in it
        while not self._large_slots.acquire(timeout=_WAIT_S):
            self.workers.raise_error()
            self._check_stop()

    def _finished(self, file: LargeFile) -> None:
        self._large.discard(file)
        self._large_slots.release()

    # ----------------------------------------------------------------------------------------------- the queue

    def _submit_span(self, span: Span) -> None:
        self.workers.submit(lambda placer: placer.take_span(span))
        self._report()

    def _flush_plain(self) -> None:
        batch, self._plain = self._plain, []
        if batch:
            self.workers.submit(lambda placer: placer.take_plain(batch))

    def _make_links(self) -> None:
        linker = Linker(
            self.selection, self.ledger, self.folders, self.own, self.warnings, self.options.overwrite, self._add
        )
        for round_ in (linker.link_or_replace, linker.link_the_rest):
            for _ in round_():
                self._check_stop()
            self._drain()

    def _drain(self) -> None:
        self.window.drain()
        self._flush_plain()
        self.workers.drain(self._report)
        self._check_stop()

    # ----------------------------------------------------------------------------------------------- the end

    def _verify(self) -> None:
        """Read back every entry that was restored or found right; failures and what was kept unseen are passed over."""
        self.progress.phase = "verifying"
        ids, manifest = self.repo.keyring.ids, self.selection.manifest
        read_back = ReadBack(
            self.folders, manifest, self.repo.reader(), ids, self.attributes, self.powers, self.failures
        )
        batch: list[Restored] = []
        for ordinal in self.selection.ordinals:
            for group in self._groups_again(ordinal):
                self._check_stop()
                for at in self.selection.pick(group).rows:
                    if not self.ledger.passed_over(join(group.folder, group.names[at])):
                        extras = group.extras.get(at, NO_EXTRAS)
                        row = Restored(group.folder, group.names[at], group.rows[at], extras, group.contents.get(at))
                        batch.append(row)
                if len(batch) >= _VERIFY_BATCH:
                    self._submit_check(read_back, batch)
                    batch = []
        self._submit_check(read_back, batch)
        self.workers.drain(self._report)
        self._check_stop()

    def _groups_again(self, ordinal: int) -> list[Group]:
        try:
            return self.selection.groups(ordinal)
        except PermanentError:
            return []  # named as a failure when it was to be restored

    def _submit_check(self, read_back: ReadBack, batch: list[Restored]) -> None:
        def check(placer: Placer) -> None:
            for entry in batch:
                if self.workers.halted:
                    return
                placer.writer.tally.verified_files += read_back.check(entry)

        self.workers.submit(check)

    def _report(self) -> None:
        tallies = [state.writer.tally for state in self.workers.states]
        progress = self.progress
        progress.files_done = sum(tally.files + tally.kept for tally in tallies)
        progress.bytes_done = progress.bytes_stored = sum(tally.written_bytes for tally in tallies)

    def _result(self) -> RestoreResult:
        stats = self.writer.tally.stats(*(state.writer.tally for state in self.workers.states))
        return RestoreResult(
            self.snapshot,
            self.place.path,
            dry_run=False,
            stats=stats,
            failures=tuple(self.failures.kept),
            failures_count=self.failures.total,
            warnings=tuple(self.warnings.kept),
            warnings_count=self.warnings.total,
        )
