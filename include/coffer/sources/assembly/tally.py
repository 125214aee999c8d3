"""What a run has done so far, by kinds of files: for its snapshot and for whoever watches."""

from __future__ import annotations

import stat
from collections.abc import Sequence

from coffer.progress import Progress
from coffer.repository.blocks import MODE, SIZE, Group, Row


class Tally:
    """Counts of entries, and the size of the regular files among them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._counts = dict.fromkeys(("files_new", "files_changed", "files_unchanged", "directories", "others"), 0)
        self._size_bytes = 0

    def count(self, row: Row, which: str) -> None:
        """Count one entry; `which` says what a regular file is counted as."""
        mode = row[MODE]
        self._progress.files_done += 1
        if stat.S_ISREG(mode):
            self._counts[which] += 1
            self._size_bytes += row[SIZE]
        elif stat.S_ISDIR(mode):
            self._counts["directories"] += 1
        else:
            self._counts["others"] += 1

    def count_unchanged(self, groups: Sequence[Group], size_bytes: int) -> None:
        """Count a whole block that did not change."""
        files = directories = 0
        total = 0
        for group in groups:
            kinds = [row[MODE] & 0o170000 for row in group.rows]
            files += kinds.count(stat.S_IFREG)
            directories += kinds.count(stat.S_IFDIR)
            total += len(kinds)
        self._counts["files_unchanged"] += files
        self._counts["directories"] += directories
        self._counts["others"] += total - files - directories
        self._size_bytes += size_bytes
        self._progress.files_done += total
        self._progress.bytes_done += size_bytes

    def stats(self, *, files_same: int = 0) -> dict[str, int]:
        """Return the counts, and their sums; `files_same` of the changed files turned out to be unchanged."""
        counts = dict(self._counts)
        counts["files_changed"] -= files_same
        counts["files_unchanged"] += files_same
        files = counts["files_new"] + counts["files_changed"] + counts["files_unchanged"]
        entries = files + counts["directories"] + counts["others"]
        return {**counts, "files": files, "entries": entries, "size_bytes": self._size_bytes}
