"""One run: its warnings are bounded in memory and on the screen, never in their count."""

from __future__ import annotations

import pytest

from coffer.cli.run import Run


@pytest.fixture
def run():
    """A run of some command."""
    return Run("x", as_json=False, quiet=False, verbose=False, where={})


def test_warnings_are_counted_for_ever_and_kept_up_to_a_thousand(run, capsys):
    """A tree of unreadable files fills neither the memory nor the screen."""
    for number in range(1005):
        run.warn("unreadable", f"no {number}", b"f")
    run.close_warnings()
    lines = capsys.readouterr().err.splitlines()
    assert (1005, 1000, 11) == (run.warnings_count, len(run.warnings), len(lines))
    assert "coffer: warning: and 995 more warnings; --verbose shows the first 1000" == lines[-1]


def test_what_the_engine_did_not_hand_over_counts_too(run, capsys):
    """The engine keeps the first thousand; its count is the true one, and never lowers ours."""
    run.warn("a", "b")
    run.count_warnings(5000)
    assert 5000 == run.warnings_count
    run.count_warnings(2)
    assert 5000 == run.warnings_count
    run.close_warnings()
    assert "and 4,990 more warnings" in capsys.readouterr().err


def test_quiet_is_silent_but_for_warnings(capsys):
    """A note is for people who watch; a warning is for whoever reads the log."""
    quiet = Run("x", as_json=False, quiet=True, verbose=False, where={})
    quiet.note("hello")
    quiet.warn("a", "careful")
    assert "coffer: warning: careful\n" == capsys.readouterr().err


def test_a_run_without_a_store_has_no_counts(run):
    """Nothing was opened, so nothing is claimed."""
    assert run.store_counts() is None


def test_the_policy_is_read_once(run, monkeypatch, tmp_path):
    """Reading it takes a quarter of a second; the second question is answered from memory."""
    (tmp_path / "p.yaml").write_text("sources: []\n")
    monkeypatch.setenv("COFFER_POLICY", str(tmp_path / "p.yaml"))
    first = run.load_policy()
    (tmp_path / "p.yaml").unlink()
    assert first is run.load_policy()
