"""What a backup takes and gives."""

from __future__ import annotations

from coffer.sources.assembly.result import MAX_WARNINGS_KEPT, SourceWarning, WarningLog
from coffer.sources.filesystem.spec import BackupOptions


def test_a_log_of_warnings_counts_all_and_keeps_the_first():
    """Its memory is bounded, its counts are exact, by code and in all."""
    log = WarningLog()
    for n in range(MAX_WARNINGS_KEPT + 7):
        log.add(b"/f%d" % n, "changed" if n % 2 else "vanished", "message")
    assert MAX_WARNINGS_KEPT + 7 == log.total
    assert MAX_WARNINGS_KEPT == len(log.kept)
    assert SourceWarning(b"/f0", "vanished", "message") == log.kept[0]
    assert (MAX_WARNINGS_KEPT + 7) // 2 == log.counts["changed"]


def test_the_usual_options_are_those_of_the_design():
    """Packs of 64 MB, zstd at level 3, a thread for each core."""
    options = BackupOptions()
    assert (64_000_000, 3, 0, False) == (
        options.pack_size_bytes,
        options.level,
        options.workers,
        options.force_read,
    )
