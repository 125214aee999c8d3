"""Progress: figures that are right, a bar on a terminal, lines elsewhere, and a run that pays nothing for it."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
import threading

import pytest

from coffer.cli import display
from coffer.cli.display import Display, Meter, render, watched_terminal
from coffer.cli.run import Run
from coffer.progress import Progress
from tests.harness.command_line import start_program
from tests.harness.manual_clock import ManualClock


def a_run(**more):
    """A run with these output options."""
    return Run("x", **{"as_json": False, "quiet": False, "verbose": False, **more}, where={})


class TestFigures:
    @pytest.fixture
    def meter(self):
        """A meter of a run that did 1 MiB a second for four seconds, of 10 MiB."""
        clock = ManualClock()
        meter = Meter(Progress(bytes_total=10 << 20, files_done=1234), clock)
        for _ in range(4):
            clock.advance(1)
            meter.progress.bytes_done += 1 << 20
            meter.look()
        meter.clock = clock
        return meter

    def test_share_speed_and_remaining_time(self, meter):
        """Four of ten done at one a second: six seconds are left."""
        assert (0.4, 1 << 20, 6.0) == (meter.share, meter.rate_bytes_per_s, meter.remaining_s)
        assert "1,234 entries, 4.0 MiB of 10.0 MiB, 1.0 MiB/s, 6.00 s left" == meter.figures()

    def test_the_speed_is_that_of_the_last_seconds(self, meter):
        """After half a minute without progress the speed is nought, and no time is promised."""
        for _ in range(30):
            meter.clock.advance(1)
            meter.look()
        assert (0.0, None) == (meter.rate_bytes_per_s, meter.remaining_s)
        assert 8 > len(meter._seen)

    def test_a_whole_that_is_not_known_is_not_guessed(self, meter):
        """Without a total, or with one that turned out too small, there is no share and no time."""
        for total in (0, 1):
            meter.progress.bytes_total = total
            assert (None, None) == (meter.share, meter.remaining_s)
            assert "1,234 entries, 4.0 MiB, 1.0 MiB/s" == meter.figures()

    def test_the_first_look_has_no_speed(self):
        """Two looks are needed to tell one."""
        assert 0.0 == Meter(Progress()).rate_bytes_per_s

    def test_a_path_cannot_act_on_the_terminal(self, meter):
        """The path at hand is escaped, and the bar drawn with what is known."""
        from rich.console import Console

        meter.progress.current = b"srv/\x1b]0;title\x07"
        console = Console(width=120, record=True, file=io.StringIO())
        console.print(render(meter))
        shown = console.export_text()
        assert "/srv/\\x1b]0;title\\x07" in shown
        assert "starting" in shown
        meter.progress.phase, meter.progress.current, meter.progress.bytes_total = "backing up", b"", 0
        console.print(render(meter))
        assert "backing up" in console.export_text()


class TestWhere:
    @pytest.mark.parametrize(
        ("more", "on_terminal", "shows"),
        [
            ({}, True, True),
            ({}, False, True),
            ({"quiet": True}, True, False),
            ({"as_json": True}, True, True),
            ({"as_json": True}, False, False),
        ],
    )
    def test_who_is_shown_progress(self, monkeypatch, more, on_terminal, shows):
        """People at a terminal and readers of a log; not who asked for quiet, nor a program that reads JSON."""
        monkeypatch.setattr(display, "watched_terminal", lambda: on_terminal)
        assert shows == (Display(a_run(**more), Progress())._thread is not None)

    def test_a_terminal_that_cannot_redraw_gets_lines(self, monkeypatch):
        """TERM=dumb, or none, as in an editor's shell."""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        for term, expected in (("dumb", False), ("xterm", True)):
            monkeypatch.setenv("TERM", term)
            assert expected == watched_terminal()
        monkeypatch.delenv("TERM")
        assert not watched_terminal()

    def test_lines_come_now_and_then_and_end_with_the_run(self, monkeypatch, capsys):
        """A log gets a line with the phase and the figures; a run that is over gets none."""
        monkeypatch.setattr(display, "watched_terminal", lambda: False)
        monkeypatch.setattr(display, "_LINE_EVERY_S", 0.01)
        written = threading.Event()
        progress = Progress(phase="verifying", files_done=1, bytes_done=2048)
        monkeypatch.setattr(Meter, "figures", lambda self: (written.set(), "figures")[1])
        with Display(a_run(), progress):
            assert written.wait(30)
        assert "coffer: verifying: figures\n" in capsys.readouterr().err

    @pytest.mark.parametrize("on_terminal", [True, False])
    def test_a_stream_that_is_closed_does_not_end_the_run(self, monkeypatch, on_terminal):
        """Progress that nobody can see is given up; the work goes on."""

        class Closed:
            encoding = "utf-8"

            def isatty(self):
                return True

            def write(self, _text):
                gone.set()
                raise OSError(5, "Input/output error")

            def flush(self):
                raise OSError(5, "Input/output error")

        gone = threading.Event()
        monkeypatch.setattr(display, "watched_terminal", lambda: on_terminal)
        monkeypatch.setattr(display, "_LINE_EVERY_S", 0.01)
        monkeypatch.setattr(display, "_FIRST_AFTER_S", 0.0)
        monkeypatch.setattr(sys, "stderr", Closed())
        monkeypatch.setenv("TERM", "xterm")
        shown = Display(a_run(), Progress())
        with shown:
            assert gone.wait(30)
        assert not shown._thread.is_alive()

    def test_a_short_run_does_not_load_rich(self, monkeypatch):
        """What is over within a moment never shows a bar."""
        monkeypatch.setattr(display, "watched_terminal", lambda: True)
        monkeypatch.setattr(display, "render", None)
        with Display(a_run(), Progress()):
            pass


@pytest.mark.e2e
def test_a_bar_is_drawn_on_a_real_terminal_four_times_a_second(coffer, repo, tree):
    """The real program on a pseudo terminal: bytes, files and speed, redrawn in place, gone at the end."""
    (tree / "big").write_bytes(os.urandom(3_000_000))
    control, terminal = pty.openpty()
    started = start_program(
        "backup", tree, "--io-limit", "1MB/s", stderr=terminal, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    )
    os.close(terminal)
    screen = b""
    while chunk := read_terminal(control):
        screen += chunk
    out = started.communicate(timeout=60)[0]
    os.close(control)
    assert 0 == started.returncode, screen
    assert out.startswith("snapshot ")
    frames = re.findall(rb"\d entr(?:y|ies), [\d.]+ MiB.*?, [\d.]+ \S+/s", screen)
    assert len(frames) >= 6  # the limit makes it last more than two seconds; half a second passes before the first
    assert b"\x1b[?25l" in screen[:10]
    assert b"\x1b[?25h" in screen[-40:]  # the cursor is back, and the bar's lines are cleared


def read_terminal(control):
    """Return what the program wrote, or nothing once it has left."""
    try:
        return os.read(control, 65536)
    except OSError:
        return b""
