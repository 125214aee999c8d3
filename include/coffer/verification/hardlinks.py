"""Which names of two trees are hard links of one file."""

from __future__ import annotations

import os

Inode = tuple[int, int]  # device, inode number


class LinkGroups:
    """Which inode of one tree stands for which of the other: hard links are right if that is one to one."""

    def __init__(self) -> None:
        self._there: dict[Inode, tuple[Inode, int]] = {}  # expected inode -> (actual inode, names still to come)
        self._here: dict[Inode, tuple[Inode, int]] = {}

    def meet(self, status: os.stat_result, other: os.stat_result) -> tuple[bool, tuple[str, str] | None]:
        """Take in one pair of names.

        Returns:
            (whether the pair of inodes is met for the first time, the difference or None).
        """
        if status.st_nlink == other.st_nlink == 1:
            return True, None
        one, two = (status.st_dev, status.st_ino), (other.st_dev, other.st_ino)
        known, back = self._there.get(one), self._here.get(two)
        _count_down(self._there, one, two, status.st_nlink)
        _count_down(self._here, two, one, other.st_nlink)
        if known is None and back is None:
            return True, None
        if known is not None and back is not None and (known[0], back[0]) == (two, one):
            return False, None
        if known is not None and back is not None:
            return True, ("linked to some names", "linked to others")
        return True, (_note(known), _note(back))


def _count_down(table: dict[Inode, tuple[Inode, int]], inode: Inode, partner: Inode, nlink: int) -> None:
    partner, left = table.get(inode, (partner, nlink))
    if left <= 1:
        table.pop(inode, None)
    else:
        table[inode] = partner, left - 1


def _note(met: tuple[Inode, int] | None) -> str:
    return "a file of its own" if met is None else "another name of a file met before"
