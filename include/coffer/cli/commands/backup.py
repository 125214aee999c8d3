"""`coffer backup`: files and folders, as one snapshot."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coffer.cli.backing_up import tuned_by_policy, warn_of
from coffer.cli.command import argument, command, flag, option
from coffer.cli.display import Display
from coffer.cli.listing import snapshot_fields
from coffer.cli.outcome import Outcome
from coffer.cli.quantities import DURATION, RATE, seconds_until
from coffer.cli.run import Run
from coffer.cli.text import count_of, escape
from coffer.clock import SYSTEM_CLOCK
from coffer.errors import UsageError
from coffer.progress import Progress
from coffer.sources.filesystem import BackupOptions, BackupResult, FilesystemSource, backup
from coffer.units import human_duration, human_rate, human_size

if TYPE_CHECKING:
    from coffer.config.policy import Policy

_DERIVED_PATHS_MAX = 4  # of more paths nobody would type the name; they often come from a shell's *, and change


@command(
    "backup",
    moves_data=True,
    options=(
        argument("paths", metavar="[PATHS]...", many=True, required=False),
        option("--source", metavar="NAME", help="Name of the chain of snapshots; alone, a source of the policy."),
        option("--exclude", "-e", metavar="PATTERN", many=True, help="Leave out what matches, as in .gitignore."),
        option("--include", metavar="PATTERN", many=True, help="Take in again what --exclude left out."),
        flag("--one-file-system", help="Do not descend into other file systems."),
        flag("--exclude-caches", help="Leave out the content of folders with a CACHEDIR.TAG."),
        option("--tag", metavar="WORD", many=True, help="Keep a word with the snapshot."),
        flag("--force-read", help="Read every file, and all that is stored of it; store anew what does not open."),
        option("--max-duration", metavar="DURATION", type=DURATION, help="Stop with a checkpoint after 30m, 4h ..."),
        option("--deadline", metavar="TIME", help="Stop with a checkpoint at 06:00 or 2026-11-01T06:00, local time."),
        option("--io-limit", metavar="RATE", type=RATE, help="Read and write the store no faster than 50MB/s ..."),
    ),
)
def make_backup(run: Run, paths: tuple[str, ...], **given: Any) -> Outcome:
    """Back up files and folders as one snapshot.

    Snapshots of one source form a chain: files that did not change since the last one are not read. Without --source
    the name is made of the paths: 'coffer backup /etc /srv' is the source '/etc,/srv'. 'coffer backup --source NAME'
    backs up the source of that name in the policy, with all its settings.

    Ends with 3 if some files could not be saved; all others are. So it does if the store has lost a snapshot that this
    machine remembers.
    """
    started_s = SYSTEM_CLOCK.monotonic_s()
    source = _source(run, paths, given)
    seconds = _seconds(given, None if paths else run.policy)
    run.io_limit_bytes_per_s = given["io_limit"]
    repo = run.repository()
    options = replace(
        _options(run),
        force_read=given["force_read"],
        deadline_s=None if seconds is None else started_s + seconds,
    )
    progress = Progress(phase="opening")
    run.stops_softly = True
    with Display(run, progress):
        result = backup(repo, source, options=options, progress=progress, stop=run.stop)
    unremembered = repo.heads.failure if repo.heads is not None else ""
    return _outcome(run, result, SYSTEM_CLOCK.monotonic_s() - started_s, unremembered)


COMMAND = make_backup


# ------------------------------------------------------------------------------------------------ what to do


def _source(run: Run, paths: tuple[str, ...], given: dict[str, Any]) -> FilesystemSource:
    if not paths:
        source = _of_policy(run, given["source"])
    else:
        name = _checked_name(given["source"]) if given["source"] is not None else derived_name(paths)
        source = FilesystemSource(name, tuple(map(Path, paths)))
    return replace(
        source,
        exclude=(*source.exclude, *given["exclude"]),
        include=(*source.include, *given["include"]),
        tags=(*source.tags, *(tag for tag in given["tag"] if tag not in source.tags)),
        one_file_system=source.one_file_system or given["one_file_system"],
        exclude_caches=source.exclude_caches or given["exclude_caches"],
    )


def _of_policy(run: Run, name: str | None) -> FilesystemSource:
    """Return a source of the policy; it goes to the first of its own locations unless another one is named."""
    if name is None:
        raise UsageError("nothing to back up is named", hint="Give paths, or --source NAME for a source of the policy.")
    policy = run.load_policy()
    try:
        source = policy.source(name)
    except KeyError:
        names = ", ".join(source.name for source in policy.sources) or "none"
        raise UsageError(
            f"source {name!r}: the policy has {names}", hint="Give one of these, or the paths to back up."
        ) from None
    if not (run.where.get("repo") or run.where.get("location") or os.environ.get("COFFER_REPOSITORY")):
        run.where["location"] = policy.locations_of(source)[0].name
    return FilesystemSource(
        name=source.name,
        paths=source.paths,
        exclude=source.exclude,
        include=source.include,
        one_file_system=source.one_file_system,
        exclude_caches=source.exclude_caches,
        tags=source.tags,
    )


def _options(run: Run) -> BackupOptions:
    return BackupOptions(**tuned_by_policy(run))


def derived_name(paths: tuple[str, ...]) -> str:
    """Return the source name of paths: the same paths, in any order, have the same one.

    Raises:
        UsageError: There are too many.
    """
    if len(paths) > _DERIVED_PATHS_MAX:
        raise UsageError(
            f"{len(paths)} paths, and no --source", hint="Give --source NAME: the next backup goes on from that name."
        )
    # An @ would begin a time in latest:SOURCE@TIME.
    return escape(",".join(sorted({os.path.abspath(path) for path in paths}))).replace("@", "_")


def _checked_name(name: str) -> str:
    if not name or name != name.strip() or not name.isprintable() or "@" in name:
        raise UsageError(
            f"source name {name!r}: empty, or with characters that cannot stand in latest:SOURCE",
            hint="Give a name of printable characters without @.",
        )
    return name


def _seconds(given: dict[str, Any], policy: Policy | None) -> float | None:
    """Return how long the run may take [s], or None for as long as it takes."""
    limits: list[float] = [] if given["max_duration"] is None else [given["max_duration"]]
    if given["deadline"] is not None:
        from coffer.clock import utc_from_ns

        now = utc_from_ns(SYSTEM_CLOCK.now_ns()).astimezone()
        try:
            limits.append(seconds_until(given["deadline"], now))
        except ValueError:
            raise UsageError(
                f"--deadline {given['deadline']!r}: not a time to come",
                hint="Give a time of day such as 06:00, or 2026-11-01T06:00.",
            ) from None
    if not limits and policy is not None:
        limits.append(policy.performance.max_duration_s)
    return min(limits) if limits else None


# ------------------------------------------------------------------------------------------------ what was done


def _outcome(run: Run, result: BackupResult, duration_s: float, unremembered: str) -> Outcome:
    warn_of(run, result)
    if unremembered:  # the backup is whole, so the exit code does not change by it
        run.warn(
            "head-not-remembered",
            f"the snapshot is not remembered on this machine, which would not notice its removal ({unremembered})",
        )
    stats = result.stats
    speed = stats["size_bytes"] / duration_s if duration_s > 0 else 0.0
    facts = {
        "snapshot": snapshot_fields(result.snapshot),
        "duration_s": round(duration_s, 3),
        "speed_bytes_per_s": round(speed),
        "ratios": {
            "deduplication": _ratio(stats["size_bytes"], stats["raw_bytes_new"]),
            "compression": _ratio(stats["raw_bytes_new"], stats["stored_bytes"]),
        },
    }
    return Outcome(result=facts, lines=_lines(result, duration_s, speed), exit_code=result.exit_code)


def _ratio(before: int, after: int) -> float | None:
    return round(before / after, 3) if before and after else None


def _lines(result: BackupResult, duration_s: float, speed: float) -> list[str]:
    snapshot, stats = result.snapshot, result.stats
    stored = "nothing new"
    if stats["stored_bytes"]:
        times = stats["raw_bytes_new"] / stats["stored_bytes"]
        stored = f"{human_size(stats['stored_bytes'])}, for {human_size(stats['raw_bytes_new'])} new ({times:.2f}x)"
    incomplete = "" if snapshot.complete else f", incomplete: {count_of(snapshot.warnings_count, 'warning')}"
    files = (
        f"files:  {stats['files']:,} ({stats['files_new']:,} new, {stats['files_changed']:,} changed,"
        f" {stats['files_unchanged']:,} unchanged), {count_of(stats['directories'], 'folder')},"
        f" {count_of(stats['others'], 'other')}"
    )
    return [
        f"snapshot {snapshot.id} of {escape(snapshot.source)}{incomplete}",
        files,
        f"size:   {human_size(stats['size_bytes'])}, {human_size(stats['read_bytes'])} read",
        f"stored: {stored}",
        f"time:   {human_duration(duration_s)}, {human_rate(speed)}",
    ]
