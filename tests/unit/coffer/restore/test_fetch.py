"""Chunks are brought once, neighbours together; damage costs the files that need it and no others."""

import os
import stat

import pytest

from coffer.backends.metering import MeteringBackend
from coffer.errors import BackendUnavailableError, ChunkMissingError, ObjectCorruptError
from coffer.ids import PackId, pack_name
from coffer.repository.pack import TYPE_DATA, TYPE_LIST, ChunkLocation
from coffer.restore import Overwrite
from coffer.restore.fetch import CHUNK_ITEMS, WINDOW_CHUNKS, WINDOW_ITEMS, Window
from tests.harness.backups import Workbench, write_tree
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
from tests.harness.forgery import Forger
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.restores import (
    assert_restored,
    chunk_of,
    landed,
    names_below,
    set_times,
    spoil_content,
)


@pytest.fixture
def bench(tmp_path):
    """A tree in many chunks, in a store that can be harmed."""
    bench = Workbench(tmp_path / "source", backend=TamperableMemoryBackend())
    write_tree(bench.root, {f"small/{n:02d}": os.urandom(600) for n in range(40)})
    write_tree(bench.root, {f"large/{n}": os.urandom(20_000) for n in range(4)})
    set_times(bench.root)
    bench.back_up()
    return bench


def failed(bench, result):
    return {os.path.relpath("/" + os.fsdecode(failure.path), bench.root) for failure in result.failures}


def sharing(bench, name):
    """The files whose content lies in the same chunk as a small file's."""
    where = chunk_of(bench, name)
    return {f"small/{n:02d}" for n in range(40) if chunk_of(bench, f"small/{n:02d}") == where}


def test_each_chunk_is_read_once(bench, give_back):
    """A restore reads the content once, and asks for many chunks with one call."""
    metered = MeteringBackend(bench.backend)
    repo = bench.reopen(metered)
    repo.index()
    calls = metered.total("get", "calls")
    result = give_back(repo=repo)
    stored = sum(length for _, _, length in [repo.index().totals()[TYPE_DATA]])
    assert stored == result.stats["read_bytes"]
    count = repo.index().totals()[TYPE_DATA][0]
    assert metered.total("get", "calls") - calls < count / 2


@pytest.mark.parametrize("extent", [0, 3])
def test_a_spoilt_chunk_costs_the_large_file_that_needs_it(bench, target, give_back, extent):
    """One flipped bit: that file is a failure and not there, all others are restored whole."""
    spoil_content(bench, "large/2", extent)
    result = give_back(verify=True)
    assert (3, {"large/2"}, 1) == (result.exit_code, failed(bench, result), result.failures_count)
    assert {"object-corrupt"} == {failure.code for failure in result.failures}
    assert 43 == result.stats["verified_files"]
    there = landed(target, bench.root)
    assert names_below(bench.root) - names_below(there) == {"large/2"}
    (bench.root / "large" / "2").unlink()
    assert_restored(bench.root, target, ignore={"mtime_ns"})


def test_a_spoilt_bundle_costs_the_small_files_in_it(bench, target, give_back):
    """Every file in the chunk is a failure of its own, and no file beside it is."""
    spoil_content(bench, "small/07")
    result = give_back()
    expected = sharing(bench, "small/07")
    assert (expected, True) == (failed(bench, result), 1 <= len(expected) < 40)
    assert names_below(bench.root) - names_below(landed(target, bench.root)) == expected


def test_a_truncated_pack_costs_only_what_is_missing(bench, target, give_back):
    """A read of neighbours that fails as a whole is tried chunk by chunk."""
    last = max((chunk_of(bench, f"large/{n}", extent) for n in range(4) for extent in range(4)), key=lambda w: w.offset)
    name = pack_name(last.pack_id)
    bench.backend.truncate(name, last.offset + 1)
    result = give_back()
    lost = {
        f"large/{n}"
        for n in range(4)
        for extent in range(4)
        if chunk_of(bench, f"large/{n}", extent).offset >= last.offset
    }
    assert lost <= failed(bench, result) < names_below(bench.root)
    assert {"short-read"} == {failure.code for failure in result.failures}


def test_a_missing_pack_costs_what_lies_in_it(tmp_path, give_back, target):
    """Several packs, one of them gone: each file is either a failure or whole."""
    bench = Workbench(tmp_path / "packs", backend=TamperableMemoryBackend())
    write_tree(bench.root, {f"{n:02d}": os.urandom(9000) for n in range(30)})
    bench.back_up(pack_size_bytes=40_000)
    gone = chunk_of(bench, "13").pack_id
    bench.backend.delete(pack_name(gone))
    result = give_back(repo=bench.reopen())
    lost = {
        name
        for name in sorted(os.listdir(bench.root))
        if any(chunk_of(bench, name, extent).pack_id == gone for extent in range(3))
    }
    assert lost <= failed(bench, result)
    assert 1 <= result.failures_count < 30
    assert {"object-not-found", "chunk-missing"} >= {failure.code for failure in result.failures}
    there = landed(target, bench.root)
    assert names_below(bench.root) - failed(bench, result) == names_below(there)
    assert all((bench.root / name).read_bytes() == (there / name).read_bytes() for name in names_below(there))


def forge_blocks(bench):
    """A snapshot of three blocks; the second names folders whose files are in the third. Returns it and its blocks."""
    forger = Forger(bench.repo)
    folder = stat.S_IFDIR | 0o755
    snapshot = forger.commit(
        [forger.folder(b"", [(b"a", b"1"), (b"dir", folder)])],
        [forger.folder(b"dir", [(b"sub", folder), *((b"x%d" % n, b"2") for n in range(9))])],
        [forger.folder(b"dir/sub", [(b"b", b"3"), (b"c", b"4")])],
    )
    return snapshot, bench.repo.manifest(snapshot).root.blocks


@pytest.mark.parametrize("section", ["stable", "times", "content"])
def test_a_damaged_block_of_the_manifest_is_told(bench, give_back, target, section):
    """Entries that cannot be read are one failure that says how many; the other blocks are restored, folders too.

    Of a folder whose own entry is lost, a warning says that its attributes are missing.
    """
    snapshot, blocks = forge_blocks(bench)
    where = bench.repo.index().find(getattr(blocks[1], section))
    bench.backend.flip_bit(pack_name(where.pack_id), where.offset + 1)
    for options in ({"dry_run": True}, {"verify": True}):
        result = give_back(snapshot, **options)
        assert [(b"dir/sub", "object-corrupt")] == [(found.path, found.code) for found in result.failures]
        assert "10 entries from here on cannot be read" in result.failures[0].message
        assert (10, 10) == (result.failures_count, result.failures[0].entries_count)
        assert (3, 3) == (result.stats["files"], result.exit_code)
    assert [(b"dir/sub", "attributes")] == [(found.path, found.code) for found in result.warnings]
    assert {"a", "dir", "dir/sub", "dir/sub/b", "dir/sub/c"} == names_below(target)
    assert 3 == result.stats["verified_files"]


def test_a_damaged_root_leaves_the_target_alone(bench, target, give_back):
    """Without its manifest nothing is known of a snapshot: one error, nothing written."""
    repo = bench.reopen()
    where = repo.index().find(repo.resolve("latest").manifest_root)
    bench.backend.flip_bit(pack_name(where.pack_id), where.offset + 1)
    with pytest.raises(ObjectCorruptError):
        give_back()
    assert not target.exists()


def test_a_store_that_does_not_answer_ends_the_run(bench, target, give_back):
    """A transient failure is raised as such; what was finished is whole, and a second run goes on."""
    counting = FaultyBackend(bench.backend)
    repo = bench.reopen(counting)
    list(repo.manifest(repo.resolve("latest")).entries())
    count = sum(method == "get" and name.startswith("packs/") for method, name in counting.calls)
    # Behind the manifest come the first span of content, then the header of its pack.
    fault = Fault(FaultKind.FAIL_BEFORE, method="get", prefix="packs/", nth=count + 1)
    with FaultyBackend(bench.backend, [fault]) as faulty, pytest.raises(BackendUnavailableError):
        give_back(repo=bench.reopen(faulty), workers=1)
    there = landed(target, bench.root)
    files = {name for name in names_below(there) if (there / name).is_file()} if there.exists() else set()
    assert all((bench.root / name).read_bytes() == (there / name).read_bytes() for name in files)
    assert 0 == give_back(overwrite=Overwrite.CHANGED).exit_code
    assert_restored(bench.root, target)


def test_a_chunk_that_lies_in_two_packs_is_read_from_the_other(bench, target, give_back, monkeypatch):
    """Where a pack is gone and another holds the chunk too, nothing is lost."""
    from coffer.repository.reader import ChunkReader

    lost = pack_name(chunk_of(bench, "large/1").pack_id)
    real = bench.backend.get
    misses = []

    def get(name, offset=0, length=None):
        if name == lost and length is not None and length > 200 and not misses:
            misses.append(name)
            raise ChunkMissingError("planned")
        return real(name, offset, length)

    repo = bench.reopen()
    monkeypatch.setattr(bench.backend, "get", get)
    monkeypatch.setattr("coffer.restore.fetch.SPAN_BYTES", 1)
    monkeypatch.setattr("coffer.restore.fetch._GAP_BYTES", -1)
    reads = []
    real_read = ChunkReader.read
    monkeypatch.setattr(ChunkReader, "read", lambda self, *a: reads.append(a[1]) or real_read(self, *a))
    assert 0 == give_back(repo=repo, workers=1).exit_code
    assert TYPE_DATA in reads or misses
    assert_restored(bench.root, target)


class PlainReader:
    """Tells where chunks lie, from a dict."""

    def __init__(self, places):
        self.places = places

    def locate(self, chunk_id):
        if chunk_id not in self.places:
            raise ChunkMissingError("planned")
        return self.places[chunk_id]


def place(pack, offset, length=100, type_=TYPE_DATA):
    return ChunkLocation(PackId(bytes([pack]) * 32), offset // 100, offset, length, length, type_, 0)


def window(places, hungry=False):
    spans = []
    made = Window(
        PlainReader(places), lambda span: spans.append([wanted.chunk_id for wanted in span.chunks]), lambda: hungry
    )
    return made, spans


def test_neighbours_of_a_pack_are_read_together():
    """What lies side by side goes in one span, by offset; a far one, and one of another pack, go by themselves."""
    places = {
        b"a": place(1, 100),
        b"b": place(1, 200),
        b"far": place(1, 9_000_000),
        b"c": place(1, 300),
        b"other": place(2, 200),
    }
    made, spans = window(places)
    for chunk_id in (b"b", b"far", b"other", b"c", b"a"):
        made.add(chunk_id, "item")
    made.drain()
    assert [[b"a", b"b", b"c"], [b"far"], [b"other"]] == spans


def test_a_span_has_a_largest_size():
    """Neighbours are read together up to some MiB, the first and the last byte counted."""
    places = {bytes([n]): place(1, n * 1_000_000, 1_000_000) for n in range(1, 10)}
    made, spans = window(places)
    for chunk_id in (b"\5", b"\4", b"\6", b"\3", b"\7", b"\2", b"\1"):
        made.add(chunk_id, "item")
    made.drain()
    assert [[b"\4", b"\5", b"\6", b"\7"], [b"\1", b"\2", b"\3"]] == [sorted(span) for span in spans]


def test_the_window_is_bounded():
    """Beyond a count of chunks, or of what waits for them, the chunk that was wanted longest ago is sent off."""
    places = {b"%d" % n: place(1 + n % 200, n * 1_000_000) for n in range(WINDOW_CHUNKS + 5)}
    made, spans = window(places)
    for chunk_id in places:
        made.add(chunk_id, "item")
    assert [[b"%d" % n] for n in range(5)] == spans
    made, spans = window(places)
    for _ in range(CHUNK_ITEMS):
        made.add(b"1", "item")
    assert [[b"1"]] == spans
    made, spans = window(places)
    for number in range(WINDOW_ITEMS):
        made.add(b"%d" % (number % 20), "item")
    assert [[b"0"]] == spans


def test_hungry_workers_are_fed_early():
    """While workers have nothing to do, a chunk goes off long before the window is full."""
    places = {b"%d" % n: place(1 + n, 100) for n in range(8)}
    made, spans = window(places, hungry=True)
    for chunk_id in places:
        made.add(chunk_id, "item")
    assert [[b"0"], [b"1"], [b"2"], [b"3"]] == spans


def test_a_chunk_of_another_type_is_no_content():
    """A list or a manifest's section is never written into a file."""
    made, spans = window({b"a": place(1, 100, type_=TYPE_LIST)})
    with pytest.raises(ObjectCorruptError, match="of type 4"):
        made.add(b"a", "item")
    with pytest.raises(ChunkMissingError):
        made.add(b"b", "item")
    made.drain()
    assert [] == spans
