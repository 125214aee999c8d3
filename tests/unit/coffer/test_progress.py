"""Counters of a long run."""

from coffer.progress import Progress


def test_a_run_begins_at_nought():
    """Whoever polls before the run has begun sees zeros and no path."""
    assert Progress("", 0, 0, 0, 0, 0, b"") == Progress()
