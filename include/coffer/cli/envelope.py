"""The one form of `--json` output: an envelope around each command's result (docs/json-schema/envelope.json)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

from coffer.cli.faults import Fault
from coffer.cli.text import escape

SCHEMA = "coffer/1"


class Sink(Protocol):
    """Where text goes."""

    def write(self, text: str) -> object:
        """Take in a text."""
        ...


class EnvelopeWriter:
    """Writes one envelope, once; a long list in it is written piece by piece.

    The result comes before the verdict, so that rows can be written before it is known whether all could be made.

    Args:
        out: Where to.
        command: The command's name, such as ``keys show``.
    """

    def __init__(self, out: Sink, command: str) -> None:
        self._out = out
        self._command = command
        self._fields = 0
        self._open = False

    def begin(self) -> None:
        """Write the head; does nothing the second time."""
        if not self._open:
            self._open = True
            self._out.write(f'{{"schema": "{SCHEMA}", "command": {_text(self._command)}, "result": {{')

    def fields(self, values: dict[str, Any]) -> None:
        """Write fields of the result."""
        self.begin()
        for key, value in values.items():
            self._out.write(f"{', ' if self._fields else ''}{_text(key)}: {_text(value)}")
            self._fields += 1

    def rows(self, key: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write a list in the result, a row a line; it is closed even where making a row fails."""
        self.begin()
        self._out.write(f"{', ' if self._fields else ''}{_text(key)}: [")
        self._fields += 1
        separator = "\n"
        try:
            for row in rows:
                self._out.write(separator + _text(row))
                separator = ",\n"
        finally:
            self._out.write("]")

    def finish(
        self, exit_code: int, warnings: list[dict[str, Any]], fault: Fault | None, *, warnings_count: int = 0
    ) -> None:
        """Write the verdict and the end; `warnings` may be the first of more."""
        self.begin()
        ok = "true" if exit_code == 0 else "false"
        error = _text(fault and fault.fields())
        self._out.write(
            f'}}, "warnings": {_text(warnings)}, "warnings_count": {warnings_count},'
            f' "ok": {ok}, "exit_code": {exit_code}, "error": {error}}}\n'
        )


def _text(value: object) -> str:
    """Return a value as JSON in ASCII; a lone surrogate, which JSON cannot hold, as its escape."""
    text = json.dumps(value)
    # json.dumps writes half of a pair as \udcXX; a whole pair begins with \ud8-\udb and is left as it is.
    return json.dumps(_clean(value)) if "\\udc" in text else text


def _clean(value: object) -> object:
    if isinstance(value, str):
        return "".join(escape(c) if "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
