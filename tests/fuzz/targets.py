"""The parsers of a repository: how it is called, what it is fed, and how much memory it may take.

Inner parsers get their hostile bytes sealed with the right key: else authentication would hide them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import zstandard

from coffer.backends.memory import MemoryBackend
from coffer.compression import CODEC_ZSTD, decompress
from coffer.config.loading import load_policy
from coffer.crypto.kek import Kek, KeyFileUnlocker
from coffer.crypto.keyring import WrapContext, unwrap_key, wrap_key
from coffer.crypto.seal import (
    KIND_CHECKPOINT,
    KIND_INDEX,
    KIND_LEASE,
    KIND_REVOKED,
    KIND_SNAPSHOT,
    open_single,
    seal_single,
)
from coffer.errors import ChunkMissingError, CofferError
from coffer.ids import ChunkId, PackId, pack_name
from coffer.repository import checkpoint, lease
from coffer.repository.blocks import decode_block, encode_content, encode_stable, encode_times
from coffer.repository.columns import pack_ints, unpack_blob, unpack_ints
from coffer.repository.entries import Content, Extent
from coffer.repository.heads import Head, HeadStore
from coffer.repository.index import ChunkIndex, read_segment
from coffer.repository.manifest import ManifestReader, decode_list, encode_list
from coffer.repository.pack import MAX_RAW_BYTES, TYPE_LIST, TYPE_ROOT, iter_rows, read_table
from coffer.repository.reader import ChunkReader
from coffer.repository.settings import NAME, new_settings, read_settings
from coffer.repository.snapshot import MAX_OBJECT_BYTES, decode_snapshot, encode_revoked, encode_snapshot, is_revoked
from tests.fuzz.mutating import hostile_integers, mutated, mutated_json
from tests.fuzz.target import MIB, Target
from tests.harness.keyrings import REPOSITORY_ID, make_keyring
from tests.harness.manifests import DictStore, chunk_id, sample_groups
from tests.vectors.making import SNAPSHOT, Chunk, chunks, group, pack, segment, snapshot

KEYRING = make_keyring()


# ------------------------------------------------------------------------------------------------ in the clear

KEK = Kek(b"k" * 32, b"c" * 32)
CONTEXT = WrapContext.of(REPOSITORY_ID, b"{}")


def _settings(data: bytes) -> None:
    store = MemoryBackend()
    store.put(NAME, [data])
    read_settings(store)


def _settings_sample() -> bytes:
    from coffer.chunking.cutter import ChunkParams
    from coffer.crypto.kdf import Argon2Params
    from tests.harness.manual_clock import ManualClock

    return new_settings("key-file", ChunkParams(), Argon2Params(), ManualClock()).raw


def _key_file(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=_memory_folder()) as file:
        file.write(data)
        file.flush()
        KeyFileUnlocker.load(Path(file.name))


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _heads(data: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        Path(folder, f"{REPOSITORY_ID.hex()}.json").write_bytes(data)
        store = HeadStore(Path(folder))
        store.heads(REPOSITORY_ID)
        assert store.remember(REPOSITORY_ID, "tag", Head(1 << 62, "a" * 64))


def _policy(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=_memory_folder(), suffix=".yaml") as file:
        file.write(data)
        file.flush()
        load_policy(Path(file.name))


def _policy_sample() -> bytes:
    return Path(__file__).resolve().parents[2].joinpath("config", "coffer.yaml").read_bytes()


_YAML = [
    b": ",
    b"- ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
    b"!!python/object ",
    b"!!int ",
    b"<<: *a",
    b"|\n",
    b"? ",
    b"'",
]
_YAML += [
    b'"',
    b"#",
    b"---\n",
    b"...\n",
    b"\t",
    b"\xef\xbb\xbf",
    b"\0",
    b"\xff",
    b"null",
    b".inf",
    b"1e999",
    b"0x",
    b"9" * 50,
]


def _grow_policy(draw: Random, samples: Sequence[bytes]) -> bytes:
    """Lines and YAML's own signs are what matters in a policy."""
    lines = draw.choice(samples).splitlines(keepends=True)
    for _ in range(draw.randrange(1, 6)):
        at = draw.randrange(len(lines)) if lines else 0
        way = draw.randrange(5)
        if way == 0:
            lines[at : at + draw.randrange(5)] = []
        elif way == 1:
            lines[at:at] = lines[draw.randrange(len(lines) + 1) :][: draw.randrange(6)]
        elif way == 2 and lines:
            cut = draw.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:cut] + draw.choice(_YAML) + lines[at][cut:]
        elif way == 3 and lines:
            lines[at] = b" " * draw.randrange(9) + lines[at].lstrip()
        elif lines:
            name, colon, _ = lines[at].partition(b":")
            lines[at] = name + colon + b" " + draw.choice([*_YAML, b"-1", b"yes", b"5MB", b"30d"]) + b"\n"
    text = b"".join(lines)
    return mutated(draw, [text]) if draw.randrange(10) == 0 else text


# ------------------------------------------------------------------------------------------------ sealed


def _pack(data: bytes) -> None:
    store, index = MemoryBackend(), ChunkIndex()
    pack_id = PackId(hashlib.sha256(data).digest())
    store.put(pack_name(pack_id), [data])
    index.add_table(pack_id, read_table(store, KEYRING, pack_id, len(data)))
    reader = ChunkReader(store, KEYRING, index)
    for found, where in index.iter_pack(pack_id):
        with contextlib.suppress(CofferError):
            reader.read(found, where.type)


def _grow_pack(draw: Random, samples: Sequence[bytes]) -> bytes:
    """A pack with true seals whose rows, payloads and trailer lie."""
    if draw.randrange(4) == 0:
        return mutated(draw, samples)
    lying = []
    for _ in range(draw.randrange(1, 5)):
        payload = mutated(draw, [zstandard.compress(b"text " * 300), b"payload", b""])
        row = {"raw_length": draw.choice([0, 1, len(payload), 1500, MAX_RAW_BYTES, MAX_RAW_BYTES + 1, (1 << 32) - 1])}
        for name in ("offset", "sealed_length"):
            if draw.randrange(3) == 0:
                row[name] = hostile_integers(draw, 1)[0] & 0xFFFF_FFFF
        lying.append(Chunk(b"text " * 300, codec=draw.choice([0, 1, 1, 2, 255]), payload=payload, **row))
    trailer = {}
    if draw.randrange(3) == 0:
        trailer[draw.choice(["offset", "length", "rows"])] = hostile_integers(draw, 1)[0] & 0xFFFF_FFFF
    return pack(lying, trailer=trailer)


def _segment(plain: bytes) -> None:
    data, name = segment(plain)
    _read_segment(name, data)


def _read_segment(name: str, data: bytes) -> None:
    store, index = MemoryBackend(), ChunkIndex()
    store.put(name, [data])
    for pack_id, table in read_segment(store, KEYRING, name, len(data)):
        index.add_table(pack_id, table)


def _raw_segment(data: bytes) -> None:
    _read_segment("index/" + hashlib.sha256(data).hexdigest(), data)


def _object(data: bytes) -> None:
    for kind in (KIND_LEASE, KIND_SNAPSHOT, KIND_INDEX):
        with contextlib.suppress(CofferError):
            open_single(KEYRING, kind, data, "x")
    is_revoked(KEYRING, SNAPSHOT.name, data)
    decode_snapshot(KEYRING, SNAPSHOT.name, data)


def _lease(body: bytes) -> None:
    store = MemoryBackend()
    store.put("leases/x", [seal_single(KEYRING, KIND_LEASE, body)])
    lease.deadline_ns(store, KEYRING, "leases/x")


def _checkpoint(body: bytes) -> None:
    data = seal_single(KEYRING, KIND_CHECKPOINT, body)
    name = f"checkpoints/0123abcd-{1:020d}"
    store = MemoryBackend()
    store.put(name, [data])
    checkpoint.newest(store, KEYRING, "0123abcd")
    checkpoint.read(store, KEYRING, name, len(data))


def _revoked(body: bytes) -> None:
    is_revoked(KEYRING, SNAPSHOT.name, seal_single(KEYRING, KIND_REVOKED, body))


def _snapshot_body(body: bytes) -> None:
    decode_snapshot(KEYRING, SNAPSHOT.name, snapshot(body=body)).to_json()


def _decompress(data: bytes) -> None:
    """The first four bytes are the length that was authenticated."""
    (length,) = struct.unpack("<I", data[:4].ljust(4, b"\0"))
    decompress(CODEC_ZSTD, data[4:], min(length, MAX_RAW_BYTES), "x")


def _zstd_samples() -> list[bytes]:
    texts = [b"", b"x", b"text " * 300, bytes(MIB), bytes(MAX_RAW_BYTES), bytes(range(256)) * 40]
    whole = [struct.pack("<I", len(text)) + zstandard.compress(text) for text in texts]
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, write_content_size=True)
    whole.append(struct.pack("<I", 1500) + zstandard.ZstdCompressor(compression_params=wide).compress(texts[2]))
    return whole


# ------------------------------------------------------------------------------------------------ manifests


def _columns(data: bytes) -> None:
    at = 0
    while at < len(data):
        _, at = unpack_ints(data, at, "x", 1 << 18)
        _, at = unpack_blob(data, at, "x")


def _joined(*sections: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(section)) + section for section in sections)


def _block(data: bytes) -> None:
    """Three sections, each with its length before it; whatever is missing is empty."""
    sections, at = [], 0
    for _ in range(3):
        (length,) = struct.unpack("<I", data[at : at + 4].ljust(4, b"\0"))
        sections.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    for found in decode_block(*sections, "x"):
        for entry in found.entries():
            assert entry.kind


def _block_sample() -> bytes:
    groups = sample_groups()
    return _joined(encode_stable(groups), encode_times(groups), encode_content(groups))


def _grow_block(draw: Random, samples: Sequence[bytes]) -> bytes:
    """Sections that are whole, of columns that lie."""
    if draw.randrange(3) == 0:
        return mutated(draw, samples)
    names = [b"%d" % n for n in range(draw.choice([1, 2, 3, 50] * 50 + [70_000]))]
    count = len(names)
    good = {
        "counts": [count],
        **dict.fromkeys(("uid", "gid", "ino", "dev", "nlink", "mtime", "ctime"), [1] * count),
        "mode": [0o100644] * count,
        "size": [5] * count,
        "places": list(range(count)),
        "extents": [1] * count,
        "refs": [2] * count,
        "offsets": [0] * count,
        "lengths": [],
        "extra_places": [],
        "which": [],
        "rdevs": [],
    }
    for name in draw.sample(list(good), draw.randrange(1, 4)):
        wanted = draw.choice([0, 1, *[count] * 90, *[count + 1] * 6, 70_000, 300_000])
        good[name] = hostile_integers(draw, wanted)
    packed = {name: pack_ints(values) for name, values in good.items()}
    stable = [_blob(b""), packed["counts"], _blob(b"\0".join(names))]
    stable += [
        packed[name] for name in ("mode", "uid", "gid", "size", "ino", "dev", "nlink", "extra_places", "which", "rdevs")
    ]
    stable += [_blob(b"target") + pack_ints(hostile_integers(draw, 1))] * min(len(good["rdevs"]), 4)
    content = [packed["places"], _blob(bytes(16 * count)), packed["extents"], packed["refs"], packed["offsets"]]
    content += [packed["lengths"], _blob(bytes(draw.choice([32, 32, 32, 0, 33])))]
    return _joined(b"".join(stable), packed["mtime"] + packed["ctime"], b"".join(content))


def _blob(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


class _Chunks(DictStore):
    """Chunks of one good manifest; any other is missing."""

    def read(self, chunk_id: bytes, type_: int) -> bytes:
        found = self.chunks.get(chunk_id)
        if found is None or found[0] != type_:
            raise ChunkMissingError("none")
        return found[1]


STORE = _Chunks()
MANIFEST = STORE.manifest(sample_groups(), sample_groups()[1:])


def _root(data: bytes) -> None:
    STORE.chunks[b"hostile root"] = TYPE_ROOT, data
    manifest = ManifestReader(STORE, ChunkId(b"hostile root"))
    for step in (
        lambda: list(manifest.entries()),
        lambda: list(manifest.entries(b"etc")),
        lambda: list(manifest.children(b"srv")),
        lambda: manifest.find(b"etc/hosts"),
    ):
        with contextlib.suppress(CofferError):
            step()


def _list(data: bytes) -> None:
    listed = decode_list(data, "x")
    STORE.chunks[b"hostile list"] = TYPE_LIST, data
    whole = Extent(ChunkId(b"hostile list"), 0, sum(extent.length for extent in listed), indirect=True)
    assert listed == list(MANIFEST.expand(Content(bytes(16), (whole,))))


def _lists() -> list[bytes]:
    runs = [Extent(chunk_id(1), 0, 500), Extent(None, 0, 1 << 40), Extent(chunk_id(2), 7, 9)]
    return [b"", encode_list(runs), encode_list(runs * 50)]


TARGETS: dict[str, Target] = {
    "coffer.json": Target(_settings, [_settings_sample()], mutated_json),
    "wrapped key": Target(
        lambda data: unwrap_key(KEK, CONTEXT, data, "x"), [wrap_key(KEK, CONTEXT, "root", 1, bytes(32))], mutated_json
    ),
    "key file": Target(_key_file, [b"coffer-key-1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"]),
    "heads file": Target(_heads, [b'{"0123abcd": [1, "ab"], "ffffffff": [2, ""]}'], mutated_json),
    "policy": Target(_policy, [_policy_sample()], _grow_policy, 96 * MIB),
    "sealed object": Target(
        _object,
        [
            encode_snapshot(KEYRING, SNAPSHOT),
            encode_revoked(KEYRING, SNAPSHOT.name),
            seal_single(KEYRING, KIND_LEASE, b""),
        ],
    ),
    "pack": Target(_pack, [pack(chunks()), pack([])], _grow_pack, 96 * MIB),
    "pack table": Target(
        lambda table: list(iter_rows(PackId(bytes(32)), table)), [group(1, 5)[36:], group(1, 200)[36:], b""]
    ),
    "segment": Target(_raw_segment, [segment(group(1, 2))[0]]),
    "segment's groups": Target(_segment, [group(1, 2) + group(2, 0) + group(3, 9), b""]),
    "snapshot's body": Target(
        _snapshot_body, [json.dumps(SNAPSHOT.body()).encode()], mutated_json, 24 * MIB + MAX_OBJECT_BYTES
    ),
    "lease": Target(_lease, [b'{"deadline_ns": 1793491200000000000, "writer": "00"}'], mutated_json),
    "checkpoint": Target(
        _checkpoint, [json.dumps({"started_ns": 1, "manifest_root": "00" * 32}).encode()], mutated_json
    ),
    "revoked mark": Target(_revoked, [SNAPSHOT.name.encode()]),
    "columns": Target(
        _columns,
        [b"".join(pack_ints(v) + _blob(b"x") for v in ([1, 2, 3], [5] * 9, [], [1 << 63, 0], [-(1 << 90), 1]))],
        room_bytes=48 * MIB,
    ),
    "block": Target(_block, [_block_sample()], _grow_block, 160 * MIB),
    "manifest's root": Target(_root, [STORE.chunks[MANIFEST.root_id][1]]),
    "chunk list": Target(_list, _lists()),
    "zstd frame": Target(_decompress, _zstd_samples(), room_bytes=48 * MIB),
}
