"""What a run costs, and how much of a store it reads."""

import sys
from pathlib import Path

import pytest

from benchmarks.measure import Command, CommandError, launch, stored_bytes, sum_reads

STORE = Path("/bench/repo")


def test_only_reads_of_the_stores_files_are_summed():
    """Programs, caches and folders whose name merely begins alike do not count."""
    trace = """\
12 read(3</bench/repo/packs/ab>, ""..., 4096) = 100
12 pread64(4</bench/repo/index/1>, ""..., 50, 0) = 50
13 read(3</bench/repository/x>, ""..., 4096) = 1000
13 read(3</usr/lib/python3.11/os.py>, ""..., 4096) = 1000
13 read(5</bench/repo/packs/cd>, 0x7f, 4096) = -1 EAGAIN (Resource temporarily unavailable)
"""

    assert 150 == sum_reads(trace, STORE)


def test_a_call_that_another_thread_interrupts_is_counted_once():
    """Strace prints such a call in two lines, told apart by the thread's number."""
    trace = """\
12 pread64(4</bench/repo/packs/ab>,  <unfinished ...>
13 read(5</bench/repo/packs/cd>, ""..., 10) = 10
12 <... pread64 resumed>""..., 50, 0) = 50
"""

    assert 60 == sum_reads(trace, STORE)


def test_a_mapped_file_counts_with_its_length():
    """Nobody sees which pages are touched, so the whole mapping is charged."""
    trace = "12 mmap(NULL, 8192, PROT_READ, MAP_SHARED, 3</bench/repo/packs/ab>, 0) = 0x7f0000000000\n"

    assert 8192 == sum_reads(trace, STORE)


def test_a_cost_covers_the_whole_tree_of_processes():
    """CPU time and memory of a grandchild are the command's own, and the output is kept."""
    burn = "data = bytearray(64 << 20); sum(range(1_500_000)); print('done')"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}], check=True)"

    cost = launch(Command(argv=(sys.executable, "-c", child)))

    assert "done\n" == cost.output
    assert cost.peak_bytes > 64 << 20
    assert 0.01 < cost.cpu_s
    assert 0.01 < cost.wall_s


def test_the_memory_of_the_harness_is_not_charged_to_the_command():
    """Linux lets a child inherit its parent's peak; the launcher stands between."""
    ballast = bytearray(300 << 20)

    cost = launch(Command(argv=("true",)))

    assert cost.peak_bytes < 64 << 20 < len(ballast)


def test_a_failing_command_is_an_error_that_shows_its_last_words():
    """A figure of a run that failed would be a lie."""
    with pytest.raises(CommandError, match=r"exit 3\noh no"):
        launch(Command(argv=("sh", "-c", "echo oh no; exit 3")))


def test_an_exit_code_that_the_tool_calls_good_is_no_error():
    """Some tools say 'done with warnings' by a code."""
    cost = launch(Command(argv=("sh", "-c", "exit 1"), good_exits=(0, 1)))

    assert "" == cost.output


def test_stored_bytes_is_the_sum_of_all_lengths(tmp_path):
    """Files below subfolders count, and holes and disk blocks play no part."""
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "ab").write_bytes(b"x" * 1000)
    (tmp_path / "config").write_bytes(b"y" * 10)

    assert 1010 == stored_bytes(tmp_path)
