"""Which chunks were found not to open, as little as that takes: a mark for each frame of a damaged pack."""

from __future__ import annotations

from collections.abc import Iterable

from coffer.ids import PackId
from coffer.repository.pack import ChunkLocation


class Damage:
    """Frames that do not open, by pack and position. Not thread-safe."""

    def __init__(self) -> None:
        self._marks: dict[PackId, bytearray | None] = {}  # a byte for each position; None: every frame

    def mark(self, pack_id: PackId, positions: Iterable[int] | None) -> None:
        """Mark frames of a pack; all of them where `positions` is None."""
        if positions is None:
            self._marks[pack_id] = None
            return
        for position in positions:
            marks = self._marks.setdefault(pack_id, bytearray())
            if marks is None:
                return
            marks.extend(bytes(max(0, position + 1 - len(marks))))
            marks[position] = 1

    def hits(self, where: ChunkLocation) -> bool:
        """Say whether a frame is marked."""
        if where.pack_id not in self._marks:
            return False
        marks = self._marks[where.pack_id]
        return marks is None or (where.position < len(marks) and marks[where.position] == 1)
