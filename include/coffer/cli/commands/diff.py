"""`coffer diff`: what differs between two snapshots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from coffer.cli.command import argument, command, flag
from coffer.cli.comparing import ADDED, CHANGED, METADATA, REMOVED, Change, changes_between
from coffer.cli.listing import chosen_snapshot, entry_fields, snapshot_fields
from coffer.cli.outcome import Outcome, Rows
from coffer.cli.run import Run
from coffer.cli.text import path_fields, path_text

_SIGNS = {ADDED: "+", REMOVED: "-", CHANGED: "M", METADATA: "m"}


@command(
    "diff",
    options=(
        argument("old", metavar="OLD"),
        argument("new", metavar="NEW"),
        flag("--content-only", help="Leave out files of which only owner, mode, times or attributes changed."),
    ),
)
def compare_snapshots(run: Run, old: str, new: str, content_only: bool) -> Outcome:
    """Show what differs between two snapshots.

    A line each: + added, - removed, M content changed, m only owner, mode, times or attributes changed. No file content
    is read: files are compared by the ids of their contents.
    """
    repo = run.repository()
    before, after = chosen_snapshot(run, repo, old), chosen_snapshot(run, repo, new)
    counts: Counter[str] = Counter()

    def changes() -> Iterator[Change]:
        for change in changes_between(repo.manifest(before), repo.manifest(after)):
            if change.change != METADATA or not content_only:
                counts[change.change] += 1
                yield change

    def totals() -> tuple[dict[str, Any], list[str]]:
        by_kind = {kind: counts[kind] for kind in _SIGNS}
        return {"counts": by_kind}, [", ".join(f"{number:,} {kind}" for kind, number in by_kind.items())]

    result = {"old": snapshot_fields(before), "new": snapshot_fields(after)}
    return Outcome(result=result, rows=Rows("changes", changes(), _fields, _line), totals=totals)


COMMAND = compare_snapshots


def _fields(change: Change) -> dict[str, Any]:
    return {
        **path_fields(change.path),
        "change": change.change,
        "what": list(change.what),
        "old": None if change.old is None else entry_fields(change.old),
        "new": None if change.new is None else entry_fields(change.new),
    }


def _line(change: Change) -> str:
    what = f"  ({', '.join(change.what)})" if change.what else ""
    return f"{_SIGNS[change.change]} /{path_text(change.path)}{what}"
