"""`coffer diff`: two snapshots beside each other."""

from __future__ import annotations

import pytest


@pytest.fixture
def two(coffer, repo, tree):
    """Two snapshots with one change of each kind between them."""
    coffer("backup", tree, "--source", "one")
    (tree / "a.txt").write_text("changed\n")
    (tree / "docs" / "b.txt").chmod(0o600)
    (tree / "docs" / "deep" / "c.bin").unlink()
    (tree / "docs" / "deep" / "d.bin").touch()
    coffer("backup", tree, "--source", "two")
    return str(tree)


def test_each_kind_of_change_has_its_sign(coffer, two):
    """Added, removed, content, metadata; with what differs, and the sum at the end."""
    lines = coffer("diff", "latest:one", "latest:two").out.splitlines()
    assert f"M {two}/a.txt  (content, mtime)" in lines
    assert f"m {two}/docs/b.txt  (mode)" in lines
    assert f"- {two}/docs/deep/c.bin" in lines
    assert f"+ {two}/docs/deep/d.bin" in lines
    assert lines[-1].startswith("1 added, 1 removed, 1 changed, ")


def test_the_rows_hold_both_sides(coffer, two):
    """Programs get the old and the new entry; null where there is none."""
    result = coffer("diff", "latest:one", "latest:two", "--json").result
    changes = {change["path"].rpartition("/")[2]: change for change in result["changes"]}
    assert (600, 8) == (changes["a.txt"]["old"]["size_bytes"], changes["a.txt"]["new"]["size_bytes"])
    assert (None, "removed") == (changes["c.bin"]["new"], changes["c.bin"]["change"])
    assert (None, "added") == (changes["d.bin"]["old"], changes["d.bin"]["change"])
    assert len(result["changes"]) == sum(result["counts"].values())


def test_content_only_leaves_out_what_changed_only_around_it(coffer, two):
    """A touched or chmodded file is not shown."""
    result = coffer("diff", "latest:one", "latest:two", "--content-only", "--json").result
    assert {"added": 1, "removed": 1, "changed": 1, "metadata": 0} == result["counts"]


def test_a_snapshot_is_equal_to_itself(coffer, two):
    """Nothing differs, and no block of the manifest is read."""
    ended = coffer("diff", "latest:one", "latest:one")
    assert (0, "0 added, 0 removed, 0 changed, 0 metadata\n") == ended[:2]
