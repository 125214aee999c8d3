"""Hard links are right if inodes of one tree stand for inodes of the other, one to one."""

import os
from types import SimpleNamespace

import pytest

from coffer.verification.hardlinks import LinkGroups


def status(ino, nlink=2):
    return SimpleNamespace(st_dev=1, st_ino=ino, st_nlink=nlink)


def meet_all(pairs):
    groups = LinkGroups()
    return [groups.meet(one, two) for one, two in pairs]


def test_two_groups_of_the_same_shape_are_alike():
    """The second name of a pair of inodes is no difference, and is not met for the first time."""
    pair = status(1), status(7)
    assert [(True, None), (False, None)] == meet_all([pair, pair])


def test_files_of_one_name_are_always_met_for_the_first_time():
    """A file without further names takes no record."""
    pair = status(1, nlink=1), status(7, nlink=1)
    assert [(True, None)] * 2 == meet_all([pair, pair])


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (
            [(status(1), status(7, 1)), (status(1), status(8, 1))],
            ("another name of a file met before", "a file of its own"),
        ),
        (
            [(status(1, 1), status(7)), (status(2, 1), status(7))],
            ("a file of its own", "another name of a file met before"),
        ),
        (
            [(status(1, 3), status(7, 3)), (status(2, 3), status(8, 3)), (status(1, 3), status(8, 3))],
            ("linked to some names", "linked to others"),
        ),
    ],
    ids=["split", "joined", "crossed"],
)
def test_groups_of_another_shape_differ_at_the_first_name_that_shows_it(pairs, expected):
    """Links that were split, joined or crossed are seen, and the content is compared again."""
    *before, last = meet_all(pairs)
    assert [(True, None)] * len(before) == before
    assert (True, expected) == last


def test_a_group_is_forgotten_once_all_its_names_were_seen():
    """Memory is bounded by the files whose other names are still to come."""
    groups = LinkGroups()
    for ino in range(100):
        for _ in range(2):
            groups.meet(status(ino), status(1000 + ino))
    assert (0, 0) == (len(groups._there), len(groups._here))


def test_names_outside_the_tree_are_no_difference(tmp_path):
    """A link whose other name lies elsewhere has another count of links than its copy, and that is all right."""
    (tmp_path / "inside").write_bytes(b"x")
    os.link(tmp_path / "inside", tmp_path / "outside")
    (tmp_path / "copy").write_bytes(b"x")
    pair = os.lstat(tmp_path / "inside"), os.lstat(tmp_path / "copy")
    assert [(True, None)] == meet_all([pair])
