"""Fuzz one parser for some seconds, in a process whose memory is limited.

By hand: `.venv/bin/python -m tests.fuzz.run "block" 60 [seed]`.
"""

from __future__ import annotations

import base64
import json
import resource
import sys
import time
from pathlib import Path
from random import Random

from coffer.errors import CofferError
from tests.fuzz.every_target import TARGETS
from tests.fuzz.target import Target

_KEPT = 200  # inputs that were taken, to change further


def fuzz(name: str, target: Target, seconds: float, seed: int) -> dict[str, object]:
    """Run hostile inputs through a parser until the time is over.

    Returns:
        executions, accepted (inputs that were no error), slowest_s; and `finding` where something other than a
        `CofferError` was raised, MemoryError among it: what, and the input as base64.
    """
    draw = Random(f"{name}/{seed}")
    samples = list(target.samples)
    for sample in samples:
        _run_sample(target, sample)
    _limit_memory(target.room_bytes)
    report = {"target": name, "seed": seed, "executions": 0, "accepted": 0, "slowest_s": 0.0}
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        data = target.grow(draw, samples)
        try:
            target.run(data)
        except CofferError:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            return report | {"finding": f"{type(error).__name__}: {error}", "input": base64.b64encode(data).decode()}
        else:
            report["accepted"] += 1
            if len(data) < 20_000:
                _keep(draw, samples, data, len(target.samples))
        report["executions"] += 1
        report["slowest_s"] = max(report["slowest_s"], round(time.monotonic() - began, 3))
    return report


def _run_sample(target: Target, sample: bytes) -> None:
    try:
        target.run(sample)
    except CofferError:
        return  # a sample of one parser may be another's damage


def _keep(draw: Random, samples: list[bytes], data: bytes, fixed: int) -> None:
    """An input that is taken is a way deeper in: keep it, in place of an older one where there are many."""
    if len(samples) < _KEPT:
        samples.append(data)
    else:
        samples[draw.randrange(fixed, _KEPT)] = data


def _limit_memory(room_bytes: int) -> None:
    """Let the process grow by `room_bytes` and no further: an allocation beyond that is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


if __name__ == "__main__":
    wanted, budget, *more = sys.argv[1:]
    print(json.dumps(fuzz(wanted, TARGETS[wanted], float(budget), int(more[0]) if more else 1)))
