"""What a mistake in the policy is, and how it is shown to a person. No secret is ever shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from coffer.config.document import Path

_MAX_SHOWN = 60

# A secret does not belong in the policy, so there is no key for one. If someone writes one all the same, it must not
# come out in a log: what stands under such a key is not shown, and neither is what looks like a credential.
_SECRET_KEY = re.compile(
    r"pass|pwd|secret|token|credential|private|webhook|dsn|auth|(^|[_-])key($|[_-])|apikey", re.IGNORECASE
)
_PLAIN_KEYS = frozenset({"key_rotation", "key_storage"})
_SECRET_VALUE = re.compile(
    r"://[^/\s]*@|hooks\.slack\.com|-----BEGIN|\bAKIA[0-9A-Z]|\bxox[a-z]-|\bhv[sb]\.|\bgh[a-z]_|\beyJ"
    r"|\b[0-9a-fA-F]{32,}\b"
    r"|\b(?=[\w+/-]*[0-9])(?=[\w+/-]*[A-Z])(?=[\w+/-]*[a-z])[\w+/-]{24,}"
)


@dataclass(frozen=True, slots=True, order=True)
class PolicyMistake:
    """One mistake.

    Attributes:
        line: Line in the file, from 1; 0 if the file itself is the mistake.
        column: Column in the line, from 1; 0 if the file itself is the mistake.
        key: Path of the key, such as ``sources[0].paths``; empty at the top.
        problem: What is wrong.
        allowed: What is allowed.
        value: The value as written, shortened; None where there is none to show, or it may be a secret.
        nearest: The known key or value that was probably meant; None if nothing is near.
    """

    line: int
    column: int
    key: str
    problem: str
    allowed: str
    value: str | None = None
    nearest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the mistake as plain data, for JSON."""
        return asdict(self)


def key_text(path: Path) -> str:
    """Return a path as a person writes it: ``sources[0].paths``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def may_be_secret(path: Path, value: object) -> bool:
    """Tell whether a value must not be shown.

    Args:
        path: Where it stands: under some keys nothing is shown.
        value: Plain data from the file.
    """
    names = [part for part in path if isinstance(part, str) and part not in _PLAIN_KEYS]
    return any(_SECRET_KEY.search(name) for name in names) or _SECRET_VALUE.search(str(value)) is not None


def shown_value(path: Path, value: object) -> str | None:
    """Return a value as it may be shown, or None if it may be a secret or is more than one word of the file."""
    if isinstance(value, dict | list) or value is None or may_be_secret(path, value):
        return None
    text = str(value).lower() if isinstance(value, bool) else str(value)
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return printable if len(printable) <= _MAX_SHOWN else printable[: _MAX_SHOWN - 3] + "..."


def format_mistakes(mistakes: Iterable[PolicyMistake], name: str = "policy") -> str:
    """Return the mistakes as text, one block of two or three lines each, without a final newline.

    Args:
        mistakes: In the order to be shown.
        name: How the file is called, such as its path.
    """
    return "\n".join(line for mistake in mistakes for line in format_mistake(mistake, name))


def format_mistake(mistake: PolicyMistake, name: str) -> list[str]:
    """Return the lines of one mistake; the first has the form FILE:LINE:COLUMN that editors can jump to."""
    place = f"{name}:{mistake.line}:{mistake.column}" if mistake.line else name
    subject = ": ".join(part for part in (mistake.key, mistake.value) if part)
    lines = [": ".join(part for part in (place, subject, mistake.problem) if part)]
    if mistake.nearest is not None:
        lines.append(f"    did you mean: {mistake.nearest}")
    lines.append(f"    allowed: {mistake.allowed}")
    return lines
