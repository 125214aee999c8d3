"""`coffer wal push` and `coffer wal fetch`: what a server runs as its archive and restore commands."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from coffer.cli.command import argument, command, flag, option
from coffer.cli.faults import EXIT_FAILED, EXIT_FATAL, EXIT_OK
from coffer.cli.outcome import Outcome
from coffer.cli.paths import user_path
from coffer.cli.run import Run
from coffer.cli.text import path_text
from coffer.clock import SYSTEM_CLOCK
from coffer.postgres.restore_command import SPOOL_NAME
from coffer.postgres.wal_archive import WalArchive
from coffer.postgres.wal_segments import segment_bytes_of
from coffer.recovery.wal_fetch import fetch, is_segment_name
from coffer.recovery.wal_spool import DEFAULT_AHEAD, Spool, prefetch_in_background
from coffer.sources.postgres.wal_push import push

SOURCE = option("--source", metavar="NAME", required=True, help="A database of the policy; else the source's name.")


@command("push", parent="wal", options=(argument("path", metavar="PATH"), SOURCE))
def push_file(run: Run, path: str, source: str) -> Outcome:
    """Save one file of pg_wal: for archive_command.

    In postgresql.conf: archive_command = 'coffer wal push %p --source NAME --repo DIR --quiet'. On return the file is
    durable. The same file again is no error; other bytes under the same name are, and nothing is overwritten. Histories
    are saved too, of a partial segment the part that its timeline wrote; backup labels are not needed.
    """
    file = user_path(path)
    pushed = push(_archive(run, source), file)
    if pushed.note:
        run.note(f"{path_text(file.name)}: nothing was saved: {pushed.note}")
    result: dict[str, Any] = {
        "file": path_text(file.name),
        "kind": pushed.kind,
        "wal_bytes": pushed.wal_bytes,
        "note": pushed.note or None,
    }
    return Outcome(result=result)


@command(
    "fetch",
    parent="wal",
    fails_with=EXIT_FATAL,
    options=(
        argument("name", metavar="NAME"),
        argument("destination", metavar="DESTINATION"),
        SOURCE,
        option("--spool", metavar="DIR", help="Where the next segments are kept ready.  [else beside DESTINATION]"),
        option(
            "--prefetch",
            metavar="N",
            type=click.IntRange(min=0, max=1000),
            default=DEFAULT_AHEAD,
            help="How many segments are kept ready, of 128 MiB together at most; 0: none.",
        ),
        flag("--partial", help="Also bring a segment that is saved only in part; zeros stand for the rest."),
    ),
)
def fetch_file(
    run: Run, name: str, destination: str, source: str, spool: str | None, prefetch: int, partial: bool
) -> Outcome:
    """Bring one file of pg_wal: for restore_command.

    In postgresql.conf: restore_command = 'coffer wal fetch %f %p --source NAME --repo DIR'. The segments that follow
    are brought ahead by a process in the background, which ends by itself.

    Ends with 0 if the file was brought; with 1, and without a word, if it is not saved, or only in part; and with 126
    if anything else is wrong. PostgreSQL takes any code up to 125 for the end of the archive, and would open there.
    """
    target = user_path(destination)
    folder = _spool_folder(target, spool)
    is_brought = Spool(folder).take(name, target) if is_segment_name(name) else False
    if not is_brought:
        archive = _archive(run, source)
        is_brought = fetch(archive, name, target, partial=partial)
        if is_brought and prefetch and is_segment_name(name):
            _keep_ready(archive, Spool(folder), name, prefetch)
    result = {"file": path_text(name), "brought": is_brought}
    return Outcome(result=result, exit_code=EXIT_OK if is_brought else EXIT_FAILED)


def _keep_ready(archive: WalArchive, spool: Spool, name: str, prefetch: int) -> None:
    """Let the segments that follow be brought ahead."""
    segment_bytes = segment_bytes_of(archive)
    if segment_bytes is not None:
        spool.prepare()
        spool.want(name)
        prefetch_in_background(archive, spool, segment_bytes, SYSTEM_CLOCK, prefetch)


def _archive(run: Run, name: str) -> WalArchive:
    """Return the archive of the source of that name; where it has none, of the cluster that the policy has it in.

    The policy is asked last: it takes a quarter of a second, for each segment, and a server's user may not read it.
    """
    repo = run.repository()
    archive = WalArchive(repo, name)
    if archive.system_id() is not None:
        return archive
    from coffer.cli.clusters import source_of_cluster

    with suppress(PermissionError):
        return WalArchive(repo, source_of_cluster(run, name, repo))
    return archive


def _spool_folder(destination: Path, given: str | None) -> Path:
    return user_path(given) if given else destination.parent / SPOOL_NAME
