"""Trees with every kind of file, and what became of them in a restore's target."""

from __future__ import annotations

import os
import random
import socket
import stat
import struct
from collections.abc import Collection
from pathlib import Path

from coffer.ids import pack_name
from coffer.repository.pack import ChunkLocation
from coffer.verification.compare import compare_trees
from tests.harness.backups import Workbench

# user::rw-, user:1234:r--, group::r--, mask::r--, other::---, as the kernel stores it (linux/posix_acl_xattr.h).
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, number)
    for tag, permissions, number in [
        (0x01, 6, 0xFFFFFFFF),
        (0x02, 4, 1234),
        (0x04, 4, 0xFFFFFFFF),
        (0x10, 4, 0xFFFFFFFF),
        (0x20, 0, 0xFFFFFFFF),
    ]
)
# cap_net_bind_service=ep, revision 2 (linux/capability.h).
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)


def write_plain_kinds(root: Path) -> None:
    """Write what any user can make: files small, large and sparse, links, a fifo, odd names, xattrs, modes, times."""
    draw = random.Random(11)
    (root / "docs" / "deep" / "er").mkdir(parents=True)
    (root / "empty folder").mkdir()
    for number in range(60):
        (root / "docs" / f"{number:03d}.txt").write_bytes(draw.randbytes(draw.randrange(1, 900)))
    (root / "docs" / "deep" / "copy.txt").write_bytes((root / "docs" / "000.txt").read_bytes())
    (root / "docs" / "deep" / "er" / "empty").write_bytes(b"")
    (root / "large").write_bytes(draw.randbytes(60_000))
    with (root / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(draw.randbytes(9000))
        file.truncate(3 << 20)
    with (root / "hole").open("wb") as file:
        file.truncate(5 << 20)
    os.symlink("docs/000.txt", root / "link")
    os.symlink("nowhere at all", root / "dangling")
    os.symlink("docs", root / "folder link")
    os.mkfifo(root / "fifo", 0o640)
    (root / os.fsdecode(b"not\xff\xfeutf-8\n")).write_bytes(b"odd")
    os.setxattr(root / "docs" / "001.txt", "user.note", b"kept")
    os.setxattr(root / "docs", "user.note", b"\0binary\xff")
    (root / "first name").write_bytes(draw.randbytes(500))
    os.link(root / "first name", root / "docs" / "second name")
    os.link(root / "first name", root / "third name")
    os.chmod(root / "docs" / "002.txt", 0o400)
    os.chmod(root / "docs" / "003.txt", 0o4755)
    os.chmod(root / "docs" / "deep", 0o555)
    os.chmod(root / "empty folder", 0o3770)
    set_times(root)


def write_root_kinds(root: Path) -> None:
    """Write what only root can make: owners, device nodes, capabilities, ACLs of others."""
    owned = root / "owned"
    owned.mkdir()
    (owned / "file").write_bytes(b"of somebody")
    (owned / "setuid").write_bytes(b"program")
    (owned / "capable").write_bytes(b"program")
    (owned / "listed").write_bytes(b"acl")
    os.symlink("file", owned / "link")
    os.mknod(owned / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(owned / "disk", stat.S_IFBLK | 0o660, os.makedev(7, 99))
    os.mkfifo(owned / "fifo")
    os.chmod(owned / "null", 0o666)
    for name in ("file", "setuid", "fifo", "disk", "capable"):
        os.chown(owned / name, 1234, 4321)
    os.chown(owned / "link", 77, 78, follow_symlinks=False)
    os.chown(owned, 1234, 4321)
    os.chmod(owned / "setuid", 0o6751)
    os.setxattr(owned / "capable", "security.capability", CAPABILITY)
    os.setxattr(owned / "listed", "system.posix_acl_access", ACL)
    os.setxattr(owned, "system.posix_acl_default", ACL)
    os.setxattr(owned / "link", "trusted.note", b"of a link", follow_symlinks=False)
    set_times(root)


def write_socket(path: Path) -> None:
    """Leave a socket's file, as a program that was killed does."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.close()


def set_times(root: Path) -> None:
    """Give every entry a time of its own, to the nanosecond, folders after their contents."""
    for number, (folder, folders, names) in enumerate(os.walk(root, topdown=False)):
        for at, name in enumerate(sorted([*folders, *names])):
            time_ns = 1_600_000_000_123_456_789 + number * 1_000_000_007 + at * 1_001
            os.utime(os.path.join(folder, name), ns=(time_ns, time_ns), follow_symlinks=False)


def landed(target: Path, root: Path) -> Path:
    """Return where a backed-up folder lies in a target."""
    return target / root.resolve().relative_to("/")


def assert_restored(root: Path, target: Path, *, ignore: Collection[str] = ()) -> None:
    """Assert that a folder came back, byte for byte and attribute by attribute."""
    found = compare_trees(root, landed(target, root), ignore=ignore)
    assert found.ok, found.differences


def names_below(folder: Path) -> set[str]:
    """Return every path below a folder, relative to it."""
    return {os.path.relpath(os.path.join(top, name), folder) for top, a, b in os.walk(folder) for name in (*a, *b)}


def chunk_of(bench: Workbench, name: str, extent: int = 0) -> ChunkLocation:
    """Return where a chunk of a file's content lies, in the newest snapshot."""
    repo = bench.reopen()
    manifest = repo.manifest(repo.resolve("latest"))
    entry = manifest.find(os.fsencode(bench.root / name).strip(b"/"))
    assert entry is not None
    assert entry.content is not None
    chunk_id = list(manifest.expand(entry.content))[extent].chunk_id
    assert chunk_id is not None
    where = repo.index().find(chunk_id)
    assert where is not None
    return where


def spoil_content(bench: Workbench, name: str, extent: int = 0) -> None:
    """Flip a bit of a chunk that a file needs; the store is a `TamperableMemoryBackend`."""
    where = chunk_of(bench, name, extent)
    bench.backend.flip_bit(pack_name(where.pack_id), where.offset + 3)
