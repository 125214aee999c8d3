"""The kinds of value in the policy: how each is read, and what is said to be allowed.

Each kind is an `Annotated` type that carries its `Spelling`. The mistakes and the reference page take their words from
there, so that what is checked, what is said and what is documented cannot differ.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, Strict, ValidationInfo

from coffer.config.condition import CONDITION_ALLOWED, check_condition
from coffer.config.cron import CRON_ALLOWED, parse_cron
from coffer.units import (
    DURATION_ALLOWED,
    PERCENTAGE_ALLOWED,
    RATE_ALLOWED,
    WINDOW_ALLOWED,
    UnitError,
    Window,
    format_duration,
    format_size,
    parse_duration,
    parse_percentage,
    parse_rate,
    parse_size,
    parse_window,
)

T = TypeVar("T")


class Spelling(NamedTuple):
    """How a kind of value is written.

    Attributes:
        kind: One or two words for the type column of the reference.
        allowed: What is allowed, for a mistake and for the reference.
    """

    kind: str
    allowed: str


def written(value: Any) -> Any:
    """Return a default in the policy's own spelling, which is validated like a value from the file.

    So the reference shows the default as a person would write it, and a relative path becomes absolute like any other.
    """
    return Field(default=value, validate_default=True)


def _text(value: object, allowed: str) -> str:
    """Return the value if it is a text; a number from the file has lost its unit."""
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    why = "a number without a unit" if is_number else "not a text"
    raise UnitError("value", str(value), why, allowed)


def _reader(
    parse: Callable[[str], T], write: Callable[[T], str], allowed: str, low: T | None, high: T | None
) -> BeforeValidator:
    """Return the validator that reads a text and checks its range (both ends inclusive)."""

    def read(value: object) -> T:
        text = _text(value, allowed)
        quantity = parse(text)
        if low is not None and quantity < low:  # type: ignore[operator]  # T is int or float: both are ordered
            raise UnitError("value", text, f"less than {write(low)}", allowed)
        if high is not None and quantity > high:  # type: ignore[operator]  # as above
            raise UnitError("value", text, f"more than {write(high)}", allowed)
        return quantity

    return BeforeValidator(read)


# ------------------------------------------------------------------------------------------------ quantities


def _size(low: str, high: str) -> tuple[BeforeValidator, Spelling]:
    allowed = f"a size with a unit, such as 64MB or 64MiB, from {low} to {high}"
    return _reader(parse_size, format_size, allowed, parse_size(low), parse_size(high)), Spelling("size", allowed)


def _duration(low: str, high: str) -> tuple[BeforeValidator, Spelling]:
    allowed = f"{DURATION_ALLOWED}; from {low} to {high}"
    reader = _reader(parse_duration, format_duration, allowed, parse_duration(low), parse_duration(high))
    return reader, Spelling("duration", allowed)


# Below 1 MB the store drowns in objects; above 1 GB one lost pack of work is too much, and a pack is held in memory.
_PACK_SIZE = _size("1MB", "1GB")
PackSize = Annotated[int, _PACK_SIZE[0], _PACK_SIZE[1]]
"""Size of a stored object [bytes]."""

_BLOCK_ALLOWED = "a size that is a power of two, from 4KiB to 4MiB, such as 1MiB"


def _block_size(value: object) -> int:
    text = _text(value, _BLOCK_ALLOWED)
    size_bytes = parse_size(text)
    if size_bytes & (size_bytes - 1):
        raise UnitError("value", text, "not a power of two", _BLOCK_ALLOWED)
    # The largest piece is four times the average, and a stored frame holds at most 16 MiB (docs/format.md).
    if not 2**12 <= size_bytes <= 2**22:
        raise UnitError("value", text, "not within 4KiB to 4MiB", _BLOCK_ALLOWED)
    return size_bytes


BlockSize = Annotated[int, BeforeValidator(_block_size), Spelling("size", _BLOCK_ALLOWED)]
"""Size of the pieces that deduplication compares [bytes]."""

_RATE = f"{RATE_ALLOWED}, at least 1kB/s"
Rate = Annotated[int, _reader(parse_rate, format_size, _RATE, 1000, None), Spelling("rate", _RATE)]
"""Bytes in a second [bytes/s]."""

# The server's own bounds of MAX_RATE, which it takes in KiB/s.
_WIRE_RATE = f"{RATE_ALLOWED}, from 32KiB/s to 1GiB/s"
WireRate = Annotated[
    int,
    _reader(parse_rate, lambda rate: f"{format_size(rate)}/s", _WIRE_RATE, 2**15, 2**30),
    Spelling("rate", _WIRE_RATE),
]
"""Bytes in a second that a server may send [bytes/s]."""

_RETENTION = _duration("1d", "36500d")
Retention = Annotated[int, _RETENTION[0], _RETENTION[1]]
"""How long a snapshot is kept [s]."""

_ROTATION = _duration("1d", "3650d")
Rotation = Annotated[int, _ROTATION[0], _ROTATION[1]]
"""How long a key is used [s]."""

_DEADLINE = _duration("1m", "30d")
Deadline = Annotated[int, _DEADLINE[0], _DEADLINE[1]]
"""How long something may take [s]."""

_BUDGET = _duration("0s", "1d")
ProofBudget = Annotated[int, _BUDGET[0], _BUDGET[1]]
"""Time that may be spent on something, none included [s]."""

_TIMEOUT_ALLOWED = "a whole number of seconds, or a duration such as 30m or 1h; from 1 second to 7 days"


def _timeout(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        timeout_s = value
    else:
        timeout_s = parse_duration(_text(value, _TIMEOUT_ALLOWED))
    if not 1 <= timeout_s <= 604_800:
        raise UnitError("value", str(value), "not within 1 second to 7 days", _TIMEOUT_ALLOWED)
    return timeout_s


Timeout = Annotated[int, BeforeValidator(_timeout), Spelling("seconds or duration", _TIMEOUT_ALLOWED)]
"""Time limit [s]; the one quantity that may be a bare number, because the specification writes it so."""

_SHARE_ALLOWED = f"{PERCENTAGE_ALLOWED}; more than 0%"


def _share(value: object) -> float:
    text = _text(value, _SHARE_ALLOWED)
    share = parse_percentage(text)
    if share == 0:
        raise UnitError("value", text, "zero", _SHARE_ALLOWED)
    return share


Share = Annotated[float, BeforeValidator(_share), Spelling("percentage", _SHARE_ALLOWED)]
"""A part of a whole, over 0 and up to 1."""


def _window(value: object) -> Window:
    return parse_window(_text(value, WINDOW_ALLOWED))


DailyWindow = Annotated[Window, BeforeValidator(_window), Spelling("window", WINDOW_ALLOWED)]
"""A daily span of wall-clock time in the policy's time zone."""


# ------------------------------------------------------------------------------------------------ times


def _cron(text: str) -> str:
    parse_cron(text)
    return " ".join(text.split())


Schedule = Annotated[str, Strict(), AfterValidator(_cron), Spelling("cron", CRON_ALLOWED)]
"""A five-field cron text in the policy's time zone, with single spaces."""

_ZONE_ALLOWED = "a name of the IANA time zone database, such as UTC or Europe/Berlin"


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # unknown; a folder of the database; a path out of it
        raise UnitError("time zone", name, "no such time zone", _ZONE_ALLOWED) from None
    return name


ZoneName = Annotated[str, Strict(), AfterValidator(_zone), Spelling("time zone", _ZONE_ALLOWED)]
"""Name of a time zone that this machine knows."""


# ------------------------------------------------------------------------------------------------ texts


def _matching(kind: str, pattern: str, allowed: str, why: str) -> tuple[AfterValidator, Spelling]:
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise UnitError(kind, text, why, allowed)
        return text

    return AfterValidator(check), Spelling(kind, allowed)


# A source's name goes into snapshot names (latest:SOURCE@DATE), task ids and metric labels: none of their characters.
_NAME = _matching(
    "name",
    r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
    "1 to 63 letters, digits, '_', '-' or '.', the first a letter or digit",
    "not a usable name",
)
Name = Annotated[str, Strict(), _NAME[0], _NAME[1]]
"""Name of a source, location, plan, role and so on."""

_ENV = _matching(
    "variable",
    r"[A-Z_][A-Z0-9_]{0,127}",
    "the name of an environment variable: capitals, digits and '_', not the secret itself",
    "not a name of an environment variable",
)
EnvName = Annotated[str, Strict(), _ENV[0], _ENV[1]]
"""Name of an environment variable that holds a secret; never the secret."""

_BUCKET = _matching(
    "bucket",
    r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]",
    "3 to 63 small letters, digits, '-', '.' or '_', the first and last a letter or digit",
    "not a bucket's name",
)
Bucket = Annotated[str, Strict(), _BUCKET[0], _BUCKET[1]]
"""Name of a bucket."""

_REGION = _matching("region", r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", "a region's name, such as us-west-2", "not a region")
Region = Annotated[str, Strict(), _REGION[0], _REGION[1]]
"""Name of a cloud's region or location."""

_MAIL = _matching(
    "address", r"[^@\s,;<>\"]+@[^@\s,;<>\"]+", "an e-mail address, such as ops@example.com", "no e-mail address"
)
MailAddress = Annotated[str, Strict(), _MAIL[0], _MAIL[1]]
"""An e-mail address."""

_SLACK = _matching(
    "channel",
    r"#[^\s#,\"'<>&]{1,79}|[CGD][A-Z0-9]{8,20}",
    'a channel with its # and in quotes, such as "#backup-alerts", or a channel\'s id',
    "not a channel",
)
SlackChannel = Annotated[str, Strict(), _SLACK[0], _SLACK[1]]
"""A Slack channel."""

_HOST = _matching(
    "host",
    r"/[^\x00-\x1f]{0,100}|[A-Za-z0-9_.:%-]{1,253}",
    "a name or address such as db1.example.com or 10.0.0.5, or the folder of a unix socket, from / on",
    "not a host",
)
HostName = Annotated[str, Strict(), _HOST[0], _HOST[1]]
"""Where a server is."""

_IDENTIFIER = _matching(
    "identifier",
    r"[^\x00-\x1f\x7f]{1,63}",
    "the name of a role or database as PostgreSQL keeps it, 1 to 63 characters",
    "not a name in PostgreSQL",
)
Identifier = Annotated[str, Strict(), _IDENTIFIER[0], _IDENTIFIER[1]]
"""Name of a role or a database."""

_TABLE = _matching(
    "table",
    r"[^.\x00-\x1f\x7f]{1,63}(\.[^.\x00-\x1f\x7f]{1,63}){1,2}",
    "schema.table, or database.schema.table",
    "not a table with its schema",
)
TableName = Annotated[str, Strict(), _TABLE[0], _TABLE[1]]
"""Name of a table, with its schema and perhaps its database."""

_SLOT = _matching("slot", r"[a-z0-9_]{1,63}", "1 to 63 of a-z, 0-9 and _", "not a name of a replication slot")
SlotName = Annotated[str, Strict(), _SLOT[0], _SLOT[1]]
"""Name of a replication slot."""

_CONNECTION = _matching(
    "connection",
    r"[A-Za-z0-9_.-]{1,200}",
    "the id of an Airflow connection: letters, digits, '_', '-' or '.'",
    "not the id of a connection",
)
ConnectionId = Annotated[str, Strict(), _CONNECTION[0], _CONNECTION[1]]
"""Id of an Airflow connection."""

_PATTERN_ALLOWED = "a pattern in the syntax of .gitignore, such as *.tmp, /build/ or !keep.tmp"


def _pattern(text: str) -> str:
    bare = text.removeprefix("!").rstrip(" ")
    trailing_backslashes = len(bare) - len(bare.rstrip("\\"))
    if not bare or bare.startswith("#") or bare == "/":
        raise UnitError("pattern", text, "it would match nothing", _PATTERN_ALLOWED)
    if "\0" in text or "\n" in text or trailing_backslashes % 2:
        raise UnitError("pattern", text, "not a pattern", _PATTERN_ALLOWED)
    return text


def _condition(text: str) -> str:
    check_condition(text)
    return text


Pattern = Annotated[str, Strict(), AfterValidator(_pattern), Spelling("pattern", _PATTERN_ALLOWED)]
"""A pattern in gitignore syntax."""

PROJECT_FOLDER = "project_folder"
"""Key of the validation context under which relative paths find their base."""


def project_folder_in(info: ValidationInfo) -> Path:
    """Return the project folder that a validation was started with.

    Raises:
        AssertionError: It was started without one; a relative path would silently count from the working folder.
            (Pydantic turns it into its own ValidationError.)
    """
    if not isinstance(info.context, dict):
        raise AssertionError("policy models are validated with the project folder in their context")
    return Path(info.context[PROJECT_FOLDER])


_PATH_ALLOWED = "a path; a relative one counts from the project folder, and ~ is the home folder"


def _path(text: str, info: ValidationInfo) -> Path:
    if not text.strip() or "\0" in text:
        raise UnitError("path", text, "not a path", _PATH_ALLOWED)
    # Lexical only (abspath, not realpath): a link may come to point elsewhere before the path is used.
    return Path(os.path.abspath(os.path.join(project_folder_in(info), os.path.expanduser(text))))


AbsolutePath = Annotated[
    Path, BeforeValidator(lambda value, info: _path(_text(value, _PATH_ALLOWED), info)), Spelling("path", _PATH_ALLOWED)
]
"""An absolute path without ``.`` and ``..``."""


Condition = Annotated[str, Strict(), AfterValidator(_condition), Spelling("condition", CONDITION_ALLOWED)]
"""A condition over metrics, of which the grammar alone is checked here; the metrics' names are known where it runs."""


# ------------------------------------------------------------------------------------------------ small types


def _unique(items: tuple[T, ...]) -> tuple[T, ...]:
    seen: list[T] = []
    for item in items:
        if item in seen:
            raise UnitError("list", str(item), f"{str(item)!r} is in the list twice", "each value once")
        seen.append(item)
    return items


ONCE = AfterValidator(_unique)
"""Metadata of a list whose values may come only once."""

SOME = Field(min_length=1)
"""Metadata of a list that must not be empty."""

Flag = Annotated[bool, Strict()]
"""True or false, and no other word for it."""

Count = Annotated[int, Strict()]
"""A whole number."""

Frequency = Literal["hourly", "daily", "weekly", "monthly"]
Priority = Literal["low", "medium", "high", "critical"]
Severity = Literal["low", "warning", "high", "critical"]
