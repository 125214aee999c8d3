"""What a command hands back: facts for programs and lines for people, of the same thing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from coffer.cli.faults import EXIT_OK, Fault


@dataclass(slots=True)
class Rows:
    """A list that may be long: it is written while it is made, and never held.

    Attributes:
        key: Its key in the JSON result.
        items: What it is made of, in order.
        to_json: Makes the JSON value of one.
        to_line: Makes the line of one.
    """

    key: str
    items: Iterable[Any]
    to_json: Callable[[Any], dict[str, Any]]
    to_line: Callable[[Any], str]


@dataclass(slots=True)
class Outcome:
    """The end of a command that did not raise.

    Attributes:
        result: The JSON result.
        lines: The same for people, on standard output.
        rows: A long list, after `lines`.
        totals: Called after the rows, for what is known only then: (more of the result, more lines).
        exit_code: 0, or 3 where something is missing; of `fault` where there is one.
        fault: What is wrong, where the command did its work and found it so (damage that `check` found).
    """

    result: dict[str, Any] = field(default_factory=dict)
    lines: Iterable[str] = ()
    rows: Rows | None = None
    totals: Callable[[], tuple[dict[str, Any], list[str]]] | None = None
    exit_code: int = EXIT_OK
    fault: Fault | None = None
