"""`coffer stats`: figures that add up."""

from __future__ import annotations

import random


def test_sizes_add_up_to_what_lies_on_disk(coffer, repo, tree):
    """The sum of all objects is the sum of all files of the folder."""
    coffer("backup", tree)
    result = coffer("stats", "--json").result
    on_disk = [path.stat().st_size for path in repo.rglob("*") if path.is_file()]
    assert {"count": len(on_disk), "bytes": sum(on_disk)} == result["objects"]["total"]
    assert {"count": 1, "size_bytes": 600 + 500 + 5120} == result["snapshots"]


def test_random_data_is_counted_as_stored_as_it_is(coffer, repo, tree):
    """raw_stored_bytes is the part of the data that would not shrink."""
    coffer("backup", tree, "--source", "s")
    before = coffer("stats", "--json").result["data"]
    (tree / "random").write_bytes(random.Random(7).randbytes(1_000_000))
    coffer("backup", tree, "--source", "s")
    after = coffer("stats", "--json").result["data"]
    assert 0 == before["raw_stored_bytes"]
    assert 1_000_000 <= after["raw_stored_bytes"] < 1_010_000
    assert after["raw_stored_bytes"] < after["stored_bytes"]


def test_a_second_source_of_the_same_files_is_deduplicated(coffer, repo, tree):
    """Twice the files, once the data: the ratio is 2."""
    for source in ("a", "b"):
        coffer("backup", tree, "--source", source)
    ended = coffer("stats")
    assert "deduplication: 2 times smaller" in ended.out
    assert "2 snapshots of 12.1 KiB in all" in ended.out


def test_an_empty_repository_has_no_ratio(coffer, repo):
    """Nothing is divided by nothing."""
    ratios = coffer("stats", "--json").result["ratios"]
    assert {"deduplication": None, "compression": None, "total": None} == ratios
    assert "smaller" not in coffer("stats").out
