"""Restore a snapshot: whole, a path, or what fits a pattern; into a new folder or over an old one.

`selection` says what is wanted, `decision` what becomes of each entry (both pure), `plan` lists it. `execute` carries
it out: `tree` makes folders, `fetch` brings chunks, `placing` and `files` write, `attributes` come last, and `readback`
verifies.
Everything is done relative to `folders`, descriptors below the target that follow no symbolic link (invariant I11).
"""

from coffer.restore.execute import restore
from coffer.restore.plan import plan_restore
from coffer.restore.spec import Overwrite, PlannedEntry, RestoreFailure, RestoreOptions, RestoreResult
from coffer.restore.target import taken_back_unused

__all__ = [
    "Overwrite",
    "PlannedEntry",
    "RestoreFailure",
    "RestoreOptions",
    "RestoreResult",
    "plan_restore",
    "restore",
    "taken_back_unused",
]
