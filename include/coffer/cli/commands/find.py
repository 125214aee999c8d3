"""`coffer find`: in which snapshots a file is."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from coffer.cli.command import argument, command, flag, option
from coffer.cli.commands.snapshots import readable_snapshots, require_known
from coffer.cli.faults import EXIT_INCOMPLETE, EXIT_OK
from coffer.cli.listing import chosen_snapshot, entry_fields, entry_line
from coffer.cli.outcome import Outcome, Rows
from coffer.cli.run import Run
from coffer.cli.text import count_of, path_text
from coffer.errors import PermanentError, UsageError
from coffer.repository.blocks import Group
from coffer.repository.entries import Entry
from coffer.repository.manifest import BlockRef, ManifestReader
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot

Match = Callable[[Group, int], bool]


@command(
    "find",
    options=(
        argument("pattern", metavar="PATTERN"),
        argument("snapshots", metavar="[SNAPSHOT]...", many=True, required=False),
        option("--source", metavar="NAME", help="Only snapshots of this source."),
        flag("--ignore-case", "-i", help="Take capitals and small letters for the same."),
    ),
)
def find_files(run: Run, pattern: str, snapshots: tuple[str, ...], source: str | None, ignore_case: bool) -> Outcome:
    """Find files in snapshots by their name or path.

    PATTERN is a name, in which * stands for any characters, ? for one and [abc] for one of these. If it holds a slash
    it is compared with the whole path, and * stands for slashes too. Without SNAPSHOT all snapshots are searched,
    oldest first.
    """
    if snapshots and source:
        raise UsageError("SNAPSHOT and --source: both are given", hint="Give one of them.")
    repo = run.repository()
    matches = compile_pattern(pattern, ignore_case=ignore_case)
    chosen = [chosen_snapshot(run, repo, name) for name in snapshots] or readable_snapshots(run, repo, source)
    require_known(run, repo, source, chosen)
    search = _Search(run, repo, chosen, matches)
    outcome = Outcome(result={"pattern": path_text(pattern)}, rows=Rows("matches", search.run(), _fields, _line))

    def totals() -> tuple[dict[str, Any], list[str]]:
        outcome.exit_code = EXIT_INCOMPLETE if run.warnings_count else EXIT_OK
        facts = {"found": search.found, "snapshots": len(chosen)}
        return facts, [f"{count_of(search.found, 'match', 'matches')} in {count_of(len(chosen), 'snapshot')}"]

    outcome.totals = totals
    return outcome


COMMAND = find_files


def compile_pattern(pattern: str, *, ignore_case: bool) -> Match:
    """Return a function that says whether a row of a group matches."""
    flags = re.IGNORECASE if ignore_case else 0
    if "/" not in pattern:
        by_name = re.compile(fnmatch.translate(pattern), flags)
        return lambda group, at: by_name.match(os.fsdecode(group.names[at])) is not None
    by_path = re.compile(fnmatch.translate(pattern.strip("/")), flags)
    return lambda group, at: by_path.match(os.fsdecode(_path(group, at))) is not None


def _path(group: Group, at: int) -> bytes:
    return group.folder + b"/" + group.names[at] if group.folder else group.names[at]


class _Search:
    """Goes through snapshots; a block that several share and that holds no match is read once.

    What of a snapshot cannot be read is a warning with the snapshot's id; the rest of it, and the others, are searched.
    """

    def __init__(self, run: Run, repo: Repository, snapshots: list[Snapshot], matches: Match) -> None:
        self._run = run
        self._repo = repo
        self._snapshots = snapshots
        self._matches = matches
        self._barren: set[bytes] = set()  # names are in the stable section: one id of 32 bytes a block
        self.found = 0

    def run(self) -> Iterator[tuple[Snapshot, Entry]]:
        for snapshot in self._snapshots:
            try:
                manifest = self._repo.manifest(snapshot)
            except PermanentError as error:
                self._warn(snapshot, error)
                continue
            for block in manifest.root.blocks:
                if block.stable not in self._barren:
                    yield from self._block(snapshot, manifest, block)

    def _block(self, snapshot: Snapshot, manifest: ManifestReader, block: BlockRef) -> Iterator[tuple[Snapshot, Entry]]:
        try:
            groups = manifest.groups(block)
        except PermanentError as error:
            self._warn(snapshot, error)
            return
        before = self.found
        for group in groups:
            for at in range(len(group.names)):
                if self._matches(group, at):
                    self.found += 1
                    yield snapshot, group.entry(at)
        if self.found == before:
            self._barren.add(block.stable)

    def _warn(self, snapshot: Snapshot, error: PermanentError) -> None:
        self._run.warn(error.code, f"snapshot {snapshot.id}: not all of it was searched: {error}")


def _fields(match: tuple[Snapshot, Entry]) -> dict[str, Any]:
    snapshot, entry = match
    return {"snapshot_id": snapshot.id, "source": snapshot.source, **entry_fields(entry)}


def _line(match: tuple[Snapshot, Entry]) -> str:
    snapshot, entry = match
    return f"{snapshot.id} {entry_line(entry)}"
