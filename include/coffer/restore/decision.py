"""Decide what becomes of one entry, from what the snapshot says and what stands in its place. Pure."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from coffer.repository.blocks import GID, MODE, MTIME, SIZE, UID, Row
from coffer.restore.spec import Action, Overwrite

_SET_IDS = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True, slots=True)
class Powers:
    """What the restoring user may do.

    Attributes:
        is_root: May give files any owner and make device nodes.
        uid, gid: Effective ids: who owns a new file.
    """

    is_root: bool
    uid: int
    gid: int

    @classmethod
    def of_process(cls) -> Powers:
        """Return the powers of this process."""
        uid = os.geteuid()
        return cls(uid == 0, uid, os.getegid())

    def gives(self, row: Row) -> bool:
        """Say whether a file restored from this row gets its owner and group."""
        return self.is_root or (row[UID] == self.uid and row[GID] == self.gid)

    def mode_of(self, row: Row) -> int:
        """Return the mode that a file restored from this row gets: setuid and setgid go only with their owner."""
        mode = row[MODE] & 0o7777
        return mode if self.gives(row) or stat.S_ISDIR(row[MODE]) else mode & ~_SET_IDS


def decide(
    row: Row, there: os.stat_result | None, overwrite: Overwrite | None, powers: Powers, *, same_place: bool = True
) -> Action:
    """Return what to do with an entry.

    A folder is never removed, whatever the options say: what is in it was not named by anybody.

    Args:
        row: The entry's stat row.
        there: lstat of its place in the target; None where nothing is there.
        overwrite: As asked for.
        powers: Of the restoring user.
        same_place: Whether a link there leads to the same target, or a device has the same number.
    """
    if there is None:
        return Action.CREATE
    if overwrite is None:
        return Action.REFUSE
    is_folder, folder_there = stat.S_ISDIR(row[MODE]), stat.S_ISDIR(there.st_mode)
    if is_folder and folder_there:
        keeps = overwrite is Overwrite.NEVER or _same_attributes(row, there, powers)
        return Action.KEEP if keeps else Action.OVERWRITE
    if overwrite is Overwrite.NEVER:
        return Action.REFUSE if is_folder else Action.KEEP
    if folder_there:
        return Action.REFUSE
    if overwrite is Overwrite.CHANGED and same_place and _same_file(row, there, powers):
        return Action.KEEP
    return Action.OVERWRITE


def _same_file(row: Row, there: os.stat_result, powers: Powers) -> bool:
    if stat.S_ISREG(row[MODE]) and row[SIZE] != there.st_size:
        return False
    return stat.S_IFMT(row[MODE]) == stat.S_IFMT(there.st_mode) and _same_attributes(row, there, powers)


def _same_attributes(row: Row, there: os.stat_result, powers: Powers) -> bool:
    """Compare what lstat tells. A file's owner counts only for who could set it."""
    same_owner = not powers.is_root or (row[UID], row[GID]) == (there.st_uid, there.st_gid)
    same_mode = stat.S_ISLNK(row[MODE]) or powers.mode_of(row) == stat.S_IMODE(there.st_mode)
    return same_owner and same_mode and row[MTIME] == there.st_mtime_ns
