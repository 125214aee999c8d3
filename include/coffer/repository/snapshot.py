"""The snapshot: the signed root of one completed backup; its existence is the commit (docs/format.md §7).

Snapshots of one source form a chain: each names the one before it by sequence number and by the SHA-256 of its object.
The object's name is ``snapshots/<source tag>-<sequence>``, taken by the writer's lease, so the newest of a source is
found from names alone and a gap in the numbers shows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from blake3 import blake3

from coffer.crypto.keyring import SIGNATURE_BYTES, Keyring, verify_signature
from coffer.crypto.seal import HEADER_BYTES, KIND_OFFSET, KIND_REVOKED, KIND_SNAPSHOT, open_single, seal_single
from coffer.errors import FormatVersionError, ObjectCorruptError, SizeLimitError, UsageError
from coffer.ids import CHUNK_ID_BYTES, SNAPSHOT_ID_BYTES

PREFIX = "snapshots/"
MAX_OBJECT_BYTES = 1024 * 1024  # (I7)
FORMAT = 1
MAX_SEQUENCE = 99_999_999  # a name has eight digits: a number with more would never be listed
_NAME = re.compile(r"snapshots/([0-9a-f]{8})-([0-9]{8})")
_NUMBERS_END = 1 << 63
_SUMS_END = 1 << 127  # no sum reaches it: a file has less than 2^63 bytes
# Of the words in a snapshot [bytes, as JSON]: what else is in it takes less than the rest of the cap.
_MAX_WORDS_BYTES = MAX_OBJECT_BYTES - 64 * 1024
_SIGNED = b"coffer/1/snapshot\0"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One completed backup.

    Attributes:
        id: 16 hex digits, follows from the name.
        name: The object's name.
        source: Name of the source.
        sequence: Number in the source's chain, from 1; rises, may skip the numbers of writers that died.
        host: Where it was taken.
        started_ns, finished_ns: [ns since the Unix epoch].
        manifest_root: Chunk id of the manifest's root.
        previous_sequence: Of the snapshot before it in the chain, 0 for the first.
        previous_sha256: SHA-256 of that snapshot's object [hex], empty for the first.
        parent_id: The snapshot whose unchanged files were not read again, or empty.
        paths: What was backed up.
        tags: The user's words.
        complete: Whether everything was saved; False where some files could not be read.
        warnings_count: How many.
        stats: Counts and sizes, the units in the names.
        facts: What the source says of itself, such as a cluster's log positions (docs/format.md §16). Never a secret.
        sha256: Of the object as stored [hex]; what the next snapshot's `previous_sha256` is. Not part of the body.
    """

    id: str
    name: str
    source: str
    sequence: int
    host: str
    started_ns: int
    finished_ns: int
    manifest_root: bytes
    previous_sequence: int
    previous_sha256: str
    parent_id: str
    paths: tuple[str, ...]
    tags: tuple[str, ...]
    complete: bool
    warnings_count: int
    stats: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str | int] = field(default_factory=dict)
    sha256: str = ""

    def body(self) -> dict[str, Any]:
        """Return the signed fields, as they are stored."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "source": self.source,
            "sequence": self.sequence,
            "host": self.host,
            "started_ns": self.started_ns,
            "finished_ns": self.finished_ns,
            "manifest_root": self.manifest_root.hex(),
            "previous_sequence": self.previous_sequence,
            "previous_sha256": self.previous_sha256,
            "parent_id": self.parent_id,
            "paths": list(self.paths),
            "tags": list(self.tags),
            "complete": self.complete,
            "warnings_count": self.warnings_count,
            "stats": self.stats,
        }
        if self.facts:  # a snapshot without any has the bytes that it always had
            body["facts"] = self.facts
        return body

    def to_json(self) -> dict[str, Any]:
        """Return the fields for people and programs."""
        return {"id": self.id, "name": self.name, **self.body(), "sha256": self.sha256}


def object_name(source_tag: str, sequence: int) -> str:
    """Return the name of a snapshot's object."""
    return f"{PREFIX}{source_tag}-{sequence:08d}"


def is_name(name: str) -> bool:
    """Say whether an object name is that of a snapshot."""
    return _NAME.fullmatch(name) is not None


def parse_name(name: str) -> tuple[str, int]:
    """Return (source tag, sequence) of a snapshot's object name.

    Raises:
        ObjectCorruptError: No writer makes such a name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ObjectCorruptError(f"{name}: not the name of a snapshot", object=name)
    return match[1], int(match[2])


def snapshot_id(repository_id: bytes, name: str) -> str:
    """Return the id that people use: 16 hex digits that follow from repository and name."""
    return blake3(repository_id + name.encode()).digest(SNAPSHOT_ID_BYTES).hex()


def storable_ns(time_ns: int) -> int:
    """Return the nearest time that a snapshot can hold [ns since the Unix epoch]: a dead clock may be before 1970."""
    return min(max(time_ns, 0), _NUMBERS_END - 1)


def refuse_many_words(source: str, host: str, paths: Sequence[str], tags: Sequence[str]) -> None:
    """Refuse what no snapshot can hold, before any work is done for one.

    Raises:
        UsageError: The words are too many or too long.
    """
    size_bytes = len(json.dumps([source, host, *paths, *tags]))
    if size_bytes > _MAX_WORDS_BYTES:
        raise UsageError(
            f"{len(paths)} paths and {len(tags)} tags: {size_bytes} bytes, a snapshot holds {_MAX_WORDS_BYTES} of them",
            hint="Name the folders that hold these files, and fewer tags; leave out what is not wanted with --exclude.",
        )


def encode_snapshot(keyring: Keyring, snapshot: Snapshot) -> bytes:
    """Return the object of a snapshot: signed, then sealed. The signature covers repository, name and body."""
    body = json.dumps(snapshot.body(), sort_keys=True, separators=(",", ":")).encode()
    signature = keyring.sign(_message(keyring, snapshot.name, body))
    return seal_single(keyring, KIND_SNAPSHOT, signature + body)


def decode_snapshot(keyring: Keyring, name: str, data: bytes) -> Snapshot:
    """Return the snapshot of an object, after checking seal, signature and fields.

    Raises:
        ObjectCorruptError: Damaged, or stored under another name.
        SignatureError: Sealed with the repository's key, but not signed by it.
        FormatVersionError: A newer format.
        SizeLimitError: Larger than a snapshot may be.
    """
    tag, sequence = parse_name(name)
    if len(data) > MAX_OBJECT_BYTES:
        raise SizeLimitError(f"{name}: {len(data)} bytes, over the cap of {MAX_OBJECT_BYTES}", object=name)
    plain = open_single(keyring, KIND_SNAPSHOT, data, name)
    signature, body = plain[:SIGNATURE_BYTES], plain[SIGNATURE_BYTES:]
    verify_signature(keyring.public_key, signature, _message(keyring, name, body), name)
    try:
        fields = json.loads(body)
        if fields["format"] != FORMAT:
            raise FormatVersionError(f"{name}: snapshot format {fields['format']!r}, this version reads {FORMAT}")
        snapshot = _parse(fields, name, keyring.repository_id, hashlib.sha256(data).hexdigest())
        found_tag = keyring.ids.source_tag(snapshot.source)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ObjectCorruptError(f"{name}: fields of the snapshot are damaged", object=name) from None
    if snapshot.sequence != sequence or found_tag != tag:
        raise ObjectCorruptError(f"{name}: snapshot belongs under another name", object=name)
    return snapshot


def encode_revoked(keyring: Keyring, name: str) -> bytes:
    """Return the mark that takes a snapshot's name from its writer. It holds the name: no other mark can stand in."""
    return seal_single(keyring, KIND_REVOKED, name.encode())


def is_revoked(keyring: Keyring, name: str, data: bytes) -> bool:
    """Say whether an object at a snapshot's name is the mark of a revoked writer.

    Raises:
        ObjectCorruptError, WrongKeyError: It says so and is not: it hides the snapshot that stood there.
    """
    if len(data) < HEADER_BYTES or data[KIND_OFFSET] != KIND_REVOKED:
        return False
    if open_single(keyring, KIND_REVOKED, data, name) != name.encode():
        raise ObjectCorruptError(f"{name}: the mark of another writer stands here", object=name)
    return True


def _parse(fields: dict[str, Any], name: str, repository_id: bytes, sha256: str) -> Snapshot:
    root = bytes.fromhex(fields["manifest_root"])
    if len(root) != CHUNK_ID_BYTES or not isinstance(fields["complete"], bool):
        raise ValueError
    return Snapshot(
        id=snapshot_id(repository_id, name),
        name=name,
        source=_text(fields["source"]),
        sequence=_count(fields["sequence"]),
        host=_text(fields["host"]),
        started_ns=_count(fields["started_ns"]),
        finished_ns=_count(fields["finished_ns"]),
        manifest_root=root,
        previous_sequence=_count(fields["previous_sequence"]),
        previous_sha256=_text(fields["previous_sha256"]),
        parent_id=_text(fields["parent_id"]),
        paths=tuple(map(_text, _of_kind(fields["paths"], list))),
        tags=tuple(map(_text, _of_kind(fields["tags"], list))),
        complete=fields["complete"],
        warnings_count=_count(fields["warnings_count"]),
        stats={name: _sum(value) for name, value in _of_kind(fields["stats"], dict).items()},
        facts={name: _fact(value) for name, value in _of_kind(fields.get("facts", {}), dict).items()},
        sha256=sha256,
    )


def _of_kind(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError
    return value


def _text(value: Any) -> str:
    return _of_kind(value, str)


def _fact(value: Any) -> str | int:
    return value if isinstance(value, str) else _sum(value)


def _count(value: Any) -> int:
    """Counts, sizes and times; below 2^63, so that a time [ns] is a date that can be shown."""
    number = _of_kind(value, int)
    if not 0 <= number < _NUMBERS_END:
        raise ValueError
    return number


def _sum(value: Any) -> int:
    """Any sum of counts and sizes: that of some sparse files is over 2^63."""
    number = _of_kind(value, int)
    if not 0 <= number < _SUMS_END:
        raise ValueError
    return number


def _message(keyring: Keyring, name: str, body: bytes) -> bytes:
    return _SIGNED + keyring.repository_id + name.encode() + b"\0" + body
