"""Write the repositories of tests/compat anew: once for each format, never for a format that was released.

From the project folder: `.venv/bin/python -m tests.compat.make_repositories`. What is there is left as it is.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from random import Random

from coffer.backends.local import LocalBackend
from coffer.chunking.cutter import ChunkParams
from coffer.crypto.kdf import Argon2Params
from coffer.crypto.kek import KEY_FILE_MARK, PassphraseUnlocker, Unlocker
from coffer.repository import lease
from coffer.repository.repository import Repository
from coffer.sources.filesystem.backup import backup
from coffer.sources.filesystem.spec import BackupOptions, FilesystemSource
from tests.compat.reading import PASSPHRASE, describe
from tests.harness.keyrings import KEY_FILE_SECRET, make_unlocker, random_again
from tests.harness.manual_clock import ManualClock
from tests.harness.snapshots import SMALL_CHUNKS

HERE = Path(__file__).resolve().parent
FORMAT = 1
# One block of 64 bytes many times over is a file of very many extents and of one chunk.
TINY_BLOCKS = ChunkParams(
    "fixed", 64, 64, 64, bundle_below_bytes=64, bundle_min_bytes=64, bundle_avg_bytes=64, bundle_max_bytes=128
)


def main() -> int:
    """Write the repositories that are not there.

    Returns:
        int: 0.
    """
    key_file = f"{KEY_FILE_MARK} {base64.b64encode(KEY_FILE_SECRET).decode()}\n"
    _make(f"format-{FORMAT}-cdc", make_unlocker(), SMALL_CHUNKS, key_file)
    _make(f"format-{FORMAT}-fixed", PassphraseUnlocker(PASSPHRASE), TINY_BLOCKS, None)
    return 0


def _make(name: str, unlocker: Unlocker, chunking: ChunkParams, key_file: str | None) -> None:
    folder = HERE / name
    if folder.exists():
        print(f"{name}: is there, left as it is")
        return
    with tempfile.TemporaryDirectory() as scratch, random_again(name):
        tree = Path(scratch, "tree")
        clock = ManualClock()
        store = LocalBackend(folder / "repository", create=True)
        cheap = Argon2Params(iterations=1, lanes=1, memory_kib=64)
        repo = Repository.create(store, unlocker, chunking=chunking, argon2=cheap, clock=clock)
        _fill(tree)
        source = FilesystemSource("tree", (tree,), tags=("compat",))
        _backup(repo, source, clock)
        _change(tree)
        _leave_a_dead_writer(repo, clock)
        _backup(repo, source, clock)
        _backup(repo, FilesystemSource("part", (tree / "folder",)), clock)
        lease.acquire(store, repo.keyring, repo.keyring.ids.source_tag("other"), clock)
        (folder / "expected.json").write_text(json.dumps(describe(repo), indent=1, sort_keys=True) + "\n")
        if key_file:
            (folder / "test-only.key").write_text(key_file)
        store.close()
    shutil.rmtree(folder / "repository" / ".tmp", ignore_errors=True)
    for path in (folder, *folder.rglob("*")):  # as a clone has them
        path.chmod(0o755 if path.is_dir() else 0o644)
    print(f"{name}: {sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())} bytes")


def _backup(repo: Repository, source: FilesystemSource, clock: ManualClock) -> None:
    clock.advance(24 * 3600)
    result = backup(repo, source, options=BackupOptions(workers=1, host="sample"))
    assert result.exit_code == 0, result.warnings


def _leave_a_dead_writer(repo: Repository, clock: ManualClock) -> None:
    lease.acquire(repo.backend, repo.keyring, repo.keyring.ids.source_tag("tree"), clock)
    clock.advance(12 * 3600)
    assert (1, True) == lease.sweep(repo.backend, repo.keyring, repo.keyring.ids.source_tag("tree"), clock)


def _fill(tree: Path) -> None:
    """Every kind of file that an ordinary user can make, and every form of content."""
    seeded = Random(1)
    folder = tree / "folder"
    folder.mkdir(parents=True)
    (tree / "empty").write_bytes(b"")
    (tree / "small").write_bytes(b"a small file\n")
    (tree / "same as small").write_bytes(b"a small file\n")
    (tree / "noise").write_bytes(seeded.randbytes(700))
    (folder / "many blocks").write_bytes(
        b"a block of sixty-four bytes, as the smallest cut of this sample.\n"[:64] * 1100
    )
    (folder / "large").write_bytes(b"".join(b"line %d of a file in several chunks\n" % n for n in range(300)))
    with (folder / "sparse").open("wb") as file:
        file.write(b"begin" * 1000)
        file.truncate(200_000)
        file.seek(100_000)
        file.write(b"middle")
    os.link(tree / "small", folder / "hard link")
    (tree / "link").symlink_to("folder/large")
    (tree / "dangling").symlink_to(b"\xff nowhere".decode("utf-8", "surrogateescape"))
    os.mkfifo(folder / "fifo")
    Path(os.fsdecode(os.fsencode(folder) + b"/not \xfe utf-8")).write_bytes(b"x")
    (folder / "line\nbreak").write_bytes(b"y")
    os.setxattr(folder / "large", "user.note", b"\0value\xff")
    (tree / "mode").write_bytes(b"z")
    (tree / "mode").chmod(0o4751)
    os.utime(tree / "empty", ns=(0, -1_893_456_000_000_000_000))
    os.utime(tree / "noise", ns=(0, 13_569_465_600_000_000_000))


def _change(tree: Path) -> None:
    """What the second snapshot sees otherwise."""
    (tree / "small").write_bytes(b"a small file, changed\n")
    (tree / "noise").unlink()
    (tree / "new").write_bytes(b"new")
    os.utime(tree / "mode", ns=(0, 1))


if __name__ == "__main__":
    sys.exit(main())
