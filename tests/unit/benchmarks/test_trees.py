"""The trees: the same from the same seed, honest in what they hold, whole or not there."""

import hashlib
import os
import random

import pytest

from benchmarks import trees

KIB = 1024


def make_texts(folder, count=20):
    rng = random.Random(5)
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.py").write_text("\n".join(f"value_{rng.randrange(1 << 60)} = {i}" for i in range(2000)))
    return trees.regular_files(folder)


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in trees.regular_files(root)
    }


def test_the_small_tree_is_the_same_from_the_same_seed(tmp_path):
    """Two machines with the same texts measure the same tree, and another seed gives another one."""
    texts = make_texts(tmp_path / "texts")
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        trees.write_small_tree(texts, tmp_path / name, files=100, folders=10, seed=seed)

    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert digests(tmp_path / "one") != digests(tmp_path / "three")


def test_small_files_are_of_one_to_eight_kib_and_no_two_are_equal(tmp_path):
    """Deduplication of whole files must find nothing: what is saved is saved by compression."""
    texts = make_texts(tmp_path / "texts")

    # More than the texts hold, so that later rounds through them are made as well.
    trees.write_small_tree(texts, tmp_path / "tree", files=1000, folders=10)

    sizes = [path.stat().st_size for path in trees.regular_files(tmp_path / "tree")]
    assert 1000 == len(sizes) == len(set(digests(tmp_path / "tree").values()))
    assert min(sizes) >= KIB
    assert max(sizes) <= 8 * KIB


def test_texts_that_are_too_short_are_refused(tmp_path):
    """Instead of an endless search for a slice."""
    (tmp_path / "short.py").write_text("x = 1")

    with pytest.raises(ValueError, match="too few and too short"):
        trees.write_small_tree([tmp_path / "short.py"], tmp_path / "tree", files=1, folders=1)


def test_half_of_the_big_file_is_random_and_half_is_real(tmp_path):
    """The first half is seeded and incompressible, the second holds the bytes of the sources."""
    texts = make_texts(tmp_path / "texts")
    size_bytes = 256 * KIB
    trees.write_big_file(texts, tmp_path / "big", size_bytes=size_bytes)

    data = (tmp_path / "big" / "big.bin").read_bytes()

    assert size_bytes == len(data)
    assert b"".join(trees.random_blocks(size_bytes // 2, 2)) == data[: size_bytes // 2]
    assert b"".join(path.read_bytes() for path in texts)[: size_bytes // 2] == data[size_bytes // 2 :]


def test_the_sources_of_the_big_file_are_never_repeated(tmp_path):
    """A repetition would be a gift to every tool that deduplicates."""
    texts = make_texts(tmp_path / "texts", count=1)

    with pytest.raises(ValueError, match="too small"):
        trees.write_big_file(texts, tmp_path / "big", size_bytes=4 * 2**20)


def test_one_percent_of_the_files_is_changed_and_the_rest_is_not(tmp_path):
    """The same seed changes the same files; each grows by 64 bytes; empty files and hardlinks elsewhere stay."""
    texts = make_texts(tmp_path / "texts")
    trees.write_small_tree(texts, tmp_path / "tree", files=400, folders=4)
    (tmp_path / "tree" / "empty").touch()
    before = digests(tmp_path / "tree")
    elsewhere = tmp_path / "elsewhere"
    trees.copy_tree(tmp_path / "tree", tmp_path / "twin")
    elsewhere.mkdir()
    for number, path in enumerate(trees.regular_files(tmp_path / "tree")):
        os.link(path, elsewhere / str(number))
    linked = digests(elsewhere)

    count = trees.change_one_percent(tmp_path / "tree", seed=3)
    trees.change_one_percent(tmp_path / "twin", seed=3)

    after = digests(tmp_path / "tree")
    assert 4 == count == sum(before[name] != after[name] for name in before)
    assert after == digests(tmp_path / "twin")
    assert linked == digests(elsewhere)


def test_touching_changes_every_time_and_no_content(tmp_path):
    """A touched tree is the same tree with newer times."""
    make_texts(tmp_path / "texts", count=3)
    before = digests(tmp_path / "texts")
    times = [path.stat().st_mtime_ns for path in trees.regular_files(tmp_path / "texts")]

    trees.touch_all(tmp_path / "texts")

    assert before == digests(tmp_path / "texts")
    assert [t + 10**9 for t in times] == [path.stat().st_mtime_ns for path in trees.regular_files(tmp_path / "texts")]


def test_a_tree_whose_making_failed_is_made_again(tmp_path):
    """Half a tree never stands at the place of a whole one."""

    def fails(target):
        target.mkdir()
        (target / "half").touch()
        raise OSError("disk full")

    def works(target):
        target.mkdir()
        (target / "whole").touch()

    with pytest.raises(OSError, match="disk full"):
        trees.make_once(tmp_path / "tree", fails)

    assert not (tmp_path / "tree").exists()
    assert ["whole"] == os.listdir(trees.make_once(tmp_path / "tree", works))


def test_the_copy_of_the_environment_leaves_pythons_caches_out(tmp_path):
    """Which modules were compiled depends on what was run before: it must not be part of the tree."""
    cached = tmp_path / "venv" / "lib" / "__pycache__"
    cached.mkdir(parents=True)
    (cached / "a.pyc").touch()
    (tmp_path / "venv" / "lib" / "a.py").touch()

    trees.write_venv_tree(tmp_path / "venv", tmp_path / "copy")

    assert ["a.py"] == os.listdir(tmp_path / "copy" / "lib")
