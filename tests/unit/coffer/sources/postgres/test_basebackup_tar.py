"""The archives of a base backup are taken apart, and what is no such archive is refused."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.errors import SourceFormatError
from coffer.sources.postgres.basebackup_tar import BLOCK, Kind, Member, TarParser, parse_header


def archive_of(*entries, strip=True):
    """Return a ustar archive; as PostgreSQL, without blocks of zeroes at its end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content, target in entries:
            info = tarfile.TarInfo(name)
            if target is not None:
                info.type, info.linkname = tarfile.SYMTYPE, target
            elif content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content or b""))
        end = archive.offset
    return buffer.getvalue()[:end] if strip else buffer.getvalue()


ENTRIES = [
    ("backup_label", b"START\n", None),
    ("base", None, None),
    ("base/5/1", b"x" * 8192, None),
    ("empty", b"", None),
    ("pg_tblspc/16393", None, "/srv/space one"),
    ("odd", b"y" * 513, None),
]


def take_apart(data, piece_bytes):
    """Return [(name, kind, content, target)] of an archive that arrives in pieces."""
    parser, found = TarParser("base.tar"), []
    for at in range(0, len(data), piece_bytes):
        for event in parser.feed(memoryview(data[at : at + piece_bytes])):
            if isinstance(event, Member):
                found.append([event.name, event.kind, b"", event.target, event.size_bytes])
            else:
                found[-1][2] += bytes(event)
    assert len(found) == parser.finish()
    assert all(len(content) == size for _, _, content, _, size in found)
    return found


@given(st.integers(1, 20000))
def test_the_size_of_the_pieces_does_not_matter(piece_bytes):
    """Names, kinds, contents and targets are the same however the bytes arrive."""
    found = take_apart(archive_of(*ENTRIES), piece_bytes)
    expected = [
        [
            name.encode(),
            Kind.LINK if target else Kind.FOLDER if content is None else Kind.FILE,
            content or b"",
            (target or "").encode(),
            len(content or b""),
        ]
        for name, content, target in ENTRIES
    ]
    assert expected == found


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a//b", "/", "a/.."])
def test_names_that_lead_elsewhere_are_refused(name):
    """A hostile server cannot make a restore write outside."""
    header = tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)
    changed = bytearray(header)
    changed[:100] = name.encode().ljust(100, b"\0")
    with pytest.raises(SourceFormatError, match="leads out"):
        parse_header(_signed(changed), "x")


def _signed(header):
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("kind", [b"1", b"3", b"L", b"x", b"\0", b"7"])
def test_other_kinds_of_members_are_refused(kind):
    """PostgreSQL sends files, folders and links."""
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    header[156:157] = kind
    with pytest.raises(SourceFormatError, match="unknown type"):
        parse_header(_signed(header), "x")


@pytest.mark.parametrize("at", [0, 100, 130, 150, 300])
def test_one_flipped_bit_in_a_header_is_found(at):
    """The header's own sum covers each of its bytes."""
    header = bytearray(tarfile.TarInfo("some/file").tobuf(tarfile.USTAR_FORMAT))
    header[at] ^= 1
    with pytest.raises(SourceFormatError, match="checksum"):
        parse_header(bytes(header), "x")


def test_sizes_beyond_8_gib_are_in_base_256():
    """The highest bit of the field says so; a size that no file has is refused."""
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"\x80" + (9 << 30).to_bytes(11, "big")
    assert 9 << 30 == parse_header(_signed(header), "x").size_bytes
    header[124:136] = b"\x80" + (1 << 80).to_bytes(11, "big")
    with pytest.raises(SourceFormatError, match="bytes"):
        parse_header(_signed(header), "x")


@pytest.mark.parametrize("missing", [1, 511, 512, 8192, 8703])
def test_a_truncated_archive_is_noticed(missing):
    """Wherever it ends inside a member."""
    parser = TarParser("base.tar")
    for _ in parser.feed(memoryview(archive_of(("a", b"z" * 8191, None))[:-missing])):
        pass
    with pytest.raises(SourceFormatError, match=r"base\.tar: ends inside member"):
        parser.finish()


def ended(data):
    """Return how many members an archive has that arrives in one piece."""
    parser = TarParser("base.tar")
    for _ in parser.feed(memoryview(data)):
        pass
    return parser.finish()


def test_an_archive_may_end_with_two_blocks_of_zeroes():
    """With or without them it is whole; with one, or with a member behind them, it is not."""
    whole = archive_of(("a", b"z", None))
    assert [1, 1] == [ended(whole), ended(whole + bytes(2 * BLOCK))]
    for count in (1, 3):
        with pytest.raises(SourceFormatError, match="inside its last two blocks"):
            ended(whole + bytes(count * BLOCK))
    with pytest.raises(SourceFormatError, match="comes behind the end"):
        ended(whole + bytes(2 * BLOCK) + whole)


@given(st.binary(min_size=BLOCK, max_size=4 * BLOCK).filter(lambda data: any(data[:BLOCK])))
def test_no_bytes_lead_to_another_error(data):
    """Garbage gives the typed error and nothing else."""
    with pytest.raises(SourceFormatError):
        list(TarParser("x").feed(memoryview(data)))
