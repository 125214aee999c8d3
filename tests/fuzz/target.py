"""What is fuzzed: a parser, good inputs, and how much memory it may take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.fuzz.mutating import mutated

MIB = 1024 * 1024
Grow = Callable[[Random, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Target:
    """A parser under fire.

    Attributes:
        run: Calls it; raises nothing but `CofferError`.
        samples: Good inputs.
        grow: Makes a hostile input from the samples.
        room_bytes: What it may take, whatever the input: a little above what its caps allow [bytes].
    """

    run: Callable[[bytes], object]
    samples: list[bytes]
    grow: Grow = mutated
    room_bytes: int = 24 * MIB
    threads: int = field(default=0)
