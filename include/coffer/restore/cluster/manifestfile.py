"""Write the `backup_manifest` of a restored data folder, which `pg_verifybackup` holds against the files.

The checksums are of the files as they lie on the disk now, so it proves that they stay what they are until the first
start. What the snapshot holds was proved while it was read.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from coffer.clock import utc_from_ns
from coffer.errors import InterruptedRunError
from coffer.postgres.backup_manifest import ManifestFile, ManifestWriter, WalRange
from coffer.restore.cluster.datafolder import DataFolder
from coffer.restore.cluster.plan import ClusterPlan
from coffer.restore.cluster.tablespaces import FOLDER as TABLESPACES
from coffer.restore.files import join
from coffer.restore.pagecache import write_all

NAME = b"backup_manifest"
_SYSTEM_ID_SINCE = 17  # version 2 of the format; older programs know version 1 only
_STEP_BYTES = 1 << 20
_BATCH = 256
# pg_verifybackup looks at none of these: the server changes them, or has no part in them.
_PASSED_OVER = frozenset(
    (
        b"backup_manifest",
        b"pg_wal",
        b"postgresql.auto.conf",
        b"recovery.signal",
        b"standby.signal",
        b"global/pg_control",
    )
)
_TEMPORARY = b".coffer-"  # the manifest itself, while it is written
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def write_manifest(
    plan: ClusterPlan,
    data: DataFolder,
    tablespaces: dict[int, DataFolder],
    control: bytes,
    *,
    workers: int,
    stop: threading.Event,
) -> None:
    """Write it; pg_control is named as it is going to be.

    Raises:
        InterruptedRunError: `stop` was set; there is no manifest.
        RestoreSpaceError, OSError: From the system; likewise.
    """
    facts = plan.facts
    writer = ManifestWriter(facts.system_id if facts.major >= _SYSTEM_ID_SINCE else None)
    ranges = [WalRange(s.timeline, s.start, s.end) for s in plan.path.stretches(facts.start, facts.end)]
    with (
        data.opened(b"") as root,
        data.new_file(root, NAME) as fd,
        ThreadPoolExecutor(workers, "coffer-manifest") as pool,
    ):
        write_all(fd, memoryview(writer.head()))
        digest = hashlib.sha256(control).digest()
        write_all(fd, memoryview(writer.file(_entry(b"global/pg_control", len(control), 0, digest))))
        for batch in _batches(_files(data, tablespaces)):
            if stop.is_set():
                raise InterruptedRunError("backup manifest: stopped by request", hint="Run it again, with --delta.")
            for entry in pool.map(_hashed, batch):
                write_all(fd, memoryview(writer.file(entry)))
        write_all(fd, memoryview(writer.tail(ranges)))


_Found = tuple[DataFolder, bytes, bytes, bytes]  # where, the folder there, the name, the path in the cluster


def _files(data: DataFolder, tablespaces: dict[int, DataFolder]) -> Iterator[_Found]:
    yield from _below(data, b"", b"")
    for oid, home in sorted(tablespaces.items()):
        yield from _below(home, b"", TABLESPACES + b"/%d" % oid)


def _below(home: DataFolder, folder: bytes, prefix: bytes) -> Iterator[_Found]:
    with home.opened(folder) as opened:
        names = sorted(map(os.fsencode, os.listdir(opened.fd)))
        modes = [os.stat(name, dir_fd=opened.fd, follow_symlinks=False).st_mode for name in names]
    for name, mode in zip(names, modes, strict=True):
        path = join(prefix, name)
        if path in _PASSED_OVER or name.startswith(_TEMPORARY):
            continue
        if stat.S_ISDIR(mode):
            yield from _below(home, join(folder, name), path)
        elif stat.S_ISREG(mode):
            yield home, folder, name, path


def _batches(found: Iterator[_Found]) -> Iterator[list[_Found]]:
    batch: list[_Found] = []
    for item in found:
        batch.append(item)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    yield batch


def _hashed(found: _Found) -> ManifestFile:
    home, above, name, path = found
    hasher = hashlib.sha256()
    with home.opened(above) as folder:
        fd = os.open(name, _OPEN, dir_fd=folder.fd)
    try:
        status = os.fstat(fd)
        while piece := os.read(fd, _STEP_BYTES):
            hasher.update(piece)
    finally:
        os.close(fd)
    return _entry(path, status.st_size, status.st_mtime_ns, hasher.digest())


def _entry(path: bytes, size: int, mtime_ns: int, digest: bytes) -> ManifestFile:
    modified = utc_from_ns(mtime_ns).strftime("%Y-%m-%d %H:%M:%S GMT")
    return ManifestFile(path, size, modified, "SHA256", digest)
