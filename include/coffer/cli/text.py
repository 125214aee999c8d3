"""How names, sizes, times and tables are written for people and programs.

A name on disk is any bytes. Whatever is not a printable character is escaped before it reaches a terminal: a file name
must not be able to move the cursor, set the title or forge a line of output.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from coffer.clock import utc_from_ns

__all__ = ["count_of", "escape", "path_fields", "path_text", "pattern_bytes", "table", "time_iso", "time_text"]

_SURROGATE_FIRST = 0xDC80  # PEP 383: byte 0x80 becomes U+DC80, byte 0xFF U+DCFF
_SURROGATE_LAST = 0xDCFF


def escape(text: str) -> str:
    r"""Return a text in which every character that is not printable is an escape such as \x1b or \u202e.

    Bytes that are not UTF-8 (surrogate escapes, PEP 383) become \xNN. A printable text is returned as it is.
    """
    return text if text.isprintable() else "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if _SURROGATE_FIRST <= code <= _SURROGATE_LAST:
        return f"\\x{code - 0xDC00:02x}"
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    if named is not None:
        return named
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def path_text(path: bytes | str) -> str:
    """Return a path as it is shown to people, escaped."""
    return escape(path if isinstance(path, str) else path.decode("utf-8", "surrogateescape"))


def path_fields(path: bytes, key: str = "path") -> dict[str, str]:
    r"""Return a path as fields of a JSON object: `path`, and `path_base64` where it is not UTF-8.

    Where it is not, `path` is for reading only (its odd bytes are written \xNN); `path_base64` holds the exact bytes.
    """
    try:
        return {key: path.decode()}
    except UnicodeDecodeError:
        shown = path.decode("utf-8", "surrogateescape")
        readable = "".join(_escape_character(c) if "\udc80" <= c <= "\udcff" else c for c in shown)
        return {key: readable, f"{key}_base64": base64.b64encode(path).decode()}


def pattern_bytes(path: str) -> bytes:
    """Return the path in a snapshot that a user writes: `/srv/data/`, `srv/data` and `/srv//data` are the same."""
    import os

    return b"/".join(part for part in os.fsencode(path).split(b"/") if part not in (b"", b"."))


def time_text(time_ns: int) -> str:
    """Return a Unix time [ns] as people read it, in UTC, to the second; what is beyond the calendar as its end."""
    return utc_from_ns(time_ns).strftime("%Y-%m-%d %H:%M:%S")


def time_iso(time_ns: int) -> str:
    """Return a Unix time [ns] as ISO 8601 in UTC, to the microsecond; what is beyond the calendar as its end."""
    return utc_from_ns(time_ns).isoformat().replace("+00:00", "Z")


def count_of(number: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: ``1 file``, ``46,213 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], right: str = "") -> list[str]:
    """Return the lines of a table; the columns are as wide as they must be.

    Args:
        head: The names of the columns.
        rows: Texts or numbers; texts are escaped here.
        right: One letter a column: `r` aligns it to the right.
    """
    cells = [list(head), *([f"{c:,}" if isinstance(c, int) else escape(str(c)) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    aligned = [right[i : i + 1] == "r" for i in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, aligned, strict=True)
        ).rstrip()
        for row in cells
    ]
