"""File-tree sources, and the schedule of the DAG that backs them up."""

from __future__ import annotations

from typing import Annotated, Literal

from coffer.config.base import PolicyModel
from coffer.config.values import ONCE, SOME, AbsolutePath, Flag, Name, Pattern, Schedule, written


class FileTreeSource(PolicyModel):
    """A named set of file trees that is backed up as one snapshot."""

    name: Name
    """The source's name; snapshots are found by it (`latest:NAME`)."""
    kind: Literal["filesystem"] = "filesystem"
    """What is read."""
    paths: Annotated[tuple[AbsolutePath, ...], SOME, ONCE]
    """Files and folders to back up, each with all below it."""
    include: Annotated[tuple[Pattern, ...], ONCE] = ()
    """What is taken although `exclude` leaves it out, as `!pattern` there; not what lies below an excluded folder."""
    exclude: Annotated[tuple[Pattern, ...], ONCE] = ()
    """What is left out, relative to each path; a later `!pattern` takes it in again."""
    one_file_system: Flag = False
    """True does not go into other file systems mounted below a path."""
    exclude_caches: Flag = False
    """True leaves out the content of folders that hold a valid CACHEDIR.TAG."""
    tags: Annotated[tuple[Name, ...], ONCE] = ()
    """Free labels, kept in each snapshot; a sync procedure takes the sources tagged with its name."""
    schedule: Schedule | None = None
    """When this source is backed up, if not by `filesystem_backup.schedule`."""
    locations: Annotated[tuple[Name, ...], SOME, ONCE] | None = None
    """The local locations that it goes to; all of them where left out."""


class FilesystemBackup(PolicyModel):
    """The DAG `filesystem_backup`."""

    schedule: Schedule = written("0 0 * * *")
    """When file-tree sources are backed up."""
