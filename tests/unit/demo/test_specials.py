"""The tree of special files that the demo backs up."""

import os
import stat

from demo.specials import make_specials


def test_the_tree_has_what_copies_often_lose(tmp_path):
    """Links, holes, odd names, modes, times and a fifo; what cannot be made is said, and is little."""
    missing = make_specials(tmp_path / "tree")
    tree = tmp_path / "tree"
    assert [] == [text for text in missing if not text.startswith(("a device node", "extended attributes", "an ACL"))]
    assert 3 == (tree / "hardlink-1").stat().st_nlink
    sparse = (tree / "sparse-1GiB").stat()
    assert sparse.st_blocks * 512 < sparse.st_size // 100
    assert b"not-utf-8-\xff\xfe" in os.listdir(os.fsencode(tree))
    assert 0o4755 == stat.S_IMODE((tree / "mode-4755").stat().st_mode)
    assert stat.S_ISFIFO((tree / "fifo").stat().st_mode)
    assert (tree / "time-before-1970").stat().st_mtime_ns < 0


def test_two_trees_are_equal(tmp_path):
    """The content is seeded: a failure of the demo can be looked into again."""
    for name in ("one", "two"):
        make_specials(tmp_path / name)
    one, two = ((tmp_path / name / "random-5MiB").read_bytes() for name in ("one", "two"))
    assert one == two
