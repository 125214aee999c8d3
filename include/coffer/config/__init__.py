"""The policy file: one YAML file that says what is backed up, where to, when, and for how long.

Terms: a *source* is what is backed up, a *location* a folder with a complete repository in it, the *project folder*
what relative paths count from. The file names no secret, only where one is.

The names below are loaded when first used: a command that needs no policy does not pay for reading one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coffer.config.databases import DatabaseCluster, DatabaseServer
    from coffer.config.filetree import FileTreeSource
    from coffer.config.loading import check_policy, find_policy, load_policy, parse_policy, project_folder_of
    from coffer.config.mistakes import PolicyMistake, format_mistakes
    from coffer.config.notes import policy_notes
    from coffer.config.policy import Dedup, KeyReference, Location, Performance, Policy

__all__ = [
    "DatabaseCluster",
    "DatabaseServer",
    "Dedup",
    "FileTreeSource",
    "KeyReference",
    "Location",
    "Performance",
    "Policy",
    "PolicyMistake",
    "check_policy",
    "find_policy",
    "format_mistakes",
    "load_policy",
    "parse_policy",
    "policy_notes",
    "project_folder_of",
]

_MODULE_OF = {
    "DatabaseCluster": "databases",
    "DatabaseServer": "databases",
    "FileTreeSource": "filetree",
    "PolicyMistake": "mistakes",
    "format_mistakes": "mistakes",
    "Dedup": "policy",
    "KeyReference": "policy",
    "Location": "policy",
    "Performance": "policy",
    "Policy": "policy",
    "check_policy": "loading",
    "find_policy": "loading",
    "load_policy": "loading",
    "parse_policy": "loading",
    "policy_notes": "notes",
    "project_folder_of": "loading",
}


def __getattr__(name: str) -> Any:
    """Load a public name's module when the name is first used (PEP 562)."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
