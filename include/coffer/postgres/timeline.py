"""The history of a timeline: where it left which other one.

Source: PostgreSQL's `src/backend/access/transam/timeline.c` (versions 15 to 18 are alike). A line is the parent's
number, the LSN at which it was left, and a reason; `#` begins a comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import MAX_TIMELINE, Lsn

MAX_HISTORY_BYTES = 1 << 20  # 10,000 promotions; the server sends it in one message
_NAME = re.compile(r"([0-9A-F]{8})\.history")


@dataclass(frozen=True, slots=True)
class Switch:
    """A timeline that was left.

    Attributes:
        timeline: Its number.
        left_at: The first byte that the next timeline wrote itself.
        reason: The server's words; may be empty.
    """

    timeline: int
    left_at: Lsn
    reason: str


@dataclass(frozen=True, slots=True)
class History:
    """A timeline and its ancestors.

    Attributes:
        timeline: The youngest.
        switches: Its ancestors, oldest first; numbers and LSNs rise (an LSN may repeat: nothing was written between).
    """

    timeline: int
    switches: tuple[Switch, ...] = ()

    @classmethod
    def parse(cls, timeline: int, content: bytes) -> History:
        """Read a history file.

        Args:
            timeline: The one it is of.
            content: The file; empty for timeline 1, which has none.

        Raises:
            SourceFormatError: Too long, no text, a line of another form, or numbers that do not rise.
        """
        what = f"timeline history {history_name(timeline)}"
        if len(content) > MAX_HISTORY_BYTES:
            raise SourceFormatError(f"{what}: {len(content)} bytes, at most {MAX_HISTORY_BYTES} are read")
        switches: list[Switch] = []
        for number, line in enumerate(content.decode("utf-8", "replace").split("\n"), start=1):
            switch = _switch(line, f"{what}, line {number}")
            if switch is None:
                continue
            before = switches[-1] if switches else Switch(0, Lsn(0), "")
            if not before.timeline < switch.timeline < timeline or switch.left_at < before.left_at:
                raise SourceFormatError(f"{what}, line {number}: timelines and positions do not rise")
            switches.append(switch)
        if timeline > 1 and not switches:
            raise SourceFormatError(f"{what}: names no ancestor")
        return cls(timeline, tuple(switches))

    def end_of(self, timeline: int) -> Lsn | None:
        """Return where a timeline of this history was left; None for the youngest.

        Raises:
            SourceFormatError: It is no part of this history.
        """
        if timeline == self.timeline:
            return None
        for switch in self.switches:
            if switch.timeline == timeline:
                return switch.left_at
        raise SourceFormatError(f"timeline {timeline}: not in the history of timeline {self.timeline}")

    def timeline_at(self, lsn: Lsn) -> int:
        """Return which timeline of this history wrote the byte at a position."""
        for switch in self.switches:
            if lsn < switch.left_at:
                return switch.timeline
        return self.timeline

    def holds(self, timeline: int, lsn: Lsn) -> bool:
        """Say whether a cluster that was at `lsn` on `timeline` can go on along this history.

        The position where a timeline was left belongs to both sides.
        """
        if timeline == self.timeline:
            return not self.switches or lsn >= self.switches[-1].left_at
        begin = Lsn(0)
        for switch in self.switches:
            if switch.timeline == timeline:
                return begin <= lsn <= switch.left_at
            begin = switch.left_at
        return False


def history_name(timeline: int) -> str:
    """Return the name of a timeline's history file.

    Raises:
        SourceFormatError: No timeline has this number.
    """
    if not 1 <= timeline <= MAX_TIMELINE:
        raise SourceFormatError(f"timeline {timeline}: not from 1 to {MAX_TIMELINE}")
    return f"{timeline:08X}.history"


def parse_history_name(name: str) -> int | None:
    """Return the timeline whose history file has this name; None where it is another name."""
    found = _NAME.fullmatch(name)
    return int(found[1], 16) or None if found else None


def _switch(line: str, where: str) -> Switch | None:
    parts = line.split(None, 2)
    if not parts or parts[0].startswith("#"):
        return None
    if len(parts) < 2 or not re.fullmatch(r"[0-9]{1,10}", parts[0]):
        raise SourceFormatError(f"{where}: expected a timeline, a position and a reason")
    return Switch(int(parts[0]), Lsn.parse(parts[1]), parts[2].rstrip() if len(parts) > 2 else "")
