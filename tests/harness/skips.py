"""Which skipped tests count against the budget of a build."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_EXCUSE = "only root "  # how the reason of a test that needs root begins


def skip_reason(longrepr: Any) -> str:
    """Return the reason alone: pytest keeps (path, line, text), and a path may hold any word."""
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(text).removeprefix("Skipped: ")


def count_unexcused(longreprs: Iterable[Any], *, is_root: bool) -> int:
    """Count the skips that are not for want of root; for root, none is."""
    return sum(is_root or not skip_reason(longrepr).startswith(_EXCUSE) for longrepr in longreprs)
