"""What a run met in a repository and went on in spite of: it did its work, and whoever started it must know."""

from __future__ import annotations

from typing import NamedTuple

from coffer.errors import ChainBrokenError, CofferError


class Concern(NamedTuple):
    """One such thing.

    Attributes:
        code: That of the error that it would be elsewhere.
        message: What it is, for people: the object, then the cause.
        object: The object's name.
    """

    code: str
    message: str
    object: str


def lost_head(name: str, found: str) -> Concern:
    """Return the concern that a remembered snapshot does not stand at its name, with what does."""
    return Concern(
        ChainBrokenError.code, f"{name}: {found}, this machine remembers it as the newest of its source", name
    )


def damaged(error: CofferError, name: str) -> Concern:
    """Return the concern that an object was passed over because it is damaged."""
    return Concern(error.code, error.message, name)
