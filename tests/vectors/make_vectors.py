"""Write the vectors of tests/vectors/data: one object each, whole or with exactly one defect.

From the project folder: `.venv/bin/python -m tests.vectors.make_vectors`. The same bytes come out every time. What a
vector is expected to give is written here by hand; the test compares the engine with it. (Packs hold zstd frames: a
newer zstd may make other, equally good ones; they are then written anew.)
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import zstandard

from coffer.chunking.cutter import ChunkParams
from coffer.crypto.kdf import Argon2Params
from coffer.crypto.kek import Kek
from coffer.crypto.keyring import WrapContext, wrap_key
from coffer.crypto.seal import KIND_INDEX, KIND_LEASE
from coffer.repository.pack import MAX_RAW_BYTES, MAX_TABLE_ROWS
from coffer.repository.settings import new_settings
from tests.harness.keyrings import KEYS, REPOSITORY_ID, make_keyring, random_again
from tests.harness.manual_clock import ManualClock
from tests.vectors.making import (
    KEYRING,
    SNAPSHOT,
    Chunk,
    changed,
    chunks,
    group,
    object_key,
    pack,
    sealed,
    segment,
    snapshot,
)
from tests.vectors.parsing import released

DATA = Path(__file__).resolve().parent / "data"
TEST_KEYS = {
    "note": "keys of these vectors only; they protect nothing",
    "repository_id": REPOSITORY_ID.hex(),
    **{kind: key.hex() for (kind, _), key in KEYS.items()},
}
KEK = Kek(b"a key-encryption key of a vector", b"the commitment of that same key.")
CONFIG = b'{"a": "configuration"}'


def main() -> int:
    """Write every vector anew.

    Returns:
        int: 0.
    """
    shutil.rmtree(DATA, ignore_errors=True)
    for make in (_sealed, _packs, _packed_chunks, _wrapped_keys, _snapshots, _segments, _settings, _key_files):
        make()
    print(f"{len(list(DATA.rglob('*.json')))} vectors")
    return 0


def _write(parser: str, name: str, expect: str, claim: str, data: bytes, **more: Any) -> None:
    vector = {
        "claim": claim,
        "parser": parser,
        "expect": expect,
        "test_keys": TEST_KEYS,
        **more,
        "bytes": base64.b64encode(data).decode(),
    }
    if expect == "ok":
        vector["plaintext_sha256"] = hashlib.sha256(released(vector)).hexdigest()
    path = DATA / parser / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(vector, indent=1) + "\n")


def _sealed() -> None:
    good = sealed(b"the body of an object")
    last = len(good) - 1

    def write(name: str, expect: str, claim: str, data: bytes) -> None:
        _write("sealed", name, expect, claim, data, kind=KIND_LEASE)

    write("whole", "ok", "a header and one frame", good)
    write("empty", "ok", "a frame may be empty", sealed(b""))
    write("magic", "object-corrupt", "another first byte", changed(good, 0))
    write("newer", "format-version", "format 2", changed(good, 9, 3))
    write("kind", "object-corrupt", "an index segment in a lease's place", sealed(b"x", KIND_INDEX))
    write("kind-altered", "object-corrupt", "the kind's byte altered", changed(good, 10, 6))
    write("pad", "wrong-key", "the pad byte is not zero", changed(good, 11))
    write("epoch", "key-missing", "an epoch without a root", changed(good, 15, 2))
    write("salt", "wrong-key", "a bit of the salt flipped: the commitment differs", changed(good, 16))
    write("commitment", "wrong-key", "a bit of the commitment flipped", changed(good, 79))
    write("ciphertext", "object-corrupt", "a bit of the ciphertext flipped", changed(good, 80))
    write("tag", "object-corrupt", "a bit of the tag flipped", changed(good, last))
    write("cut-in-header", "object-corrupt", "79 bytes", good[:79])
    write("cut-in-tag", "object-corrupt", "no room for a tag", good[:95])
    write("cut-by-one", "object-corrupt", "the last byte is missing", good[:-1])
    write("longer-by-one", "object-corrupt", "a byte too many", good + b"\0")
    write("not-last", "object-corrupt", "the frame was not sealed as the last one", sealed(b"x", last=False))
    write("position", "object-corrupt", "the frame was sealed at position 1", sealed(b"x", position=1))
    write("type", "object-corrupt", "the frame was sealed with type 1", sealed(b"x", type=1))
    write("codec", "object-corrupt", "the frame was sealed with codec 1", sealed(b"x", codec=1))
    write("raw-length", "object-corrupt", "the frame was sealed for another length", sealed(b"x", raw_length=2))
    foreign = sealed(b"x", key=object_key(KIND_LEASE, root=b"the root of another repository.."))
    write("foreign-root", "wrong-key", "sealed under another root", foreign)


def _packs() -> None:
    good = pack(chunks())
    table = int.from_bytes(good[-20:-16], "big")
    equal = [Chunk(b"chunk one"), Chunk(b"chunk two")]

    def write(name: str, expect: str, claim: str, data: bytes) -> None:
        _write("pack", name, expect, claim, data)

    write("whole", "ok", "three chunks: stored, compressed, and a section", good)
    write("empty", "ok", "no chunk at all", pack([]))
    write("trailer-mark", "object-corrupt", "the trailer's mark altered", changed(good, len(good) - 1))
    write("trailer-offset", "object-corrupt", "the trailer points elsewhere", pack(chunks(), trailer={"offset": 81}))
    write("trailer-length", "object-corrupt", "another length of the table", pack(chunks(), trailer={"length": 153}))
    write("trailer-rows", "object-corrupt", "another count of rows", pack(chunks(), trailer={"rows": 4}))
    too_many = {"rows": MAX_TABLE_ROWS + 1}
    write("trailer-rows-cap", "size-limit", "more rows than a pack may have", pack(chunks(), trailer=too_many))
    write("cut-by-one", "object-corrupt", "the last byte is missing", good[:-1])
    write("cut-in-frames", "object-corrupt", "no trailer", good[:table])
    write("cut-to-header", "object-corrupt", "a header and nothing else", good[:80])
    write("longer-by-one", "object-corrupt", "a byte too many", good + b"\0")
    write("table", "object-corrupt", "a bit of the table flipped", changed(good, table))
    write("frame", "object-corrupt", "a bit of the first frame flipped", changed(good, 80))
    write("frames-swapped", "object-corrupt", "two frames changed places", pack(equal, swap=True))
    write("frame-position", "object-corrupt", "sealed at position 1", pack([Chunk(b"x", position=1)]))
    write("frame-last", "object-corrupt", "a chunk sealed as the last frame", pack([Chunk(b"x", last=True)]))
    write("table-not-last", "object-corrupt", "the table sealed as if more followed", pack(chunks(), last=False))
    write("table-position", "object-corrupt", "the table sealed at position 0", pack(chunks(), position=0))
    write("table-type", "object-corrupt", "the table sealed as data", pack(chunks(), type=1))
    write("kind", "object-corrupt", "sealed as an index segment", pack(chunks(), kind=KIND_INDEX))
    write("salt", "wrong-key", "a bit of the salt flipped", changed(good, 20))


def _packed_chunks() -> None:
    text = b"text " * 100
    honest = zstandard.compress(text)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(text)
    longer = zstandard.compress(text + b"!")

    def write(name: str, expect: str, claim: str, data: bytes) -> None:
        _write("pack", name, expect, claim, data)

    write("false-id", "object-corrupt", "the row names another chunk", pack([Chunk(b"x", chunk_id=bytes(32))]))
    write("codec", "object-corrupt", "an unknown codec", pack([Chunk(b"x", codec=2, payload=b"x")]))
    write("zstd-damaged", "object-corrupt", "no zstd frame", pack([Chunk(text, codec=1, payload=b"not zstd")]))
    write("zstd-tail", "object-corrupt", "bytes behind the frame", pack([Chunk(text, codec=1, payload=honest + b"x")]))
    write("zstd-unsized", "object-corrupt", "no content size", pack([Chunk(text, codec=1, payload=unsized)]))
    write("zstd-size", "object-corrupt", "more than the row says", pack([Chunk(text, codec=1, payload=longer)]))
    write("raw-length", "object-corrupt", "a stored chunk of another length", pack([Chunk(b"xy", payload=b"x")]))
    resealed = Chunk(b"x", sealed_raw_length=1, raw_length=2)
    write("row-length", "object-corrupt", "the row says another length than the seal", pack([resealed]))
    write("row-offset", "object-corrupt", "a frame within the header", pack([Chunk(b"x", offset=79)]))
    write("row-behind", "object-corrupt", "a frame that reaches into the table", pack([Chunk(b"x", offset=90)]))
    write("row-no-tag", "object-corrupt", "a frame shorter than a tag", pack([Chunk(b"x", sealed_length=15)]))
    over = Chunk(b"x", sealed_raw_length=1, raw_length=MAX_RAW_BYTES + 1)
    write("row-cap", "size-limit", "a chunk over the cap", pack([over]))
    write("row-far", "short-read", "a frame behind the end of the pack", pack([Chunk(b"x", offset=1 << 31)]))


def _wrapped_keys() -> None:
    context = WrapContext.of(REPOSITORY_ID, CONFIG)
    with random_again("vectors: wrapped keys"):
        good = wrap_key(KEK, context, "root", 1, KEYS["root", 1])
        short = wrap_key(KEK, context, "root", 1, KEYS["root", 1][:31])
        chunk_id = wrap_key(KEK, context, "chunk-id", 0, KEYS["chunk-id", 0])

    def write(name: str, expect: str, claim: str, data: bytes = good, **more: Any) -> None:
        parts = {"kek": KEK.key.hex(), "kek_commitment": KEK.commitment.hex()}
        parts["coffer_json"] = base64.b64encode(CONFIG).decode()
        _write("wrapped-key", name, expect, claim, data, **(parts | more))

    def altered(**fields: Any) -> bytes:
        told = json.loads(good) | fields
        return json.dumps({name: value for name, value in told.items() if value is not None}).encode()

    sealed_key = base64.b64decode(json.loads(good)["sealed"])
    flipped = base64.b64encode(changed(sealed_key, 0)).decode()
    write("root", "ok", "the root of epoch 1")
    write("chunk-id", "ok", "the chunk-id key", chunk_id)
    write("other-kek", "wrong-key", "another key-encryption key", kek_commitment="00" * 32)
    other = base64.b64encode(CONFIG + b" ").decode()
    write("other-config", "object-corrupt", "coffer.json was edited", coffer_json=other)
    foreign = TEST_KEYS | {"repository_id": "00" * 16}
    write("other-repository", "object-corrupt", "taken from another repository", test_keys=foreign)
    write("kind", "object-corrupt", "the kind altered", altered(kind="signing"))
    write("number", "object-corrupt", "the epoch altered", altered(number=2))
    write("nonce", "object-corrupt", "the nonce altered", altered(nonce="00" * 12))
    write("sealed", "object-corrupt", "a bit of the ciphertext flipped", altered(sealed=flipped))
    write("base64", "object-corrupt", "damaged base64", altered(sealed="!" + flipped[1:]))
    write("newer", "format-version", "format 2", altered(format=2))
    write("object", "object-corrupt", "another kind of document", altered(object="coffer-lease"))
    write("field", "object-corrupt", "a field is missing", altered(nonce=None))
    write("number-negative", "object-corrupt", "a number that no key has", altered(number=-1))
    write("short", "object-corrupt", "31 bytes, truly sealed", short)
    write("not-json", "object-corrupt", "no document", good[:-10])


def _snapshots() -> None:
    name = SNAPSHOT.name

    def write(called: str, expect: str, claim: str, data: bytes, object_name: str = name) -> None:
        _write("snapshot", called, expect, claim, data, object_name=object_name)

    stranger = make_keyring(signing=b"a signing key of somebody else.!")
    write("whole", "ok", "signed and sealed", snapshot())
    write("moved", "signature", "under the next number", snapshot(), name[:-1] + "2")
    write("stranger", "signature", "sealed with the key, signed with another", snapshot(signer=stranger))
    write("signed-elsewhere", "signature", "signed for another name", snapshot(name=name[:-1] + "2"))
    write("unsigned", "signature", "64 zeros for a signature", sealed(bytes(64) + b"{}", kind=3))
    write("no-body", "signature", "shorter than a signature", sealed(bytes(63), kind=3))
    write("newer", "format-version", "format 2 of the body", snapshot(format=2))
    write("newer-object", "format-version", "format 2 of the object", changed(snapshot(), 9, 3))
    write("not-json", "object-corrupt", "a signed body that is no document", snapshot(body=b"{"))
    write("array", "object-corrupt", "a signed body that is another document", snapshot(body=b"[]"))
    write("field", "object-corrupt", "a field is missing", snapshot(host=None))
    write("sequence", "object-corrupt", "another number than its name", snapshot(sequence=2))
    write("source", "object-corrupt", "another source than its name", snapshot(source="other"))
    write("surrogate", "object-corrupt", "a source that is no text", snapshot(source="\ud800"))
    write("infinite", "object-corrupt", "a time without end", snapshot(started_ns=float("inf")))
    write("far", "object-corrupt", "a time beyond 2^63", snapshot(finished_ns=1 << 63))
    write("root", "object-corrupt", "a chunk id of 31 bytes", snapshot(manifest_root="00" * 31))
    write("stats", "object-corrupt", "counts that are none", snapshot(stats={"files": "1"}))
    write("kind", "object-corrupt", "a lease in a snapshot's place", sealed(b"{}", KIND_LEASE))
    write("tag", "object-corrupt", "a bit of the tag flipped", changed(snapshot(), -1))
    write("name", "object-corrupt", "under a name that no writer makes", snapshot(), "snapshots/stray")


def _segments() -> None:
    def write(name: str, expect: str, claim: str, plain: bytes, **more: Any) -> None:
        data, object_name = segment(plain)
        _write("segment", name, expect, claim, data, **({"object_name": object_name} | more))

    good = group(1, 2) + group(2, 1) + group(3, 0)
    write("whole", "ok", "three packs, one of them empty", good)
    write("empty", "ok", "no pack at all", b"")
    write("name", "object-corrupt", "under another name", good, object_name="index/" + "0" * 64)
    write("head-cut", "object-corrupt", "cut in a head", good[:-1])
    write("rows-cut", "object-corrupt", "fewer rows than it says", group(1, 2)[:-1])
    write("rows-more", "object-corrupt", "says more rows than there are", group(1, 2, count=3))
    write("rows-cap", "object-corrupt", "more rows than a pack may have", group(1, 0, count=MAX_TABLE_ROWS + 1))
    write("row", "object-corrupt", "a row within the header", group(1, 0, count=1) + bytes(46))
    data = sealed(good, KIND_LEASE)
    name = "index/" + hashlib.sha256(data).hexdigest()
    _write("segment", "kind", "object-corrupt", "a lease in a segment's place", data, object_name=name)


def _settings() -> None:
    with random_again("vectors: settings"):
        good = new_settings("key-file", ChunkParams(), Argon2Params(), ManualClock()).raw

    def write(name: str, expect: str, claim: str, data: bytes) -> None:
        _write("settings", name, expect, claim, data)

    def altered(part: str, **fields: Any) -> bytes:
        document = json.loads(good)
        place = document
        for level in part.split(".") if part else ():
            place = place[level]
        place.update(fields)
        return json.dumps(document).encode()

    write("whole", "ok", "as init writes it", good)
    write("newer", "format-version", "format 2", altered("", format=2))
    write("object", "not-a-repository", "another document", altered("", object="other"))
    write("not-json", "not-a-repository", "no document", good[:-3])
    write("array", "not-a-repository", "an array", b"[]")
    write("id", "not-a-repository", "an id of 15 bytes", altered("", id="00" * 15))
    write("salt", "not-a-repository", "a salt of 31 bytes", altered("unlock", salt="00" * 31))
    write("text-size", "not-a-repository", "a size that is a text", altered("chunking", min_bytes="262144"))
    write("more", "not-a-repository", "a size that nobody knows", altered("chunking", more_bytes=1))
    write("memory", "size-limit", "a terabyte for a passphrase", altered("unlock.argon2id", memory_kib=1 << 30))
    write("time", "size-limit", "years for a passphrase", altered("unlock.argon2id", iterations=1 << 30))
    write("method", "size-limit", "an unknown way to cut", altered("chunking", method="other"))
    write("order", "size-limit", "the least above the mean", altered("chunking", min_bytes=1 << 20, avg_bytes=1 << 19))
    write("cap", "size-limit", "chunks over the cap", altered("chunking", max_bytes=MAX_RAW_BYTES + 1))


def _key_files() -> None:
    secret = base64.b64encode(bytes(range(32)))

    def write(name: str, expect: str, claim: str, data: bytes, mode: str = "0600") -> None:
        _write("key-file", name, expect, claim, data, mode=mode)

    write("whole", "ok", "as init writes it", b"coffer-key-1 " + secret + b"\n")
    write("spaces", "ok", "white space around the words", b"\n coffer-key-1\t" + secret + b"\r\n\n")
    write("newer", "key-file", "another mark", b"coffer-key-2 " + secret + b"\n")
    write("empty", "key-file", "nothing", b"")
    write("no-mark", "key-file", "the secret alone", secret + b"\n")
    write("two", "key-file", "two keys", (b"coffer-key-1 " + secret + b"\n") * 2)
    write("base64", "key-file", "damaged base64", b"coffer-key-1 " + secret[:-1] + b"!\n")
    write("short", "key-file", "31 bytes", b"coffer-key-1 " + base64.b64encode(bytes(31)) + b"\n")
    write("readable", "key-file", "others may read it", b"coffer-key-1 " + secret + b"\n", "0640")


if __name__ == "__main__":
    assert KEYRING.repository_id == REPOSITORY_ID
    sys.exit(main())
