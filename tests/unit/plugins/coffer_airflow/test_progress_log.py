"""The lines that say how far a run is."""

import logging
import threading

import pytest

from coffer.progress import Progress
from coffer_airflow.progress_log import ProgressLog, describe


class Lines(logging.Handler):
    """Keeps lines, and says when enough are there."""

    def __init__(self, enough):
        super().__init__()
        self.lines = []
        self.reached = threading.Event()
        self._enough = enough

    def emit(self, record):
        self.lines.append(record.getMessage())
        if len(self.lines) >= self._enough:
            self.reached.set()


@pytest.fixture
def log(caplog):
    """A logger that lets information pass."""
    caplog.set_level(logging.INFO)
    return logging.getLogger("test.progress")


def test_lines_come_until_the_block_ends(log):
    """Line after line while the work goes on, none after it, and the thread is gone."""
    kept = Lines(enough=2)
    log.addHandler(kept)
    progress = Progress(phase="backing up", files_done=7)
    with ProgressLog(log, progress, interval_s=0.01):
        assert kept.reached.wait(10)
    log.removeHandler(kept)
    assert kept.lines[0].startswith("backing up: 7 entries, 0 B, 0 B written, ")
    assert "coffer-progress" not in [thread.name for thread in threading.enumerate()]


def test_an_error_in_the_block_passes(log):
    """The log neither hides nor changes what the work raised."""
    with pytest.raises(KeyError, match="x"), ProgressLog(log, Progress(), interval_s=60):
        raise KeyError("x")


def test_a_line_tells_totals_where_they_are_known():
    """Done of how much, and what was written; no path, since a name may be nobody's business."""
    progress = Progress("backing up", 10, 2048, 1024, 100, 4096, b"/secret/name")
    assert "backing up: 10 entries, 2.0 KiB of about 4.0 KiB, 1.0 KiB written" == describe(progress)
    assert describe(Progress()).startswith("starting: 0 entries")
