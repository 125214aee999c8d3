"""How one file is shown."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

import pytest

from coffer.cli.listing import entry_fields, entry_line
from coffer.repository.entries import Entry

PLAIN = Entry(b"srv/a", stat.S_IFREG | 0o4755, 1000, 100, 12_345, 1_793_491_200 * 10**9, 0, 1, 1, 2)


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (PLAIN, "-rwsr-xr-x  1000   100          12,345 2026-11-01 00:00:00 /srv/a"),
        (
            replace(PLAIN, mode=stat.S_IFLNK | 0o777, link_target=b"x\x1b"),
            "lrwxrwxrwx  1000   100          12,345 2026-11-01 00:00:00 /srv/a -> x\\x1b",
        ),
        (
            replace(PLAIN, mode=stat.S_IFBLK | 0o660, rdev=os.makedev(8, 1)),
            "brw-rw----  1000   100             8,1 2026-11-01 00:00:00 /srv/a",
        ),
    ],
)
def test_a_line_is_like_that_of_ls(entry, line):
    """Kind and mode, owner and group as numbers, size or device, time, path, target."""
    assert line == entry_line(entry)


def test_fields_are_those_that_the_file_has():
    """Target, device and attributes are there where the file has them, exact bytes where a name is not UTF-8."""
    fields = entry_fields(PLAIN)
    assert ("4755", 2, "file", 12_345) == (fields["mode"], fields["links"], fields["kind"], fields["size_bytes"])
    assert not {"target", "device", "xattrs", "path_base64"} & fields.keys()
    odd = entry_fields(replace(PLAIN, mode=stat.S_IFLNK | 0o777, link_target=b"\xff", xattrs=((b"user.a", b"1"),)))
    assert ("\\xff", "/w==", ["user.a"]) == (odd["target"], odd["target_base64"], odd["xattrs"])
    assert "8,1" == entry_fields(replace(PLAIN, mode=stat.S_IFCHR | 0o600, rdev=os.makedev(8, 1)))["device"]
