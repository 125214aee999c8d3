"""The comparison of two manifests: right, in order, and free where nothing changed."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.cli.comparing import ADDED, CHANGED, METADATA, REMOVED, changes_between, compare_entries
from coffer.ids import ContentId
from coffer.repository.entries import Content, Entry, path_key

FILE = Entry(b"a", stat.S_IFREG | 0o644, 0, 0, 3, 1, 1, 1, 1, 1, content=Content(ContentId(b"c" * 16), ()))
LINK = Entry(b"a", stat.S_IFLNK | 0o777, 0, 0, 3, 1, 1, 1, 1, 1, link_target=b"x")
DEVICE = Entry(b"a", stat.S_IFCHR | 0o600, 0, 0, 0, 1, 1, 1, 1, 1, rdev=os.makedev(1, 3))


@pytest.mark.parametrize(
    ("old", "more", "change", "what"),
    [
        (FILE, {"content": Content(ContentId(b"d" * 16), ())}, CHANGED, ("content",)),
        (FILE, {"content": None, "size_bytes": 0}, CHANGED, ("content",)),
        (FILE, {"mode": stat.S_IFREG | 0o600}, METADATA, ("mode",)),
        (FILE, {"uid": 1}, METADATA, ("owner",)),
        (FILE, {"gid": 1, "mtime_ns": 2}, METADATA, ("owner", "mtime")),
        (FILE, {"xattrs": ((b"user.a", b"1"),)}, METADATA, ("xattrs",)),
        (FILE, {"content": None, "mtime_ns": 5}, CHANGED, ("content", "mtime")),
        (FILE, {"mode": stat.S_IFDIR | 0o755}, CHANGED, ("file to directory",)),
        (LINK, {"link_target": b"y"}, CHANGED, ("target",)),
        (DEVICE, {"rdev": os.makedev(1, 5)}, CHANGED, ("device",)),
    ],
)
def test_each_attribute_that_a_restore_brings_back_is_compared(old, more, change, what):
    """Content first; what else differs is named too."""
    found = compare_entries(old, replace(old, **more))
    assert (change, what) == (found.change, found.what)


@pytest.mark.parametrize("more", [{}, {"ino": 9}, {"dev": 9}, {"ctime_ns": 9}, {"nlink": 9}])
def test_what_no_restore_brings_back_is_not_compared(more):
    """Inode, device and ctime differ after every restore."""
    assert compare_entries(FILE, replace(FILE, **more)) is None


class Manifest:
    """A manifest of one block an entry, in manifest order; counts the blocks that are read."""

    def __init__(self, files):
        entries = [replace(FILE, path=path, mtime_ns=mtime) for path, mtime in files.items()]
        entries.sort(key=lambda e: (path_key(e.path.rpartition(b"/")[0]), e.path.rpartition(b"/")[2]))
        self.root = self
        self.blocks = [Block(entry) for entry in entries]
        self.read = 0

    def groups(self, block):
        self.read += 1
        return [block]


class Block:
    """A block that is its own group."""

    def __init__(self, entry):
        self._entry = entry
        self.stable, self.times, self.content = entry.path, str(entry.mtime_ns).encode(), None

    def entries(self):
        return [self._entry]


NAMES = st.lists(st.sampled_from([b"a", b"b", b"a-", b"c"]), min_size=1, max_size=3).map(b"/".join)
TREES = st.dictionaries(NAMES, st.integers(1, 3), max_size=8)


@given(TREES, TREES)
def test_the_difference_is_that_of_two_dicts(old, new):
    """Whatever the trees are, exactly the right changes come out, and in manifest order."""
    left, right = Manifest(old), Manifest(new)
    found = list(changes_between(left, right))
    expected = dict.fromkeys(old.keys() - new.keys(), REMOVED)
    expected |= dict.fromkeys(new.keys() - old.keys(), ADDED)
    expected |= {path: METADATA for path in old.keys() & new.keys() if old[path] != new[path]}
    assert expected == {change.path: change.change for change in found}
    order = [(path_key(c.path.rpartition(b"/")[0]), c.path.rpartition(b"/")[2]) for c in found]
    assert sorted(order) == order
    assert len(expected) == len(found)


def test_blocks_that_both_have_are_not_read():
    """Two equal snapshots are compared by their roots alone."""
    old, new = Manifest({b"a": 1, b"b": 1, b"c": 1}), Manifest({b"a": 1, b"b": 2, b"c": 1})
    assert [b"b"] == [change.path for change in changes_between(old, new)]
    assert (1, 1) == (old.read, new.read)
