"""What a worker does: take a span of chunks, or a batch of entries without content, and put each in its place."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple

from coffer.backends.base import Backend
from coffer.errors import PermanentError
from coffer.repository.blocks import MODE, Extras, Row
from coffer.repository.reader import ChunkReader
from coffer.restore.fetch import Span, Wanted, read_span
from coffer.restore.files import FileWriter, LargeFile, Part, SmallFile, join
from coffer.restore.folders import Folder
from coffer.restore.nodes import NodeMaker

# What keeps one file from being restored, and no other: the store's damage, the system's refusal, and values that the
# system's interface does not take (OverflowError, ValueError), which only a hostile snapshot has.
PER_FILE = (PermanentError, OSError, OverflowError, ValueError)


class Plain(NamedTuple):
    """An entry without content: an empty file, a link, a fifo, a device."""

    folder: bytes
    name: bytes
    row: Row
    extras: Extras


class Placer:
    """One worker's hands.

    Args:
        writer: Its own.
        nodes: Its own.
        backend, reader: Where chunks come from.
        halted: Whether to stop between two chunks.
        finished: Called with each large file that is done with, whole or not.
    """

    def __init__(
        self,
        writer: FileWriter,
        nodes: NodeMaker,
        backend: Backend,
        reader: ChunkReader,
        halted: Callable[[], bool],
        finished: Callable[[LargeFile], None],
    ) -> None:
        self.writer, self.nodes = writer, nodes
        self._backend, self._reader = backend, reader
        self._halted, self._finished = halted, finished

    def take_span(self, span: Span) -> None:
        """Read chunks and write everything that needs them.

        Raises:
            TransientError: The store does not answer, or the target is full.
        """
        self.writer.tally.read_bytes += read_span(self._backend, self._reader, span, self._fill, self._lose)

    def take_plain(self, batch: Sequence[Plain]) -> None:
        """Make entries without content, in order."""
        holder = _Holder(self.writer)
        try:
            for plain in batch:
                try:
                    folder = holder.folder(plain.folder)
                    if stat.S_ISREG(plain.row[MODE]):
                        file = SmallFile(plain.folder, plain.name, plain.row, plain.extras[2], 0)
                        self.writer.write_small(folder, file, b"")
                    else:
                        self.nodes.make(folder, plain.name, plain.row, plain.extras)
                except PER_FILE as error:
                    self.writer.fail(join(plain.folder, plain.name), error)
        finally:
            holder.release()

    def _fill(self, wanted: Wanted, data: bytes) -> None:
        if self._halted():  # asked once per chunk: its files take a fraction of a second
            return
        holder = _Holder(self.writer)
        writer = self.writer
        try:
            for item in wanted.items:
                if isinstance(item, Part):
                    self._fill_part(item, data)
                    continue
                try:
                    writer.write_small(holder.folder(item.folder), item, data)
                except PER_FILE as error:
                    writer.fail(item.path, error)
        finally:
            holder.release()

    def _fill_part(self, part: Part, data: bytes) -> None:
        file = part.file
        try:
            if not file.failed:
                self.writer.write_part(part, data)
        except PER_FILE as error:
            self.give_up(file, error)
        self.let_go(file)

    def _lose(self, wanted: Wanted, error: PermanentError) -> None:
        for item in wanted.items:
            if isinstance(item, Part):
                self.give_up(item.file, error)
                self.let_go(item.file)
            else:
                self.writer.fail(item.path, error)

    def give_up(self, file: LargeFile, error: Exception) -> None:
        """Mark a large file as failed, and say why, once."""
        if file.give_up():
            self.writer.fail(file.path, error)

    def let_go(self, file: LargeFile) -> None:
        """Count a part of a large file as done with; the last one finishes the file."""
        if not file.let_go():
            return
        try:
            self.writer.finish_large(file)
        except PER_FILE as error:
            self.writer.fail(file.path, error)
        finally:
            self._finished(file)


class _Holder:
    """Keeps the folder of the last file open: neighbours share it."""

    __slots__ = ("_folders", "_held")

    def __init__(self, writer: FileWriter) -> None:
        self._folders = writer.folders
        self._held: Folder | None = None

    def folder(self, path: bytes) -> Folder:
        held = self._held
        if held is not None and held.path == path:
            return held
        self.release()
        self._held = held = self._folders.acquire(path)
        return held

    def release(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._folders.release(held)
