"""Bundles of which little is alive are made anew, so that what is dead in the store stays bounded without a prune."""

from __future__ import annotations

import random

import pytest

from coffer.repository.entries import Kind
from coffer.repository.pack import TYPE_DATA
from tests.harness.backups import write_tree

ROUNDS = 20


def weights(bench, result):
    """Return (bytes of files that lie in bundles, bytes of the bundles that they lie in) of one snapshot."""
    repo = bench.reopen()
    manifest = repo.manifest(result.snapshot)
    alive, chunks = 0, set()
    for entry in manifest.entries():
        if entry.kind is Kind.FILE and entry.content is not None:
            extents = list(manifest.expand(entry.content))
            chunks |= {extent.chunk_id for extent in extents if extent.chunk_id}
            alive += sum(extent.length for extent in extents if extent.chunk_id)
    return alive, sum(repo.index().find(chunk_id).raw_length for chunk_id in chunks)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_dead_weight_stays_bounded_over_twenty_rounds_of_churn(bench, share):
    """Every round rewrites a share of the files. What a snapshot refers to is at most twice what is alive in it."""
    draw = random.Random(20)
    names = [f"d{n % 5}/f{n:03}" for n in range(200)]
    write_tree(bench.root, {name: draw.randbytes(draw.randrange(50, 800)) for name in names})
    bench.back_up()
    worst = 0.0
    read = 0
    for _ in range(ROUNDS):
        changed = draw.sample(names, round(share * len(names)))
        write_tree(bench.root, {name: draw.randbytes(draw.randrange(50, 800)) for name in changed})
        result = bench.back_up()
        bench.assert_saved(result)
        read += result.stats["read_bytes"]
        alive, held = weights(bench, result)
        worst = max(worst, held / alive)
    total = bench.reopen().index().totals()[TYPE_DATA][1]
    print(f"{share}: at worst {worst:.2f} x alive, store {total / alive:.2f} x, read {read / alive / ROUNDS:.2f} x")
    # A bundle is made anew by the run after the one that found it less than half alive: so somewhat above two.
    assert worst < 2.3
    assert 1.0 <= worst


def test_a_bundle_less_than_half_alive_is_made_anew_by_the_next_run(bench):
    """Its files are read once more, though they did not change; the old chunk is in no snapshot from then on."""
    write_tree(bench.root, {f"f{n}": bytes([n]) * 600 for n in range(10)})
    first = bench.back_up()
    bundles = {e.content.extents[0].chunk_id for e in bench.repo.manifest(first.snapshot).entries() if e.content}
    for n in {*range(10)} - {1}:  # the first bundle holds at least four of them
        (bench.root / f"f{n}").unlink()
    second = bench.back_up()
    sparse = bench.repo.manifest(second.snapshot).root.sparse
    assert sparse
    assert sparse <= bundles
    third = bench.back_up()
    bench.assert_saved(third)
    assert 600 == third.stats["read_bytes"]
    manifest = bench.repo.manifest(third.snapshot)
    assert frozenset() == manifest.root.sparse
    assert not bundles & {entry.content.extents[0].chunk_id for entry in manifest.entries() if entry.content}
    fourth = bench.back_up()
    assert (0, 0) == (fourth.stats["read_bytes"], fourth.stats["chunks_new"])


def test_a_bundle_more_than_half_alive_stays_where_it_is(bench):
    """To join it anew would cost more than its dead part takes up: nothing is read for it."""
    write_tree(bench.root, {f"f{n}": bytes([n]) * 600 for n in range(10)})
    bench.back_up()
    (bench.root / "f1").unlink()  # one of at least four in the first bundle
    second = bench.back_up()
    assert frozenset() == bench.repo.manifest(second.snapshot).root.sparse
    assert 0 == bench.back_up().stats["read_bytes"]


def test_many_small_bundles_are_joined(bench):
    """Runs that find one new file each leave one small bundle each; after some dozens they become few."""
    draw = random.Random(4)
    most = 0
    for n in range(80):
        write_tree(bench.root, {f"f{n:02}": draw.randbytes(100)})
        result = bench.back_up()
        manifest = bench.repo.manifest(result.snapshot)
        bundles = {entry.content.extents[0].chunk_id for entry in manifest.entries() if entry.content}
        most = max(most, len(bundles))
    bench.assert_saved(result)
    assert 60 < most < 70
    assert len(bundles) < 30


def test_what_waits_to_be_bundled_anew_survives_a_run_without_changes(bench):
    """A run that is stopped or does nothing does not forget it."""
    write_tree(bench.root, {f"f{n}": bytes([n]) * 600 for n in range(10)})
    bench.back_up()
    for n in {*range(10)} - {1}:  # the first bundle holds at least four of them
        (bench.root / f"f{n}").unlink()
    bench.back_up()
    third = bench.back_up(force_read=True)
    bench.assert_saved(third)
    assert frozenset() == bench.repo.manifest(third.snapshot).root.sparse
