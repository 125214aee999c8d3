"""The parsers of what a PostgreSQL server sends, and of what is kept of it."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from coffer.postgres import wal_object
from coffer.postgres.backup_label import BackupLabel
from coffer.postgres.backup_manifest import ManifestFile, ManifestParser, ManifestWriter, WalRange
from coffer.postgres.facts import ClusterFacts, Method
from coffer.postgres.lsn import Lsn
from coffer.postgres.page import PAGE_BYTES, bad_pages
from coffer.postgres.record import ClusterRecord
from coffer.postgres.relation_path import parse_relation_path, split_incremental
from coffer.postgres.timeline import History
from coffer.postgres.wal_header import parse_wal_header
from coffer.postgres.wal_object import (
    WalHead,
    decode_history,
    encode_history,
    encode_range,
    open_range,
    parse_range_name,
    range_name,
)
from coffer.postgres.wal_records import moments
from coffer.sources.postgres.basebackup_tar import TarParser
from coffer.sources.postgres.incremental_file import MAGIC, header_length, parse_header
from tests.fuzz.mutating import mutated, mutated_json
from tests.fuzz.target import MIB, Target
from tests.harness.keyrings import make_keyring
from tests.vectors.making import SNAPSHOT

KEYRING = make_keyring()
TAG = "0123abcd"
START = Lsn(0x2000000)

# ------------------------------------------------------------------------------------------------ on the wire


def _tar(data: bytes) -> None:
    parser = TarParser("base.tar")
    for at in range(0, len(data), 1000):
        for event in parser.feed(memoryview(data[at : at + 1000])):
            assert event is not None
    parser.finish()


def _tar_sample() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in (("PG_VERSION", b"15\n"), ("base/5/1259", b"p" * 8192), ("empty", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        return buffer.getvalue()[: archive.offset]


def _grow_tar(draw: Random, samples: Sequence[bytes]) -> bytes:
    """Change a header, and make its checksum right again: else no change would get past it."""
    data = bytearray(mutated(draw, samples))
    if len(data) >= 512 and draw.randrange(4):
        header = data[:512]
        total = sum(header[:148]) + 8 * ord(" ") + sum(header[156:])
        data[148:156] = f"{total:06o}".encode()[:6] + b"\0 "
    return bytes(data)


def _manifest(data: bytes) -> None:
    parser = ManifestParser()
    for at in range(0, len(data), 700):
        list(parser.feed(data[at : at + 700]))
    parser.finish()


def _manifest_sample(system_id: int | None) -> bytes:
    writer = ManifestWriter(system_id)
    files = [ManifestFile(b"base/5/1259", 8192, "2026-11-25 05:38:17 GMT", "CRC32C", b"abcd")]
    files += [ManifestFile(b"odd \xff", 0, "2026-11-25 05:38:17 GMT", "NONE", b"")]
    return b"".join([writer.head(), *map(writer.file, files), writer.tail([WalRange(1, START, START.after(100))])])


def _changed_blocks(data: bytes) -> None:
    length = header_length(data[:12], "x")
    parse_header(data[:length], len(data), "x")


def _changed_blocks_sample(blocks: list[int]) -> bytes:
    header = struct.pack(f"<III{len(blocks)}I", MAGIC, len(blocks), 10, *blocks)
    header += bytes(-len(header) % PAGE_BYTES if blocks else 0)
    return header + bytes(PAGE_BYTES * len(blocks))


def _pages(data: bytes) -> None:
    bad_pages(data, 0)
    bad_pages(data, 131_072, written_before=1 << 40)


def _paths(data: bytes) -> None:
    parse_relation_path(data)
    split_incremental(data)


# ------------------------------------------------------------------------------------------------ files of a server

_LABEL = b"""START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
CHECKPOINT LOCATION: 0/2000060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-11-25 05:38:17 UTC
LABEL: coffer
START TIMELINE: 1
"""
_HISTORY = b"1\t0/3000000\tno recovery target specified\n\n2\t0/5000148\tbefore 2026-11-25\n"
# Magic of 15, long header, timeline 1, address, no rest of a record; then cluster, segment size, page size.
_WAL_PAGE = struct.pack("<HHIQI4xQII", 0xD110, 2, 1, START, 0, 7, 16 * MIB, PAGE_BYTES)
_RECORD = struct.pack("<IIQBB2xI", 24 + 2 + 8, 5, 0, 0x00, 1, 0) + bytes((255, 8)) + bytes(8)


def _records(data: bytes) -> None:
    for _ in moments([data[at : at + 5000] for at in range(0, len(data), 5000)], START, 16 * MIB):
        pass


# ------------------------------------------------------------------------------------------------ what is kept


def _head(data: bytes, end: int = 0) -> WalHead:
    hasher = KEYRING.ids.wal_hasher()
    hasher.update(data)
    return WalHead(TAG, 7, 1, START, START.after(end or len(data)), 16 * MIB, 1, hasher.digest())


def _range_sample(data: bytes) -> bytes:
    return b"".join(bytes(part) for part in encode_range(KEYRING, _head(data), data))


def _wal_object(data: bytes) -> None:
    ref = parse_range_name(range_name(TAG, 1, START, START.after(5000)), len(data))
    assert ref is not None
    opened = open_range(KEYRING, ref, data)
    list(opened.frames(0, data[opened.offsets[0] :]))


def _wal_history(data: bytes) -> None:
    decode_history(KEYRING, f"wal/{TAG}/00000003.history", data)


def _facts(data: bytes) -> None:
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(facts, dict):
        # A snapshot's reader lets texts and numbers through, and nothing else.
        ClusterFacts.of(replace(SNAPSHOT, facts={k: v for k, v in facts.items() if type(v) in (str, int)}))


FACTS = ClusterFacts(7, 150018, Method.FULL, 1, START, START.after(100), 1, 16 * MIB)

TARGETS: dict[str, Target] = {
    "archive of a base backup": Target(_tar, [_tar_sample()], _grow_tar),
    "backup manifest": Target(_manifest, [_manifest_sample(7), _manifest_sample(None)]),
    "file of changed blocks": Target(_changed_blocks, [_changed_blocks_sample([]), _changed_blocks_sample([1, 5])]),
    "pages": Target(_pages, [bytes(2 * PAGE_BYTES), b"\x01" * PAGE_BYTES], room_bytes=48 * MIB),
    "path of a relation": Target(_paths, [b"base/5/16384_fsm.1", b"pg_tblspc/1/PG_15_202209061/5/INCREMENTAL.7"]),
    "backup label": Target(BackupLabel.parse, [_LABEL]),
    "timeline history": Target(lambda data: History.parse(3, data), [_HISTORY]),
    "header of WAL": Target(lambda data: parse_wal_header(data, "x"), [_WAL_PAGE]),
    "records of WAL": Target(_records, [_WAL_PAGE + _RECORD * 20, (_WAL_PAGE + _RECORD * 250).ljust(8192, b"\0") * 3]),
    "saved WAL": Target(_wal_object, [_range_sample(b"w" * 5000)], room_bytes=96 * MIB),
    "head of saved WAL": Target(
        lambda data: wal_object._parse_head("x", data),
        [replace(_head(b"w" * 5000), frames=((1, 60),)).to_json()],
        mutated_json,
        64 * MIB,
    ),
    "saved history": Target(
        _wal_history, [encode_history(KEYRING, TAG, 3, _HISTORY, system_id=7, saved_ns=1)], room_bytes=48 * MIB
    ),
    "facts of a cluster": Target(_facts, [json.dumps(FACTS.to_snapshot()).encode()], mutated_json),
    "record of a cluster": Target(
        ClusterRecord.decode, [ClusterRecord("15.18", {5: "postgres"}, {}, {"a": "b"}).encode()], mutated_json, 64 * MIB
    ),
}
