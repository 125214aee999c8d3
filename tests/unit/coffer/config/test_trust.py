"""Whose policy it is."""

from __future__ import annotations

import os
import stat

import pytest

from coffer.config.trust import distrust, distrust_owner

ROOT, OTHER_GROUP = 0, 4_000_000
MINE, STRANGER = os.geteuid(), 4_000_001
FILE, FOLDER, LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK


def looks(mode, uid, gid=OTHER_GROUP):
    """What stat says of something."""
    return os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (looks(FILE | 0o644, MINE), ""),
        (looks(FILE | 0o600, ROOT), ""),
        (looks(FOLDER | 0o755, ROOT), ""),
        (looks(FILE | 0o664, MINE, os.getegid()), ""),
        (looks(LINK | 0o777, MINE), ""),
        (looks(FILE | 0o664, MINE), "may be written by others, mode 0664"),
        (looks(FILE | 0o646, MINE, os.getegid()), "may be written by others, mode 0646"),
        (looks(FOLDER | 0o1777, ROOT), "may be written by others, mode 1777"),
        (looks(FILE | 0o600, STRANGER), f"belongs to user {STRANGER}"),
        (looks(LINK | 0o777, STRANGER), f"belongs to user {STRANGER}"),
    ],
)
def test_owner_and_mode_decide(found, expected):
    """Root and oneself are trusted, and a group only where it is this process's own."""
    assert expected == distrust_owner(found)


def test_a_link_is_looked_at_and_what_it_leads_to(tmp_path):
    """A folder that others may write is not hidden by a link to it."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "p.yaml").touch(mode=0o600)
    (tmp_path / "config").symlink_to("real")
    assert "" == distrust(tmp_path / "config" / "p.yaml")
    (tmp_path / "real").chmod(0o707)
    assert "folder may be written by others, mode 0707" == distrust(tmp_path / "config" / "p.yaml")
