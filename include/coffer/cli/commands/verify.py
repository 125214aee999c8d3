"""`coffer verify`: read what is stored, and authenticate all of it."""

from __future__ import annotations

import click

from coffer.cli.command import command, option
from coffer.cli.display import Display
from coffer.cli.findings import outcome_of
from coffer.cli.outcome import Outcome
from coffer.cli.run import Run
from coffer.cli.text import count_of
from coffer.clock import SYSTEM_CLOCK
from coffer.progress import Progress
from coffer.units import human_duration, human_rate, human_size
from coffer.verification import verify


@command(
    "verify",
    moves_data=True,
    options=(
        option("--workers", metavar="N", type=click.IntRange(min=0), default=0, help="Threads; 0: one per core."),
    ),
)
def verify_repository(run: Run, workers: int) -> Outcome:
    """Read the stored data and authenticate all of it.

    Every byte of every pack and of all saved WAL is read once, opened, and compared with its id. Includes what 'coffer
    check' does. Ends with 1 if anything is wrong; hints alone are no error.
    """
    started_s = SYSTEM_CLOCK.monotonic_s()
    repo = run.repository()
    progress = Progress(phase="verifying")
    run.stops_softly = True
    with Display(run, progress):
        report = verify(repo, workers=workers, progress=progress, stop=run.stop)
    duration_s = SYSTEM_CLOCK.monotonic_s() - started_s
    outcome = outcome_of(report)
    read_bytes = report.counts.get("read_bytes", 0)
    outcome.result["duration_s"] = round(duration_s, 3)
    wal_bytes = report.counts.get("wal_read_bytes", 0)
    what = count_of(report.counts.get("packs", 0), "pack") + (
        f" and {human_size(wal_bytes)} of WAL" if wal_bytes else ""
    )
    done = f"{human_size(read_bytes)} in {what} were read and authenticated"
    speed = human_rate((read_bytes + wal_bytes) / duration_s if duration_s else 0)
    outcome.lines = [*outcome.lines, f"{done} in {human_duration(duration_s)}, {speed}"]
    return outcome


COMMAND = verify_repository
