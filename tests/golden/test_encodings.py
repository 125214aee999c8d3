"""Encodings with fixed digests: whatever changes one of these bytes changes the format (docs/format.md §15).

A digest is changed here only together with the number of the format, a new folder in tests/compat, and a line in
docs/format.md. Compressed and sealed bytes are not fixed: zstd may change, and every object has a salt of its own.
"""

import hashlib
import json
import random

import pytest

from coffer.chunking.cutter import ChunkParams, Cutter
from coffer.crypto.kdf import Argon2Params
from coffer.crypto.keyring import CHUNK_ID
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_object import WalHead, encode_history, encode_range
from coffer.repository.blocks import Group, encode_content, encode_stable, encode_times
from coffer.repository.columns import pack_ints
from coffer.repository.entries import Extent
from coffer.repository.manifest import BlockRef, encode_list, encode_root
from coffer.repository.pack import PackBuilder
from coffer.repository.settings import new_settings
from coffer.repository.snapshot import encode_snapshot
from coffer.sources.assembly.blockcut import cut_blocks, fingerprint
from tests.harness.keyrings import KEYS, make_keyring, random_again
from tests.harness.manifests import chunk_id, row, sample_groups
from tests.harness.manual_clock import ManualClock
from tests.harness.repositories import make_snapshot


def _pack():
    with random_again("golden pack"):
        builder = PackBuilder(make_keyring())
    builder.add(chunk_id(1), 1, 0, b"payload", 7)
    builder.add(chunk_id(2), 2, 1, b"other payload", 70)
    return b"".join(builder.finish().parts)


def _snapshot():
    with random_again("golden snapshot"):
        return encode_snapshot(make_keyring(), make_snapshot(make_keyring()))


def _settings():
    with random_again("golden settings"):
        return new_settings("key-file", ChunkParams(), Argon2Params(), ManualClock()).raw


def _root():
    blocks = [
        BlockRef(b"", b"etc", 9, 1 << 40, b"f" * 16, chunk_id(1), chunk_id(2), chunk_id(3)),
        BlockRef(b"srv/\xff", b"a", 1, 0, bytes(16), chunk_id(4), chunk_id(5), None),
    ]
    return encode_root(blocks, frozenset({chunk_id(9), chunk_id(8)}))


def _columns():
    return b"".join(
        pack_ints(values)
        for values in ([], [0], [5] * 99, [1, -2, 3], list(range(0, 99999, 77)), [1 << 63, 0], [1 << 90, -1])
    )


def _cuts():
    """The lengths that a fixed stream is cut into: other cuts find no old chunk again."""
    text = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(8192))
    seed = make_keyring().ids.chunker_seed
    lengths = []
    for params in (ChunkParams(min_bytes=1024, avg_bytes=4096, max_bytes=16384), ChunkParams(method="fixed")):
        at = 0

        def readinto(view, stream=text):
            nonlocal at
            piece = stream[at : at + len(view)]
            view[: len(piece)] = piece
            at += len(piece)
            return len(piece)

        lengths.append([len(chunk) for chunk in Cutter(params, seed).cut(readinto)])
    return json.dumps(lengths).encode()


def _ids():
    ids = make_keyring().ids
    told = [ids.chunk_id(b"x", type_).hex() for type_ in (1, 2, 3, 4)]
    told += [
        ids.content_id(b"x").hex(),
        ids.extents_id([(chunk_id(1), 0, 5), (None, 0, 7)]).hex(),
        ids.source_tag("home"),
    ]
    return json.dumps([*told, ids.chunker_seed]).encode()


def _wal_range():
    data = random.Random(1).randbytes(1_200_000)  # no frame shrinks, so that no compressed byte is fixed
    ids = make_keyring().ids.wal_hasher()
    ids.update(data)
    start = Lsn.parse("1/23456789")
    end, saved_ns = start.after(len(data)), ManualClock().now_ns()
    head = WalHead("0123abcd", 7_123_456_789_012_345_678, 3, start, end, 1 << 24, saved_ns, ids.digest())
    with random_again("golden wal range"):
        return b"".join(encode_range(make_keyring(), head, data))


def _wal_history():
    content = b"1\t0/5000148\tno recovery target specified\n"
    with random_again("golden wal history"):
        return encode_history(make_keyring(), "0123abcd", 2, content, system_id=7, saved_ns=ManualClock().now_ns())


def _block_cuts():
    """How many entries each block has: other cuts store whole manifests anew."""
    folders = [b"f%05d" % n for n in range(3000)]
    groups = [Group(folder, [b"%d" % n for n in range(7)], [row()] * 7) for folder in folders]
    groups.append(Group(b"huge", [b"%06d" % n for n in range(30_000)], [row()] * 30_000))
    return json.dumps([sum(len(group.names) for group in block) for block in cut_blocks(groups)]).encode()


GOLDEN = {
    "columns": "d0e31b2983da058e187740efff44c6705dda89cb6c3949f1edeb48f8bd33d76c",
    "stable section": "aaa27af65f67c13f1caabe428bde0b26cf212306de455a53b32d30bd602c8dee",
    "times section": "8914d9ceed4efab489ffab708b9099c0a8267bc9e4e8906650a352544c9f919d",
    "content section": "ae3e65ec246e7afa9ddf181b47caf626a36a14cb71969454369721dfba0d301e",
    "root": "656cf8fa17d3fe2122b55a549a35038500f49ca8c0bc8b06cd8b4d3035de0d1b",
    "list": "277471e84448fd1b6f0830b60f9ce1c1a280eb045302ae4e6f4882739c5c8774",
    "settings": "3a50d906574f822b43d9c4a7f85511957dbcfc100e71a1107ecdd7c9f31568d3",
    "snapshot": "36199e5d7ee951e998aaa21b0735e5890f41b3f79121cda7ee3b7b99353c64ec",
    "pack": "ff6e7e6c03019ee5bf1b019e560214766d4a7a635c0e20dc5651d909dc78a330",
    "ids": "105bb37969f493221e134ae514961ae860e68b164846ee83d2b2d0fc7235af92",
    "cuts": "697ca7ec4c94633468038f684d9dfc4cfcf7220fd1122e6f16c0befe766cb207",
    "fingerprint": "55f0c595f21dfaafcc810ad9cb7755bbf284fff1b29704aebc583fd6407fb3e9",
    "block cuts": "8da82e4fa062db9d1ffde71eca7e9f5587b00f343252b471b89455e06e0f6bbf",
    "wal range": "00dc6772d5d83345cdbd8e4e508e4579f1b3d1ede820b86465242e2272853519",
    "wal history": "94e26faddef3944e0fb4ab53732058f245b90ffdd9d0903ec61a30fb04d87ea4",
}


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("columns", _columns),
        ("stable section", lambda: encode_stable(sample_groups())),
        ("times section", lambda: encode_times(sample_groups())),
        ("content section", lambda: encode_content(sample_groups())),
        ("root", _root),
        ("list", lambda: encode_list([Extent(chunk_id(1), 5, 10), Extent(None, 0, 1 << 40)])),
        ("settings", _settings),
        ("snapshot", _snapshot),
        ("pack", _pack),
        ("ids", _ids),
        ("wal range", _wal_range),
        ("wal history", _wal_history),
        ("cuts", _cuts),
        ("fingerprint", lambda: fingerprint(sample_groups())),
        ("block cuts", _block_cuts),
    ],
)
def test_an_encoding_keeps_its_digest(name, encoded):
    """SHA-256 of the bytes that a sample is encoded to, as it was when the format was written down."""
    assert GOLDEN[name] == hashlib.sha256(encoded()).hexdigest()


def test_the_keys_of_the_samples_are_the_ones_that_the_digests_were_made_with():
    """A change of the test keys would look like a change of the format."""
    assert b"test chunk-id key, not a secret!" == KEYS[CHUNK_ID, 0]
