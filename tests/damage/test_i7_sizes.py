"""I7: no stored size is believed before it is authenticated and under its cap; then memory is taken."""

import hashlib
import tracemalloc

import pytest
import zstandard

from coffer.crypto.seal import HEADER_BYTES, KIND_INDEX, KIND_PACK, TAG_BYTES, FrameMeta, new_object_key, seal_single
from coffer.errors import ObjectCorruptError, SizeLimitError
from coffer.ids import PackId, pack_name
from coffer.repository import blocks
from coffer.repository import index as index_module
from coffer.repository import snapshot as snapshot_module
from coffer.repository.blocks import Group
from coffer.repository.index import write_segments
from coffer.repository.pack import MAX_RAW_BYTES, MAX_TABLE_ROWS, ROW, TRAILER, TYPE_DATA, PackBuilder
from coffer.restore import restore
from coffer.verification import check, packread, verify
from tests.harness.corrupt import errors_of
from tests.harness.forgery import Forger, forged_row

MIB = 1 << 20
BOMB = zstandard.ZstdCompressor().compress(bytes(64 * MIB))  # made before memory is counted


@pytest.fixture(autouse=True)
def _little_memory():
    """Whatever is declared, some MiB are enough to refuse it."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * MIB


def put_frame(store, keyring, payload, raw_length):
    """Put a pack of one zstd frame that declares a length, with its segment, as a hostile writer would."""
    builder = PackBuilder(keyring)
    builder.add(keyring.ids.chunk_id(b"x"), TYPE_DATA, 1, payload, raw_length)
    pack = builder.finish()
    store.put(pack_name(pack.pack_id), pack.parts)
    write_segments(store, keyring, [(pack.pack_id, pack.table)])
    return pack_name(pack.pack_id)


def test_a_frame_that_unpacks_to_more_than_it_declares_is_refused(history, store):
    """64 MiB of zeros in some KiB, declared as a thousand bytes: zstd is not even called."""
    name = put_frame(store, history.open(store).keyring, BOMB, 1000)
    (found,) = errors_of(verify(history.open(store)))
    assert (ObjectCorruptError.code, name) == (found.code, found.object)
    assert "zstd frame declares another length than 1000" in found.message


def test_a_frame_that_declares_no_length_is_refused(history, store):
    """A stream without a content size could grow without end."""
    stream = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    payload = stream.compress(bytes(1000)) + stream.flush()
    name = put_frame(store, history.open(store).keyring, payload, 1000)
    (found,) = errors_of(verify(history.open(store)))
    assert (ObjectCorruptError.code, name) == (found.code, found.object)


def test_a_table_with_a_length_over_the_cap_is_one_error_of_its_segment(history, store):
    """An authentic row that declares more than a chunk may have; the rest of the index stands."""
    keyring = history.open(store).keyring
    row = ROW.pack(bytes(32), HEADER_BYTES, TAG_BYTES + 5, MAX_RAW_BYTES + 1, TYPE_DATA, 1)
    (name,) = write_segments(store, keyring, [(PackId(bytes(32)), row)])
    (found,) = errors_of(check(history.open(store)))
    assert (SizeLimitError.code, name) == (found.code, found.object)


def test_a_table_with_more_rows_than_a_pack_may_have_is_one_error_of_its_segment(history, store):
    """The count is refused before a row is looked at."""
    keyring = history.open(store).keyring
    plain = index_module._GROUP.pack(bytes(32), MAX_TABLE_ROWS + 1)
    name = put_segment(store, keyring, plain)
    (found,) = errors_of(check(history.open(store)))
    assert (ObjectCorruptError.code, name) == (found.code, found.object)


@pytest.mark.parametrize(
    ("folder", "names"),
    [(b"", [b"A" * 4097]), (b"/".join([b"a"] * 20_000), [b"f"]), (b"", [b"A" * 3_000_000])],
    ids=["long-name", "deep-folder", "huge-name"],
)
def test_a_manifest_with_a_path_that_no_system_takes_is_refused(history, store, tmp_path, monkeypatch, folder, names):
    """Some KB of store can name it any number of times: check and a restore keep none of it, and take no time."""
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "MAX_PATH_BYTES", MAX_RAW_BYTES)
        forger = Forger(history.open(store))
        groups = [Group(b"", [b"0"], [forged_row()]), Group(folder, names, [forged_row()])]
        snapshot = forger.commit(*[groups] * 40)
    tracemalloc.reset_peak()
    repo = history.open(store)
    (found,) = errors_of(check(repo))
    assert SizeLimitError.code == found.code
    result = restore(repo, snapshot, tmp_path / "out")
    assert (3, {SizeLimitError.code}) == (result.exit_code, {failure.code for failure in result.failures})
    assert sum(len(failure.path) for failure in result.failures) < 40 * 4096


def put_segment(store, keyring, plain):
    """Put an authentic segment of any plaintext."""
    data = seal_single(keyring, KIND_INDEX, plain)
    name = f"index/{hashlib.sha256(data).hexdigest()}"
    store.put(name, [data])
    return name


@pytest.mark.parametrize(
    ("kind", "module", "cap"),
    [("index", index_module, "MAX_SEGMENT_BYTES"), ("snapshots", snapshot_module, "MAX_OBJECT_BYTES")],
)
def test_an_object_over_its_cap_is_not_read(history, store, monkeypatch, kind, module, cap):
    """The store's own word for the size is enough to refuse it."""
    monkeypatch.setattr(module, cap, 300)
    names = [name for name in history.names(f"{kind}/") if store.stat(name).size_bytes > 300]
    read = []
    real = store.get
    monkeypatch.setattr(store, "get", lambda name, *rest: (read.append(name), real(name, *rest))[1])
    found = {finding.object: finding.code for finding in errors_of(check(history.open(store)))}
    assert names
    assert dict.fromkeys(names, SizeLimitError.code) == found
    assert not set(names) & set(read)


def test_a_pack_over_its_cap_is_not_read(history, store, monkeypatch):
    """Nor is anything allocated for it."""
    name = history.packs(TYPE_DATA)[0]
    monkeypatch.setattr(packread, "MAX_PACK_BYTES", store.stat(name).size_bytes - 1)
    over = [n for n in history.names("packs/") if store.stat(n).size_bytes > packread.MAX_PACK_BYTES]
    found = {finding.object: finding.code for finding in errors_of(verify(history.open(store)))}
    assert name in found
    assert dict.fromkeys(over, SizeLimitError.code) == found


def test_a_trailer_that_declares_too_much_is_one_error_of_its_pack(history, store):
    """It is not authenticated, and only believed as far as it fits the pack's size and the cap."""
    keyring = history.open(store).keyring
    key = new_object_key(keyring, KIND_PACK)
    rows = MAX_TABLE_ROWS + 1
    trailer = TRAILER.pack(HEADER_BYTES, rows * ROW.size + TAG_BYTES, rows, b"cofferpk")
    name = pack_name(PackId(bytes(range(32))))
    store.put(name, [key.header, bytes(rows * ROW.size + TAG_BYTES), trailer])
    (found,) = errors_of(check(history.open(store)))
    assert (SizeLimitError.code, name) == (found.code, found.object)
    assert "over the cap" in found.message


def test_a_frame_is_bound_to_its_lengths(history, store):
    """An authentic frame under a table that declares another length does not open."""
    keyring = history.open(store).keyring
    key = new_object_key(keyring, KIND_PACK)
    sealed = key.seal(b"plain", FrameMeta(0, TYPE_DATA, 0, 5, 5 + TAG_BYTES))
    row = ROW.pack(keyring.ids.chunk_id(b"plain"), HEADER_BYTES, len(sealed), 6, TYPE_DATA, 0)
    meta = FrameMeta(1, 255, 0, ROW.size, ROW.size + TAG_BYTES, last=True)
    trailer = TRAILER.pack(HEADER_BYTES + len(sealed), ROW.size + TAG_BYTES, 1, b"cofferpk")
    parts = [key.header, sealed, key.seal(row, meta), trailer]
    pack_id = PackId(hashlib.sha256(b"".join(parts)).digest())
    store.put(pack_name(pack_id), parts)
    write_segments(store, keyring, [(pack_id, row)])
    (found,) = errors_of(verify(history.open(store)))
    assert (ObjectCorruptError.code, pack_name(pack_id)) == (found.code, found.object)
    assert "frame 0 failed authentication" in found.message
