"""What a snapshot of a cluster keeps beside the data folder, in `.coffer/cluster.json` (docs/format.md §16).

It is for people and for recoveries: which databases there were, where tablespaces lay, what a server must be started
with. What decides whether a snapshot fits a restore point is in its facts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from coffer.errors import ObjectCorruptError

FORMAT = 1
MAX_RECORD_BYTES = 16 << 20  # (I7); 100,000 databases have some MiB
MAX_CORRUPT_PAGES = 1000  # kept by name; the count is exact


@dataclass(slots=True)
class ClusterRecord:
    """The record of one snapshot.

    Attributes:
        server_version: As the server writes it.
        databases: OID -> name.
        tablespaces: OID -> where it lay on the server.
        settings: What a recovery must know, as SHOW writes it; what the role may not see is missing.
        corrupt_pages: (path, block) of pages that were found damaged; at most `MAX_CORRUPT_PAGES`.
        corrupt_pages_count: How many there were; at least one where the server did not name them.
        notices: The server's warnings, one line each.
        proof: What was proved of the content (coffer.postgres.proof), or None.
    """

    server_version: str
    databases: dict[int, str] = field(default_factory=dict)
    tablespaces: dict[int, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    corrupt_pages: list[tuple[str, int]] = field(default_factory=list)
    corrupt_pages_count: int = 0
    notices: list[str] = field(default_factory=list)
    proof: dict[str, Any] | None = None

    def encode(self) -> bytes:
        """Return the file's content."""
        body = {
            "format": FORMAT,
            "server_version": self.server_version,
            "databases": {str(oid): name for oid, name in sorted(self.databases.items())},
            "tablespaces": {str(oid): place for oid, place in sorted(self.tablespaces.items())},
            "settings": dict(sorted(self.settings.items())),
            "corrupt_pages": [{"path": path, "block": block} for path, block in self.corrupt_pages],
            "corrupt_pages_count": self.corrupt_pages_count,
            "notices": self.notices,
            "proof": self.proof,
        }
        return json.dumps(body, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes) -> ClusterRecord:
        """Return the record of a file's content.

        Raises:
            ObjectCorruptError: It is none, or one of another format.
        """
        try:
            body = json.loads(data)
            if body["format"] != FORMAT or len(data) > MAX_RECORD_BYTES:
                raise ValueError
            proof = body["proof"]
            if proof is not None and not isinstance(proof, dict):
                raise ValueError
            return cls(
                server_version=_text(body["server_version"]),
                databases={int(oid): _text(name) for oid, name in body["databases"].items()},
                tablespaces={int(oid): _text(place) for oid, place in body["tablespaces"].items()},
                settings={_text(name): _text(value) for name, value in body["settings"].items()},
                corrupt_pages=[(_text(page["path"]), _number(page["block"])) for page in body["corrupt_pages"]],
                corrupt_pages_count=_number(body["corrupt_pages_count"]),
                notices=[_text(notice) for notice in body["notices"]],
                proof=proof,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ObjectCorruptError(".coffer/cluster.json: not the record of a cluster") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError
    return value
