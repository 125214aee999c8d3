"""The file `backup_label`: where the recovery of a base backup begins.

Source: PostgreSQL's `src/backend/access/transam/xlogbackup.c` (`build_backup_content`), versions 15 to 18. The server
reads the lines in this order and no other (`read_backup_label` in xlogrecovery.c).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import MAX_TIMELINE, Lsn

MAX_LABEL_BYTES = 64 << 10  # the label of the user has at most 1,024
_START = re.compile(r"(\S+) \(file ([0-9A-F]{24})\)")
_ORDER = (
    "START WAL LOCATION",
    "CHECKPOINT LOCATION",
    "BACKUP METHOD",
    "BACKUP FROM",
    "START TIME",
    "LABEL",
    "START TIMELINE",
)
_INCREMENTAL = ("INCREMENTAL FROM LSN", "INCREMENTAL FROM TLI")  # from 17 on; a server refuses to start with them


@dataclass(frozen=True, slots=True)
class BackupLabel:
    """What a backup_label says.

    Attributes:
        start: Where replay begins (the redo position).
        segment: Name of the segment that holds it.
        checkpoint: Position of the checkpoint's record.
        method: "streamed".
        taken_from: "primary" or "standby".
        start_time: As the server writes it, in its log's time zone.
        label: The user's words.
        timeline: On which the backup began.
        incremental_from: Position of the backup that this one holds the changes to; None for a whole one.
    """

    start: Lsn
    segment: str
    checkpoint: Lsn
    method: str
    taken_from: str
    start_time: str
    label: str
    timeline: int
    incremental_from: Lsn | None = None

    @classmethod
    def parse(cls, content: bytes) -> BackupLabel:
        """Read the file.

        Raises:
            SourceFormatError: Too long, a line of another form, or one is missing.
        """
        if len(content) > MAX_LABEL_BYTES:
            raise SourceFormatError(f"backup_label: {len(content)} bytes, at most {MAX_LABEL_BYTES} are read")
        fields = _fields(content)
        start = _START.fullmatch(fields["START WAL LOCATION"])
        timeline = fields["START TIMELINE"]
        if start is None or not timeline.isdecimal() or not 1 <= int(timeline) <= MAX_TIMELINE:
            raise SourceFormatError("backup_label: no start of the WAL, or no timeline")
        incremental = fields.get(_INCREMENTAL[0])
        return cls(
            start=Lsn.parse(start[1]),
            segment=start[2],
            checkpoint=Lsn.parse(fields["CHECKPOINT LOCATION"]),
            method=fields["BACKUP METHOD"],
            taken_from=fields["BACKUP FROM"],
            start_time=fields["START TIME"],
            label=fields["LABEL"],
            timeline=int(timeline),
            incremental_from=None if incremental is None else Lsn.parse(incremental),
        )

    def render(self) -> bytes:
        """Return the file for a data folder that is whole: what says "incremental" is left out."""
        values = (
            f"{self.start} (file {self.segment})",
            self.checkpoint,
            self.method,
            self.taken_from,
            self.start_time,
            self.label,
            self.timeline,
        )
        lines = [f"{name}: {value}\n" for name, value in zip(_ORDER, values, strict=True)]
        return "".join(lines).encode("utf-8", "surrogateescape")


def _fields(content: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in content.decode("utf-8", "surrogateescape").splitlines():
        name, colon, value = line.partition(": ")
        if not colon and line.endswith(":"):  # an empty label
            name, value = line[:-1], ""
        if name in fields or name not in (*_ORDER, *_INCREMENTAL):
            raise SourceFormatError(f"backup_label: line {line[:60]!r} is not known, or comes twice")
        fields[name] = value
    missing = [name for name in _ORDER if name not in fields]
    if missing:
        raise SourceFormatError(f"backup_label: has no line {missing[0]!r}")
    return fields
