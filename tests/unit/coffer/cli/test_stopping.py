"""Signals: real ones, at the real program."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from coffer.cli.run import Run
from coffer.cli.stopping import handle_signals
from tests.harness.command_line import Ended, start_program

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def run():
    """A run of some command."""
    return Run("x", as_json=False, quiet=False, verbose=False, where={})


@pytest.fixture
def heard():
    """No signal is ignored, also where the tests themselves were started by `nohup`."""
    former = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in former.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", SIGNALS)
def test_work_that_can_stop_is_asked_to(run, number, capfd):
    """The first signal sets the event and says what happens; the former handler comes back."""
    former = signal.getsignal(number)
    run.stops_softly = True
    with handle_signals(run):
        os.kill(os.getpid(), number)
        assert run.stop.wait(10)
    assert former is signal.getsignal(number)
    assert "stopping; once more to leave at once" in capfd.readouterr().err


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", SIGNALS)
def test_work_that_cannot_stop_is_ended(run, number):
    """A listing has nothing to keep: the signal ends it like Ctrl-C."""

    def work():
        with handle_signals(run):
            os.kill(os.getpid(), number)
            run.stop.wait(10)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not run.stop.is_set()


def test_a_signal_that_is_ignored_stays_so(run):
    """`nohup coffer backup` outlives its terminal."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_signals(run):
            assert signal.SIG_IGN is signal.getsignal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, former)


def test_outside_the_main_thread_no_handler_is_set(run):
    """Python allows handlers only there; the work is done all the same."""
    done = []

    def work():
        with handle_signals(run):
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [signal.getsignal(signal.SIGINT)] == done


@pytest.fixture
def slow_backup(coffer, tmp_path, monkeypatch):
    """A backup of 60 MB in packs of 1 MB, at 4 MB/s, as a real process that has stored its first packs.

    It cannot have read all of it: at most 40 MB wait in memory.
    """
    (tmp_path / "p.yaml").write_text(
        "repository: {key_file: k, state_dir: state}\n"
        "sources: [{name: s, paths: [tree]}]\n"
        'local_backup: {locations: {a: {path: repo, retention: "1d", frequency: daily}}}\n'
        "performance_config: {compression: {chunk_size: 1MB}, concurrency: {io_limit: 4MB/s}}\n"
    )
    monkeypatch.setenv("COFFER_POLICY", str(tmp_path / "p.yaml"))
    (tmp_path / "tree").mkdir()
    for number in range(60):
        (tmp_path / "tree" / f"{number:02}").write_bytes(os.urandom(1_000_000))
    assert 0 == coffer("init").code
    process = start_program("backup", "--source", "s", "--json")
    waiter = threading.Event()
    while process.poll() is None and len(list((tmp_path / "repo").glob("packs/*/*"))) < 2:
        waiter.wait(0.01)
    yield process
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        stream.close()


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_backup_that_is_stopped_leaves_a_state_to_go_on_from(coffer, slow_backup, tmp_path, number):
    """No snapshot, no damage, no lease left; the error says so, and the next run finds what was stored."""
    slow_backup.send_signal(number)
    out, err = slow_backup.communicate(timeout=60)
    stopped = Ended(slow_backup.returncode, out, err)
    assert (1, "interrupted") == (stopped.code, stopped.envelope["error"]["code"])
    assert [
        "",
        "coffer: stopping; once more to leave at once",
        "coffer: backup of 's': stopped by request",
        "HINT: Run the same backup again: it goes on from where it stopped.",
    ] == err.splitlines()
    assert [] == coffer("snapshots", "--json").result["snapshots"]
    assert 0 == coffer("check").code
    assert [] == list((tmp_path / "repo" / "leases").iterdir())
    stats = coffer("backup", "--source", "s", "--io-limit", "10GB/s", "--json").result["snapshot"]["stats"]
    assert (60, 60_000_000) == (stats["files"], stats["size_bytes"])
    assert stats["stored_bytes"] < 60_000_000 - stopped.result["store"]["put_bytes"] + 1_000_000
    assert 0 == coffer("verify", "--repo", tmp_path / "repo", "--key-file", tmp_path / "k").code  # without the limit


@pytest.mark.e2e
def test_a_second_signal_leaves_at_once(coffer, slow_backup):
    """Who insists is not kept waiting; nothing that was stored is damaged."""
    # Stopped in between, so that both are there before it can act on the first.
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        slow_backup.send_signal(number)
    out, err = slow_backup.communicate(timeout=60)
    assert (1, "") == (slow_backup.returncode, out)
    assert "coffer: left at once" in err.splitlines()[-1]
    assert 0 == coffer("check").code
