"""`coffer wal list`: which stretches of the log are saved, since when, and what is missing between them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from coffer.cli.command import command, option
from coffer.cli.faults import EXIT_INCOMPLETE, EXIT_OK
from coffer.cli.outcome import Outcome
from coffer.cli.run import Run
from coffer.cli.text import count_of, table, time_iso, time_text
from coffer.errors import BackendError, CryptoError, RepositoryError, SnapshotNotFoundError
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_coverage import Span, WalCoverage
from coffer.postgres.wal_object import WalRangeRef
from coffer.units import human_size

_HEAD = ("timeline", "from", "to", "WAL", "stored", "objects", "saved from (UTC)", "to (UTC)")


@command(
    "list",
    parent="wal",
    options=(option("--source", metavar="NAME", required=True, help="A database of the policy; else the source."),),
)
def list_wal(run: Run, source: str) -> Outcome:
    """List which WAL of a source is saved.

    Ranges that meet are one line; what is missing between two is a line of its own. Times are those at which the first
    and the last range were saved.
    """
    from coffer.cli.clusters import source_of_cluster

    repo = run.repository()
    archive = WalArchive(repo, source_of_cluster(run, source, repo))
    ranges = archive.ranges()
    histories = archive.histories()
    if not ranges and not histories:
        raise SnapshotNotFoundError(f"source {source!r}: has no WAL", hint="'coffer snapshots' lists the sources.")
    timelines = [
        _timeline_fields(run, archive, timeline, [ref for ref in ranges if ref.timeline == timeline], histories)
        for timeline in sorted({ref.timeline for ref in ranges} | set(histories))
    ]
    result: dict[str, Any] = {"source": archive.source, "timelines": timelines}
    lines = table(_HEAD, [row for fields in timelines for row in _rows(fields)], "rllrrrll")
    gaps = sum(len(fields["gaps"]) for fields in timelines)
    lines.append(f"{count_of(len(ranges), 'object')}, {count_of(gaps, 'gap')}")
    return Outcome(result=result, lines=lines, exit_code=EXIT_INCOMPLETE if run.warnings_count else EXIT_OK)


def _timeline_fields(
    run: Run, archive: WalArchive, timeline: int, ranges: list[WalRangeRef], histories: list[int]
) -> dict[str, Any]:
    spans = WalCoverage(ranges).spans(timeline)
    return {
        "timeline": timeline,
        "has_history": timeline in histories,
        "spans": [_span_fields(run, archive, span, ranges) for span in spans],
        "gaps": [
            {"start": str(before[1]), "end": str(after[0]), "wal_bytes": after[0] - before[1]}
            for before, after in pairwise(spans)
        ],
    }


def _span_fields(run: Run, archive: WalArchive, span: Span, ranges: list[WalRangeRef]) -> dict[str, Any]:
    inside = [ref for ref in ranges if span[0] <= ref.start < span[1]]
    first, last = inside[0], max(inside, key=lambda ref: ref.end)
    return {
        "start": str(span[0]),
        "end": str(span[1]),
        "wal_bytes": span[1] - span[0],
        "stored_bytes": sum(ref.size_bytes for ref in inside),
        "objects": len(inside),
        "first_saved_ns": _saved_ns(run, archive, first),
        "last_saved_ns": _saved_ns(run, archive, last),
    }


def _saved_ns(run: Run, archive: WalArchive, ref: WalRangeRef) -> int | None:
    try:
        return archive.head(ref).saved_ns
    except (RepositoryError, CryptoError, BackendError) as error:
        run.warn(error.code, error.message)
        return None


def _rows(fields: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the lines of one timeline, and turn its times into texts."""
    rows: list[tuple[Any, ...]] = []
    timeline = str(fields["timeline"])
    for span, gap in zip(fields["spans"], [*fields["gaps"], None], strict=False):
        times = [span.pop(f"{which}_saved_ns") for which in ("first", "last")]
        for which, time_ns in zip(("first", "last"), times, strict=True):
            span[f"{which}_saved"] = None if time_ns is None else time_iso(time_ns)
        shown = ["?" if time_ns is None else time_text(time_ns) for time_ns in times]
        sizes = human_size(span["wal_bytes"]), human_size(span["stored_bytes"])
        rows.append((timeline, span["start"], span["end"], *sizes, span["objects"], *shown))
        if gap is not None:
            rows.append((timeline, gap["start"], gap["end"], human_size(gap["wal_bytes"]), "missing", "", "", ""))
    return rows
