"""Write a page of docs/ that is made from the code, or say that it is out of date: the end of every generator."""

from __future__ import annotations

import sys
from pathlib import Path

_DOCS = Path(__file__).resolve().parent.parent / "docs"


def write_or_compare(page: str, text: str, *, made_from: str) -> int:
    """Write a page; with `--check` among the program's arguments, only compare it.

    Args:
        page: The file's name in docs/.
        text: All that is to be in it.
        made_from: What it is made from, for the message.

    Returns:
        int: 0 written or equal, 1 out of date (only with `--check`; nothing is written then).
    """
    target = _DOCS / page
    if "--check" not in sys.argv[1:]:
        target.write_text(text, encoding="utf-8")
        return 0
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return 0
    print(f"docs/{page} is not what {made_from} says", file=sys.stderr)
    print("HINT: run make docs", file=sys.stderr)
    return 1
