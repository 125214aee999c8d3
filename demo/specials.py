"""A small tree of everything that file systems have and copies often lose."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

_SEED = 20261101
_ONE_MIB = 1024 * 1024
# POSIX.1e ACL as the kernel keeps it: version 2, then (tag, permissions, id) each; <linux/posix_acl_xattr.h>
_ACL_VERSION = 2
_ACL_NO_ID = 0xFFFFFFFF
_ACL_USER_OBJ, _ACL_USER, _ACL_GROUP_OBJ, _ACL_MASK, _ACL_OTHER = 1, 2, 4, 16, 32


def make_specials(folder: Path) -> list[str]:
    """Make the tree in a new folder; its content is the same each time.

    Returns:
        What this machine or this user cannot make, each with the system's reason.
    """
    folder.mkdir(parents=True)
    missing = []
    for make in (_files, _links, _sparse, _names, _modes, _times, _kinds, _xattrs, _acl, _device):
        try:
            make(folder)
        except OSError as error:
            missing.append(f"{_PURPOSE[make]} ({error.strerror})")
    os.utime(folder, ns=(1_700_000_000_000_000_001, 1_700_000_000_000_000_001))
    return missing


def _files(folder: Path) -> None:
    draw = random.Random(_SEED)
    (folder / "empty").touch()
    (folder / "random-5MiB").write_bytes(draw.randbytes(5 * _ONE_MIB))
    (folder / "text-8MiB").write_bytes(b"".join(b"line %d of a long log\n" % n for n in range(8 * _ONE_MIB // 24)))
    copies = folder / "ten-copies-of-one-file"
    copies.mkdir()
    content = draw.randbytes(_ONE_MIB)
    for n in range(10):
        (copies / f"copy-{n}").write_bytes(content)
    small = folder / "small"
    small.mkdir()
    for n in range(500):
        (small / f"{n:03}.txt").write_text(f"{n}: " + "small file " * draw.randrange(200))


def _links(folder: Path) -> None:
    (folder / "empty-folder").mkdir()
    first = folder / "hardlink-1"
    first.write_text("one file with three names\n")
    (folder / "hardlink-2").hardlink_to(first)
    (folder / "small" / "hardlink-3").hardlink_to(first)
    (folder / "symlink").symlink_to("small/001.txt")
    (folder / "symlink-to-nowhere").symlink_to("/nowhere/at/all")


def _sparse(folder: Path) -> None:
    with (folder / "sparse-1GiB").open("wb") as file:
        for at in (0, 512 * _ONE_MIB, 1024 * _ONE_MIB - 4096):
            file.seek(at)
            file.write(b"island\n" * 500)
        file.truncate(1024 * _ONE_MIB)


def _names(folder: Path) -> None:
    names = (b"not-utf-8-\xff\xfe", b"new\nline", b"-r", b" spaces ", "\u5099\u4efd-\u00e9".encode(), b"n" * 255)
    for name in names:
        fd = os.open(os.path.join(os.fsencode(folder), name), os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, b"named " + name)
        os.close(fd)


def _modes(folder: Path) -> None:
    for mode in (0o400, 0o640, 0o777, 0o4755, 0o2755):
        path = folder / f"mode-{mode:04o}"
        path.touch()
        path.chmod(mode)
    sticky = folder / "mode-1777"
    sticky.mkdir()
    sticky.chmod(0o1777)


def _times(folder: Path) -> None:
    for name, time_ns in (("before-1970", -86_400_123_456_789), ("after-2100", 4_200_000_000_987_654_321)):
        path = folder / f"time-{name}"
        path.touch()
        os.utime(path, ns=(time_ns, time_ns))


def _kinds(folder: Path) -> None:
    os.mkfifo(folder / "fifo", 0o600)


def _xattrs(folder: Path) -> None:
    path = folder / "xattrs"
    path.touch()
    os.setxattr(path, "user.colour", b"blue")
    os.setxattr(path, "user.binary", bytes(range(256)))


def _acl(folder: Path) -> None:
    entries = (
        (_ACL_USER_OBJ, 6, _ACL_NO_ID),
        (_ACL_USER, 4, 1000),
        (_ACL_GROUP_OBJ, 4, _ACL_NO_ID),
        (_ACL_MASK, 4, _ACL_NO_ID),
        (_ACL_OTHER, 0, _ACL_NO_ID),
    )
    path = folder / "acl"
    path.touch()
    packed = struct.pack("<I", _ACL_VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", packed)


def _device(folder: Path) -> None:
    os.mknod(folder / "device-null", 0o020666, os.makedev(1, 3))


_PURPOSE: dict[Callable[[Path], None], str] = {
    _files: "files",
    _links: "links",
    _sparse: "a sparse file",
    _names: "odd names",
    _modes: "modes",
    _times: "times",
    _kinds: "a fifo",
    _xattrs: "extended attributes",
    _acl: "an ACL",
    _device: "a device node",
}
