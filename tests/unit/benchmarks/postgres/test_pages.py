"""Which pages changed: the yardstick that no tool has a hand in."""

import random

from benchmarks.postgres.pages import PAGE_BYTES, changed_pages, fingerprint, pages_of


def cluster_of(folder, **files):
    for name, content in files.items():
        path = folder / "base" / "5" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "global").mkdir(exist_ok=True)
    return folder


def noise(pages, seed):
    return random.Random(seed).randbytes(pages * PAGE_BYTES)


def test_nothing_changed_is_no_page(tmp_path):
    """The same files have the same fingerprint, and all of their pages are counted."""
    data = cluster_of(tmp_path, t1=noise(3, 1), t2=noise(2, 2))

    before = fingerprint(data)

    assert 5 == pages_of(before)
    assert (0, 0) == (changed_pages(before, data).pages, changed_pages(before, data).size_bytes)


def test_one_byte_changes_one_page(tmp_path):
    """A page counts once, however little of it changed, and its neighbours do not."""
    content = bytearray(noise(3, 1))
    before = fingerprint(cluster_of(tmp_path, t1=bytes(content)))
    content[PAGE_BYTES + 17] ^= 1

    changed = changed_pages(before, cluster_of(tmp_path, t1=bytes(content)))

    assert (1, PAGE_BYTES) == (changed.pages, changed.size_bytes)


def test_new_pages_and_new_files_are_changes(tmp_path):
    """What was not there before has to be stored; what went has not."""
    before = fingerprint(cluster_of(tmp_path, t1=noise(2, 1), gone=noise(4, 3)))
    (tmp_path / "base" / "5" / "gone").unlink()

    changed = changed_pages(before, cluster_of(tmp_path, t1=noise(2, 1) + noise(1, 4), new=noise(3, 5)))

    assert 4 == changed.pages


def test_the_compressed_size_is_that_of_the_changed_pages_alone(tmp_path):
    """Noise does not compress, so its pages give about their own length; pages of zeros give next to nothing."""
    before = fingerprint(cluster_of(tmp_path, t1=noise(8, 1)))

    zeros = changed_pages(before, cluster_of(tmp_path, t1=bytes(8 * PAGE_BYTES)))
    incompressible = changed_pages(before, cluster_of(tmp_path, t1=noise(8, 2)))

    assert zeros.zstd_bytes < 200
    assert 8 * PAGE_BYTES <= incompressible.zstd_bytes < 8 * PAGE_BYTES + 200


def test_only_files_of_relations_are_looked_at(tmp_path):
    """WAL and statistics are no pages of the cluster."""
    data = cluster_of(tmp_path, t1=noise(1, 1))
    before = fingerprint(data)
    (data / "pg_wal").mkdir()
    (data / "pg_wal" / "0001").write_bytes(noise(4, 9))

    assert 0 == changed_pages(before, data).pages
