"""`coffer stats`: what is stored, and what was saved."""

from __future__ import annotations

from typing import Any

from coffer.cli.command import command
from coffer.cli.commands.snapshots import readable_snapshots
from coffer.cli.faults import EXIT_INCOMPLETE, EXIT_OK
from coffer.cli.outcome import Outcome
from coffer.cli.run import Run
from coffer.cli.text import table
from coffer.compression.codec import CODEC_RAW
from coffer.repository.pack import TYPE_DATA, TYPE_LIST, TYPE_ROOT, TYPE_SECTION
from coffer.repository.repository import Repository
from coffer.units import human_size

_TYPES = {
    TYPE_DATA: "data",
    TYPE_SECTION: "manifest_sections",
    TYPE_ROOT: "manifest_roots",
    TYPE_LIST: "chunk_lists",
}
_WORDS = {
    "data": "file content",
    "manifest_sections": "manifest sections",
    "manifest_roots": "manifest roots",
    "chunk_lists": "chunk lists",
}


@command("stats")
def show_stats(run: Run) -> Outcome:
    """Show how much is stored, and what deduplication and compression saved.

    Reads the index and the snapshots, no file content.
    """
    repo = run.repository()
    chunks = chunk_totals(repo)
    objects = object_totals(repo)
    found = readable_snapshots(run, repo)
    source_bytes = sum(snapshot.stats.get("size_bytes", 0) for snapshot in found)
    data = chunks["data"]
    stored_bytes = sum(totals["bytes"] for totals in objects.values())
    result: dict[str, Any] = {
        "snapshots": {"count": len(found), "size_bytes": source_bytes},
        **chunks,
        "objects": {**objects, "total": {"count": sum(o["count"] for o in objects.values()), "bytes": stored_bytes}},
        "ratios": {
            "deduplication": ratio(source_bytes, data["raw_bytes"]),
            "compression": ratio(data["raw_bytes"], data["stored_bytes"]),
            "total": ratio(source_bytes, stored_bytes),
        },
    }
    exit_code = EXIT_INCOMPLETE if run.warnings_count else EXIT_OK
    return Outcome(result=result, lines=_lines(result, chunks, objects), exit_code=exit_code)


COMMAND = show_stats


def chunk_totals(repo: Repository) -> dict[str, dict[str, int]]:
    """Return, by what a chunk holds, how many there are and their sizes before and after compression and sealing."""
    totals = repo.index().totals()
    result = {}
    for type_, word in _TYPES.items():
        chunks, raw_bytes, stored_bytes = totals.get(type_, (0, 0, 0))
        result[word] = {"chunks": chunks, "raw_bytes": raw_bytes, "stored_bytes": stored_bytes}
    result["data"]["raw_stored_bytes"] = repo.index().sealed_by_codec(TYPE_DATA).get(CODEC_RAW, 0)
    return result


def object_totals(repo: Repository) -> dict[str, dict[str, int]]:
    """Return, by the first level of their names, how many objects there are and their size."""
    result: dict[str, dict[str, int]] = {}
    for info in repo.backend.list(""):
        totals = result.setdefault(info.name.partition("/")[0], {"count": 0, "bytes": 0})
        totals["count"] += 1
        totals["bytes"] += info.size_bytes
    return result


def ratio(before: int, after: int) -> float | None:
    """Return how many times smaller it became, to three places, or None where there is nothing."""
    return round(before / after, 3) if before and after else None


def _lines(result: dict[str, Any], chunks: dict[str, Any], objects: dict[str, Any]) -> list[str]:
    def size(value: int) -> str:
        return human_size(value)

    chunk_rows = [
        (_WORDS[word], t["chunks"], size(t["raw_bytes"]), size(t["stored_bytes"]), _times(t["raw_bytes"], t))
        for word, t in chunks.items()
        if t["chunks"]
    ]
    object_rows = [(name, totals["count"], size(totals["bytes"])) for name, totals in objects.items()]
    total, ratios, snapshots = result["objects"]["total"], result["ratios"], result["snapshots"]
    words = {"deduplication": "deduplication", "compression": "compression", "total": "together, with all metadata"}
    return [
        *table(("chunks", "count", "size", "stored", ""), chunk_rows, "lrrrr"),
        "",
        *table(("objects", "count", "size"), [*object_rows, ("all", total["count"], size(total["bytes"]))], "lrr"),
        "",
        f"{snapshots['count']:,} snapshots of {size(snapshots['size_bytes'])} in all",
        *(f"{words[name]}: {value:g} times smaller" for name, value in ratios.items() if value is not None),
    ]


def _times(raw_bytes: int, totals: dict[str, int]) -> str:
    value = ratio(raw_bytes, totals["stored_bytes"])
    return f"{value:.2f}x" if value is not None else ""
