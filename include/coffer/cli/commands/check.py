"""`coffer check`: whether everything that is referred to is there."""

from __future__ import annotations

from coffer.cli.command import command
from coffer.cli.display import Display
from coffer.cli.findings import outcome_of
from coffer.cli.outcome import Outcome
from coffer.cli.run import Run
from coffer.progress import Progress
from coffer.verification import check


@command("check")
def check_repository(run: Run) -> Outcome:
    """Check that everything that is referred to is there.

    Every snapshot, manifest, index segment, pack and range of WAL: present, of the right size, signed, in its chain;
    and the WAL that each snapshot of a cluster needs. File content is not read; 'coffer verify' does that. Ends with 1
    if anything is wrong; hints alone are no error.
    """
    repo = run.repository()
    progress = Progress(phase="checking")
    run.stops_softly = True
    with Display(run, progress):
        report = check(repo, progress=progress, stop=run.stop)
    return outcome_of(report)


COMMAND = check_repository
