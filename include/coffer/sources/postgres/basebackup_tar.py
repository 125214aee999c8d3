"""The tar stream of a base backup, taken apart as it arrives.

Source: POSIX ustar as PostgreSQL writes it (`src/port/tar.c`, `src/backend/backup/basebackup.c`, versions 15 to 18):
regular files, directories and symbolic links only; names of up to 99 bytes without a prefix; sizes beyond 8 GiB in
base 256. Some versions end an archive with two blocks of zeroes, some do not: the protocol says itself where it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from coffer.errors import SourceFormatError

BLOCK = 512
_END_BLOCKS = 2
_MAX_SIZE_BYTES = 1 << 50  # no file of a data folder comes near it; a relation segment has 1 GiB


class Kind(Enum):
    """What a member is; the value is its type flag."""

    FILE = b"0"
    LINK = b"2"
    FOLDER = b"5"


@dataclass(frozen=True, slots=True)
class Member:
    """A file, folder or symbolic link of the archive.

    Attributes:
        name: Relative path, `/` between its parts; never `..`, never absolute.
        kind: What it is.
        size_bytes: Of a file's content; 0 for the others.
        mode: Permission bits.
        uid: Owner's number on the server.
        gid: Group's number on the server.
        mtime_s: Time of the last change [s since the epoch].
        target: Of a link; empty for the others.
    """

    name: bytes
    kind: Kind
    size_bytes: int
    mode: int
    uid: int
    gid: int
    mtime_s: int
    target: bytes


Event = Member | memoryview


class TarParser:
    """Takes an archive apart, whatever the sizes of the pieces it arrives in. Holds one header at the most.

    A name that comes twice is not noticed here: whoever keeps the names does that.
    """

    def __init__(self, archive: str) -> None:
        """Begin an archive; `archive` names it in messages."""
        self._archive = archive
        self._header = bytearray()
        self._content_left = 0
        self._padding_left = 0
        self._members = 0
        self._zero_blocks = 0

    def feed(self, piece: memoryview) -> Iterator[Event]:
        """Yield what a piece holds, in order: a member, then its content in one or more views of the piece.

        The views are parts of `piece` and hold no copy. A member without content has no view. Consume all of it
        before the next call.

        Raises:
            SourceFormatError: Not such an archive; nothing after that can be trusted.
        """
        at, end = 0, len(piece)
        while at < end:
            if self._content_left:
                taken = min(self._content_left, end - at)
                self._content_left -= taken
                yield piece[at : at + taken]
                at += taken
            elif self._padding_left:
                taken = min(self._padding_left, end - at)
                self._padding_left -= taken
                at += taken
            else:
                taken = min(BLOCK - len(self._header), end - at)
                self._header += piece[at : at + taken]
                at += taken
                if len(self._header) < BLOCK:
                    continue
                if any(self._header):
                    yield self._begin()
                else:
                    self._zero_blocks += 1
                    self._header.clear()

    def finish(self) -> int:
        """Check that the archive ended between two members; return how many it had.

        Raises:
            SourceFormatError: It is truncated.
        """
        if self._header or self._content_left or self._padding_left:
            raise SourceFormatError(f"archive {self._archive}: ends inside member {self._members}")
        if self._zero_blocks not in (0, _END_BLOCKS):
            raise SourceFormatError(f"archive {self._archive}: ends inside its last two blocks")
        return self._members

    def _begin(self) -> Member:
        self._members += 1
        if self._zero_blocks:
            raise SourceFormatError(f"archive {self._archive}: member {self._members} comes behind the end")
        member = parse_header(bytes(self._header), f"archive {self._archive}, member {self._members}")
        self._header.clear()
        self._content_left = member.size_bytes
        self._padding_left = -member.size_bytes % BLOCK
        return member


def parse_header(header: bytes, what: str) -> Member:
    """Read one header [512 bytes].

    Args:
        header: The block.
        what: Names it in messages.

    Raises:
        SourceFormatError: Wrong checksum, an unknown type, a number that is none, or a name that leads elsewhere.
    """
    declared = _number(header[148:156], f"{what}: checksum")
    actual = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
    if declared != actual:
        raise SourceFormatError(f"{what}: header has checksum {actual}, declared {declared}")
    if header[257:262] != b"ustar" or header[345:346] != b"\0":
        raise SourceFormatError(f"{what}: not a header as PostgreSQL writes it")
    try:
        kind = Kind(header[156:157])
    except ValueError:
        raise SourceFormatError(f"{what}: unknown type {header[156:157]!r}") from None
    size_bytes = _number(header[124:136], f"{what}: size") if kind is Kind.FILE else 0
    if size_bytes > _MAX_SIZE_BYTES:
        raise SourceFormatError(f"{what}: {size_bytes} bytes")
    return Member(
        name=_safe_name(_text(header[:100]), what),
        kind=kind,
        size_bytes=size_bytes,
        mode=_number(header[100:108], f"{what}: mode") & 0o7777,
        uid=_number(header[108:116], f"{what}: owner"),
        gid=_number(header[116:124], f"{what}: group"),
        mtime_s=_number(header[136:148], f"{what}: time"),
        target=_text(header[157:257]) if kind is Kind.LINK else b"",
    )


def _text(field: bytes) -> bytes:
    return field.split(b"\0", 1)[0]


def _number(field: bytes, what: str) -> int:
    """Read an octal number, or one in base 256, which the highest bit of the first byte announces."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.rstrip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise SourceFormatError(f"{what}: {field!r} is no octal number")
    return int(digits, 8)


def _safe_name(name: bytes, what: str) -> bytes:
    """Return a member's name without `./` and a slash at its end, if it stays below the data folder.

    The server itself writes `./pg_wal/archive_status`.
    """
    bare = name.rstrip(b"/")
    parts = bare.split(b"/")
    named = [part for part in parts if part != b"."]
    if not named or bare.startswith(b"/") or b".." in parts or b"" in parts:
        raise SourceFormatError(f"{what}: the name {name!r} leads out of the data folder, or nowhere")
    return b"/".join(named)
