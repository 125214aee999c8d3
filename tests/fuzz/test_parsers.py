"""No stored bytes crash a parser, and none makes it take memory beyond its caps (I7).

Two seconds for each parser in `make test`; ten minutes for all of them in `make test-full`, or as many seconds as the
variable FUZZ_SECONDS says. The long runs draw anew each time and print their seed; FUZZ_SEED repeats one.
"""

import json
import os
import secrets
import subprocess
import sys

import pytest

from coffer.errors import ObjectCorruptError
from tests.fuzz.every_target import TARGETS
from tests.fuzz.run import fuzz
from tests.fuzz.target import Target
from tests.harness.programs import PROJECT

SECONDS = float(os.environ.get("FUZZ_SECONDS", "600"))
SEED = int(os.environ.get("FUZZ_SEED", "0")) or secrets.randbelow(1 << 31)


def _fuzz_alone(name, seconds, seed):
    """The report of a run in a process of its own, whose memory is limited."""
    command = [sys.executable, "-m", "tests.fuzz.run", name, str(seconds), str(seed)]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=seconds + 120, check=False)
    assert 0 == ended.returncode, ended.stderr[-2000:]
    report = json.loads(ended.stdout)
    print(report)
    return report


@pytest.mark.parametrize("name", list(TARGETS))
def test_no_input_crashes_a_parser(name):
    """Only typed errors come out, and no memory beyond the caps is taken: two seconds, the same inputs each time."""
    report = _fuzz_alone(name, 2, 1)
    assert "finding" not in report
    assert report["executions"] > 20


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("name", list(TARGETS))
def test_no_input_crashes_a_parser_for_long(name):
    """The same for the parser's share of ten minutes, with inputs that are new each time."""
    report = _fuzz_alone(name, SECONDS / len(TARGETS), SEED)
    assert "finding" not in report
    assert report["executions"] > 20


# ------------------------------------------------------------------------------------------------ the fuzzer itself


def _planted(data):
    if len(data) > 3 and data[3] == 0xFF:
        raise IndexError("planted")
    raise ObjectCorruptError("as it should")


def test_a_planted_crash_is_found(monkeypatch):
    """An untyped error behind one byte's value, with the input that shows it."""
    monkeypatch.setattr("tests.fuzz.run._limit_memory", lambda _: None)
    report = fuzz("planted", Target(_planted, [b"good"]), 5, 1)
    assert "IndexError: planted" == report["finding"]
    assert report["input"]


def test_planted_greed_is_found():
    """A parser that believes a length takes more memory than it may."""
    program = """
        import json
        from tests.fuzz.run import fuzz
        from tests.fuzz.target import Target
        greedy = Target(lambda data: bytearray(int.from_bytes(data[:4], "little")), [b"\\0\\0\\0\\0"])
        print(json.dumps(fuzz("greedy", greedy, 5, 1)))
    """
    from tests.harness.programs import run_program

    report = json.loads(run_program(program).stdout)
    assert report["finding"].startswith("MemoryError")


def test_every_parser_takes_its_own_samples():
    """A target that refuses everything would be fuzzed on its doorstep only."""
    refused = []
    for name, target in TARGETS.items():
        taken = 0
        for sample in target.samples:
            try:
                target.run(sample)
                taken += 1
            except ObjectCorruptError:
                continue
        if not taken:
            refused.append(name)
    assert [] == refused
