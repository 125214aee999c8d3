"""A file of pages is compared page by page, and what it refers to is the file, whatever was changed."""

from __future__ import annotations

import random

import pytest

from tests.harness.page_bench import PageBench, changed

PAGE = 8192


@pytest.fixture
def bench():
    return PageBench()


def test_only_changed_pages_are_stored(bench):
    """Ten pages of a thousand cost ten pages, their digests, and the lists."""
    draw = random.Random(1)
    files = {b"base/5/16384": draw.randbytes(1000 * PAGE)}
    bench.store(files)
    assert 1000 == bench.counts.changed
    files = {b"base/5/16384": changed(files[b"base/5/16384"], range(3, 1000, 100), 2)}
    manifest = bench.store(files)
    assert (1000, 10) == (bench.counts.read, bench.counts.changed)
    assert bench.stored_bytes < 10 * PAGE + 10 * 16 + 12_000
    bench.must_hold(manifest, files)


def test_an_unchanged_file_stores_no_page(bench):
    """Nothing but the manifest is written."""
    files = {b"base/5/1": random.Random(2).randbytes(300 * PAGE), b"base/5/2": b"x" * (3 * PAGE)}
    bench.store(files)
    manifest = bench.store(files)
    assert 0 == bench.counts.changed
    bench.must_hold(manifest, files)


def mutated(data, draw, step):
    """Return what may become of a file between two backups; None where it is dropped."""
    pages = len(data) // PAGE
    what = draw.randrange(7)
    if what == 0:
        return data[: draw.randrange(pages + 1) * PAGE]
    if what == 1:
        return data + draw.randbytes(draw.randrange(200) * PAGE)
    if what == 2:
        return draw.randbytes(len(data))
    if what == 3 and pages:
        return data[: -PAGE // 2]  # a page that was caught while it was added
    if what == 4:
        return None
    return changed(data, draw.sample(range(pages), draw.randrange(1, pages + 1)), step) if pages else data


@pytest.mark.parametrize("seed", range(12))
def test_every_snapshot_of_a_chain_is_whole(bench, seed):
    """Files grow, shrink, vanish, come anew and change in any pages; each snapshot gives its own files back."""
    draw = random.Random(seed)
    files = {b"base/5/%d" % number: draw.randbytes(draw.randrange(0, 400) * PAGE) for number in range(4)}
    kept = []
    for step in range(6):
        kept.append((bench.store(files), files))
        after = {path: mutated(data, draw, step) for path, data in files.items()}
        files = {path: data for path, data in after.items() if data is not None}
        if draw.random() < 0.5:
            files[b"base/5/%d" % (100 + step)] = draw.randbytes(draw.randrange(1, 5) * PAGE)
    for manifest, expected in kept:
        bench.must_hold(manifest, expected)
        assert expected.keys() == {e.path for e in manifest.entries(b"base/5") if e.path != b"base/5"}


def test_where_chunks_are_gone_the_pages_are_stored_anew(bench):
    """A snapshot never refers to what the store does not have."""
    files = {b"base/5/1": random.Random(3).randbytes(64 * PAGE)}
    bench.store(files)
    index = bench.repo.index()
    for pack_id in list(index.pack_ids()):
        index.forget_pack(pack_id)
    bench.old = None  # the manifest went with them
    manifest = bench.store(files)
    assert 64 == bench.counts.changed
    bench.must_hold(manifest, files)


def test_where_digests_do_not_open_the_file_is_stored_anew(bench, monkeypatch):
    """Damage in the snapshot before costs space and no content."""
    from coffer.errors import ObjectCorruptError

    files = {b"base/5/1": random.Random(4).randbytes(200 * PAGE)}
    bench.store(files)

    def fail(chunk_id):
        raise ObjectCorruptError("damaged")

    monkeypatch.setattr(bench.old, "chunk", fail)
    manifest = bench.store(files)
    assert 200 == bench.counts.changed
    bench.must_hold(manifest, files)


def test_a_page_that_moved_is_not_taken_for_its_old_place(bench):
    """Digests are compared at the same place of the same file only."""
    data = random.Random(6).randbytes(10 * PAGE)
    bench.store({b"base/5/1": data})
    swapped = {b"base/5/1": data[PAGE : 2 * PAGE] + data[:PAGE] + data[2 * PAGE :]}
    manifest = bench.store(swapped)
    assert 2 == bench.counts.changed
    bench.must_hold(manifest, swapped)
