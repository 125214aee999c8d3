"""The manifest of a base backup: read as it arrives, and written for a restored cluster.

Source: PostgreSQL documentation, "Backup Manifest Format" (version 1 of 13 to 16, version 2 from 17 on), and
`src/backend/backup/backup_manifest.c`, which writes one file a line. That layout is relied upon, so that a manifest of
a million files needs the memory of one line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from coffer.errors import SourceFormatError
from coffer.postgres.lsn import Lsn

MAX_LINE_BYTES = 16 << 10  # a path has at most 1,024 bytes, in hexadecimal 2,048 characters
MAX_RANGES = 100_000  # of WAL: one for each timeline that a backup spans
_ALGORITHMS = frozenset({"NONE", "CRC32C", "SHA224", "SHA256", "SHA384", "SHA512"})


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file that the backup holds.

    Attributes:
        path: Relative to the data folder.
        size_bytes: Of its content.
        modified: Time of its last change, as the server writes it ("2026-11-25 05:38:17 GMT").
        algorithm: Of its checksum: CRC32C, SHA256 and others, or NONE.
        checksum: Its bytes in the order of the text; of CRC32C the lowest byte is first. Empty with NONE.
    """

    path: bytes
    size_bytes: int
    modified: str
    algorithm: str
    checksum: bytes


@dataclass(frozen=True, slots=True)
class WalRange:
    """WAL that a backup needs to become consistent: from `start` up to, and without, `end`."""

    timeline: int
    start: Lsn
    end: Lsn


@dataclass(slots=True)
class ManifestFacts:
    """What a manifest says apart from its files.

    Attributes:
        version: 1 or 2.
        system_id: Of the cluster; None in version 1, which does not say it.
        ranges: Oldest first.
        files: Count of files.
    """

    version: int = 0
    system_id: int | None = None
    ranges: list[WalRange] = field(default_factory=list)
    files: int = 0


class ManifestParser:
    """Reads a manifest that arrives in pieces of any size. Holds one line.

    Nothing is proved until `finish` has compared the checksum of the whole.
    """

    def __init__(self) -> None:
        self.facts = ManifestFacts()
        self._hash = hashlib.sha256()
        self._rest = b""
        self._line = 0
        self._part = "head"

    def feed(self, piece: bytes | memoryview) -> Iterator[ManifestFile]:
        """Yield the files of the lines that this piece completes, in the server's order.

        Raises:
            SourceFormatError: Not a manifest.
        """
        *lines, self._rest = (self._rest + bytes(piece)).split(b"\n")
        for line in lines:
            found = self._take(line + b"\n")
            if found is not None:
                self.facts.files += 1
                yield found
        if len(self._rest) > MAX_LINE_BYTES:
            raise self._wrong(f"longer than {MAX_LINE_BYTES} bytes")

    def finish(self) -> ManifestFacts:
        """Check that the manifest is whole and unaltered, and return what it says.

        Raises:
            SourceFormatError: Truncated, altered, or something follows it.
        """
        if self._part != "end" or self._rest:
            raise self._wrong("the manifest ends here, or does not end where it should")
        return self.facts

    def _take(self, line: bytes) -> ManifestFile | None:
        self._line += 1
        text = line.strip()
        if self._part == "end":
            raise self._wrong("something follows the checksum")
        if self._part == "tail" and text.startswith(b'"Manifest-Checksum"'):
            self._compare(text)
            return None
        self._hash.update(line)
        if self._part == "files" and text != b"],":
            return self._file(text)
        if self._part == "ranges" and text != b"],":
            self._range(text)
        else:
            self._turn(text)
        return None

    def _turn(self, text: bytes) -> None:
        """Take a line that stands between the lists."""
        facts = self.facts
        if self._part == "head" and text.startswith(b'{ "PostgreSQL-Backup-Manifest-Version"'):
            facts.version = self._integer(self._object(text.rstrip(b",") + b"}"), "PostgreSQL-Backup-Manifest-Version")
            if facts.version not in (1, 2):
                raise self._wrong(f"version {facts.version}, known are 1 and 2")
        elif self._part == "head" and facts.version == 2 and text.startswith(b'"System-Identifier"'):
            facts.system_id = self._integer(self._object(b"{" + text.rstrip(b",") + b"}"), "System-Identifier")
        elif self._part == "head" and facts.version and text == b'"Files": [':
            self._part = "files"
        elif self._part == "files":
            self._part = "between"
        elif self._part == "between" and text == b'"WAL-Ranges": [':
            self._part = "ranges"
        elif self._part == "ranges":
            self._part = "tail"
        else:
            raise self._wrong("not what is expected here")

    def _file(self, text: bytes) -> ManifestFile:
        entry = self._object(text.rstrip(b","))
        try:
            encoded = entry.get("Encoded-Path")
            path = bytes.fromhex(encoded) if encoded is not None else entry["Path"].encode()
            algorithm = entry.get("Checksum-Algorithm", "NONE")
            checksum = bytes.fromhex(entry.get("Checksum", ""))
            modified = entry.get("Last-Modified", "")
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._wrong("not a file's entry") from None
        if not path or algorithm not in _ALGORITHMS or not isinstance(modified, str):
            raise self._wrong("not a file's entry")
        return ManifestFile(path, self._integer(entry, "Size"), modified, algorithm, checksum)

    def _range(self, text: bytes) -> None:
        entry = self._object(text.rstrip(b","))
        try:
            found = WalRange(
                self._integer(entry, "Timeline"), Lsn.parse(entry["Start-LSN"]), Lsn.parse(entry["End-LSN"])
            )
        except (KeyError, TypeError):
            raise self._wrong("not a range of WAL") from None
        if found.end < found.start or len(self.facts.ranges) >= MAX_RANGES:
            raise self._wrong("a range of WAL that ends before it begins, or too many of them")
        self.facts.ranges.append(found)

    def _compare(self, text: bytes) -> None:
        declared = self._object(b"{" + text).get("Manifest-Checksum")
        if declared != self._hash.hexdigest():
            raise self._wrong("the manifest's checksum does not match: it was altered")
        self._part = "end"

    def _object(self, text: bytes) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise self._wrong("no JSON") from None
        if not isinstance(found, dict):
            raise self._wrong("no JSON object")
        return found

    def _integer(self, entry: dict[str, Any], key: str) -> int:
        found = entry.get(key)
        if type(found) is not int or not 0 <= found < 1 << 64:
            raise self._wrong(f"{key} is {str(found)[:40]!r}")
        return found

    def _wrong(self, what: str) -> SourceFormatError:
        return SourceFormatError(f"backup manifest, line {self._line}: {what}", line=self._line)


class ManifestWriter:
    """Writes a manifest piece by piece, as `pg_verifybackup` and `pg_combinebackup` read it."""

    def __init__(self, system_id: int | None) -> None:
        """Begin one; `system_id` None makes version 1, which PostgreSQL up to 16 knows."""
        self._hash = hashlib.sha256()
        self._system_id = system_id
        self._is_first = True

    def head(self) -> bytes:
        """Return what stands before the files."""
        version = 1 if self._system_id is None else 2
        system = "" if self._system_id is None else f'"System-Identifier": {self._system_id},\n'
        return self._out(f'{{ "PostgreSQL-Backup-Manifest-Version": {version},\n{system}"Files": [')

    def file(self, entry: ManifestFile) -> bytes:
        """Return a file's line. Paths that are no text are written in hexadecimal."""
        begin, self._is_first = "\n" if self._is_first else ",\n", False
        try:
            path = f'"Path": {json.dumps(entry.path.decode(), ensure_ascii=False)}'
        except UnicodeDecodeError:
            path = f'"Encoded-Path": "{entry.path.hex()}"'
        parts = [path, f'"Size": {entry.size_bytes}', f'"Last-Modified": {json.dumps(entry.modified)}']
        if entry.algorithm != "NONE":
            parts += [f'"Checksum-Algorithm": "{entry.algorithm}"', f'"Checksum": "{entry.checksum.hex()}"']
        return self._out(f"{begin}{{ {', '.join(parts)} }}")

    def tail(self, ranges: list[WalRange]) -> bytes:
        """Return what stands behind the files; the manifest is whole with it."""
        lines = ",\n".join(
            f'{{ "Timeline": {found.timeline}, "Start-LSN": "{found.start}", "End-LSN": "{found.end}" }}'
            for found in ranges
        )
        body = self._out(f'\n],\n"WAL-Ranges": [\n{lines}\n],\n')
        return body + f'"Manifest-Checksum": "{self._hash.hexdigest()}"}}\n'.encode()

    def _out(self, text: str) -> bytes:
        data = text.encode()
        self._hash.update(data)
        return data
