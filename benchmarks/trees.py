"""The four source trees, made by code and the same on every run.

(a) `venv`      a copy of the project's own virtual environment, less Python's own caches (which of them exist depends
                on what was run): many files, programs and text, as found in the wild
(b) `small`     200,000 files of 1-8 KiB in 2,000 folders, cut from the text files of (a)
(c) `big`       one file of 4 GiB: the first half random, the second half the bytes of (a), then of (d)
(d) `postgres`  a PostgreSQL data folder with pgbench's tables

Everything random comes from a seeded generator, so (b), (c) and each change made to a tree are reproducible from (a). A
tree is made beside its place and renamed into it, so an interrupted run never leaves half a tree that looks whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

SMALL_FILES = 200_000
SMALL_FOLDERS = 2_000
BIG_FILE_BYTES = 4 * GIB
_SETTLE_S = 3.0
# ioctls of linux/fs.h: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_TOPDIR_FL (`chattr +T`)
_GET_FLAGS, _SET_FLAGS, _TOP_OF_TREE = 0x80086601, 0x40086602, 0x00020000
PGBENCH_SCALE = 20
POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")
TEXT_SUFFIXES = frozenset(
    {".py", ".pyi", ".json", ".md", ".txt", ".rst", ".js", ".css", ".html", ".yaml", ".yml", ".toml", ".csv"}
)


def make_once(target: Path, make: Callable[[Path], None]) -> Path:
    """Return `target`, made by `make` in a folder beside it and renamed into place when it does not exist yet."""
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    remove(partial)
    make(partial)
    partial.rename(target)
    return target


def write_venv_tree(venv: Path, target: Path) -> None:
    """Copy the virtual environment `venv` to `target` with all attributes, less every `__pycache__`."""
    copy_tree(venv, target)
    for folder, folders, _ in os.walk(target):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
            shutil.rmtree(Path(folder, "__pycache__"))


def copy_tree(source: Path, target: Path) -> None:
    """Copy `source` to `target` with all attributes, hardlinks and holes (`cp -a`)."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def regular_files(root: Path) -> list[Path]:
    """Return every regular file below `root`, not through symlinks, in sorted order."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders.sort()
        found.extend(path for name in sorted(names) if (path := Path(folder, name)).is_file() and not path.is_symlink())
    return found


def write_small_tree(
    texts: list[Path], target: Path, *, files: int = SMALL_FILES, folders: int = SMALL_FOLDERS, seed: int = 1
) -> None:
    """Write `files` files of 1-8 KiB, in `folders` folders, each a run of lines out of `texts`.

    Real text keeps the compression ratio honest, and no two files begin at the same place of the same text unless the
    texts are too few for that: what a tool saves is then saved by compression and not by duplicates made by us.

    Args:
        texts: source files, in a fixed order; read one at a time.
        target: the folder to make.
        files: number of files to write.
        folders: number of folders they are spread over, evenly.
        seed: of sizes and of the places of the slices.
    """
    rng = random.Random(seed)
    for number in range(folders):
        (target / folder_name(number)).mkdir(parents=True)
    slices = text_slices(texts, rng)
    # The slices of one text must not all fall into one folder, as they would in no real tree: places are dealt out.
    places = list(range(files))
    rng.shuffle(places)
    for place in places:
        (target / folder_name(place % folders) / f"{place:06d}.txt").write_bytes(next(slices))


def folder_name(number: int) -> str:
    """Return the relative name of folder `number`: 50 groups, as a flat folder of thousands is rare."""
    return f"group{number % 50:02d}/part{number:04d}"


def text_slices(texts: list[Path], rng: random.Random) -> Iterator[bytes]:
    """Yield slices of 1-8 KiB out of `texts`, endlessly: one text after another in seeded order, each cut in pieces.

    From the second round on, the cuts fall elsewhere, and each slice gets its number in front, so no two are equal.
    """
    round_number = 0
    order = list(texts)
    while True:
        rng.shuffle(order)
        for text in order:
            data = text.read_bytes()
            position = rng.randrange(KIB) if round_number else 0
            while position + KIB <= len(data):
                size = rng.randrange(KIB, 8 * KIB + 1)
                head = f"# {round_number}.{position}\n".encode() if round_number else b""
                yield (head + data[position : position + size])[: 8 * KIB]
                position += size
        round_number += 1
        if not order or round_number > 1000:
            raise ValueError("the texts are too few and too short to cut slices from")


def write_big_file(sources: Iterable[Path], target: Path, *, size_bytes: int = BIG_FILE_BYTES, seed: int = 2) -> None:
    """Write one file `target/big.bin`: half of it random, then half of it the bytes of `sources`, one after another.

    Raises:
        ValueError: the sources are too small. They are not repeated: a repetition would be a gift to the tools that
            deduplicate, and would flatter them beside the pipeline that does not.
    """
    target.mkdir(parents=True)
    half = size_bytes // 2
    with (target / "big.bin").open("wb") as out:
        for block in random_blocks(half, seed):
            out.write(block)
        left = size_bytes - half
        for piece in pieces(sources):
            left -= out.write(piece[:left])
            if not left:
                return
    raise ValueError(f"the sources of the big file are too small: {left} bytes are missing")


def random_blocks(size_bytes: int, seed: int, block_bytes: int = MIB) -> Iterator[bytes]:
    """Yield `size_bytes` of seeded, incompressible bytes (SHAKE-128 of the seed and the block's number) in blocks."""
    for number in range(-(-size_bytes // block_bytes)):
        size = min(block_bytes, size_bytes - number * block_bytes)
        yield hashlib.shake_128(f"{seed}:{number}".encode()).digest(size)


def pieces(sources: Iterable[Path]) -> Iterator[bytes]:
    """Yield the bytes of `sources`, one file after another, in pieces of at most 4 MiB."""
    for source in sources:
        with source.open("rb") as file:
            while piece := file.read(4 * MIB):
                yield piece


def write_postgres_folder(target: Path, *, scale: int = PGBENCH_SCALE) -> None:
    """Write a PostgreSQL data folder: initdb, pgbench tables at `scale`, a checkpoint, a clean stop.

    PostgreSQL refuses to run as root, so as root the commands run as the user `postgres`. The data come from
    pgbench's own generator: the content is the same each time, time stamps and system identifier are not.
    """
    target.mkdir(parents=True)
    socket_dir = target.with_name("pg-socket")
    remove(socket_dir)
    socket_dir.mkdir()
    server = f"-c listen_addresses='' -c unix_socket_directories={socket_dir} -c fsync=off -c max_wal_size=4GB"
    as_root = os.geteuid() == 0
    if as_root:
        shutil.chown(target, "postgres", "postgres")
        shutil.chown(socket_dir, "postgres", "postgres")
    prefix = ["runuser", "-u", "postgres", "--"] if as_root else []

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [*prefix, str(POSTGRES_BIN / program), *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    run("initdb", "-D", str(target), "-A", "trust", "--no-sync", "-k", "-U", "bench")
    run("pg_ctl", "-D", str(target), "-w", "-o", server, "start")
    try:
        address = ("-h", str(socket_dir), "-U", "bench")
        run("createdb", *address, "bench")
        run("pgbench", *address, "-i", "-q", "-s", str(scale), "bench")
        run("psql", *address, "-c", "checkpoint", "bench")
    finally:
        run("pg_ctl", "-D", str(target), "-w", "-m", "fast", "stop")
        remove(socket_dir)


def change_one_percent(root: Path, *, seed: int, share: float = 0.01) -> int:
    """Rewrite a seeded `share` of the regular files below `root`: 64 other bytes are put into the middle of each.

    Returns:
        How many files were changed. Empty files are never chosen: they have no middle.
    """
    rng = random.Random(seed)
    files = [path for path in regular_files(root) if path.stat().st_size]
    chosen = rng.sample(files, max(1, round(len(files) * share)))
    for path in chosen:
        data = path.read_bytes()
        middle = len(data) // 2
        # A new file in the old one's place: a hardlinked copy elsewhere must not change with it.
        mode = path.stat().st_mode
        path.unlink()
        path.write_bytes(data[:middle] + rng.randbytes(32).hex().encode() + data[middle:])
        path.chmod(mode)
    return len(chosen)


def touch_all(root: Path) -> None:
    """Give every regular file below `root` a new modification time, a second after its old one; content stays."""
    for path in regular_files(root):
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


def make_spreading(folder: Path) -> None:
    """Make a folder whose subfolders ext4 spreads over the disk, each by its name, instead of laying them side by side.

    For some minutes ext4 does not use the inode of a deleted file again, and looks for a free one behind it, one after
    another (`recently_deleted` in fs/ext4/ialloc.c): creating 60,000 files took 1.1 s, and 17 to 30 s where as many had
    been deleted in the same part of the disk a moment before. The tools of a round delete hundreds of thousands. So
    each tree gets a place of its own. Other file systems have no such flag, and keep their ways.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            flags = bytearray(8)
            fcntl.ioctl(fd, _GET_FLAGS, flags)
            (before,) = struct.unpack("=I4x", flags)
            fcntl.ioctl(fd, _SET_FLAGS, struct.pack("=I4x", before | _TOP_OF_TREE))
    finally:
        os.close(fd)


def settle() -> None:
    """Wait until what was just written is older than the two seconds within which a time stamp proves nothing.

    Coffer reads such files again by the next backup, since a file may change twice within one tick of its time stamp.
    A tree that was copied a moment ago is a state of the benchmark's making, and not of a backup that runs at night.
    """
    time.sleep(_SETTLE_S)


def warm(root: Path) -> None:
    """Read every file below `root` once, so that each tool finds the source in the page cache."""
    for path in regular_files(root):
        with path.open("rb", buffering=0) as file:
            while file.read(4 * MIB):
                pass


def measure_tree(root: Path) -> tuple[int, int]:
    """Return how many regular files lie below `root`, and the sum of their lengths in [bytes]."""
    files = regular_files(root)
    return len(files), sum(path.stat().st_size for path in files)


def remove(path: Path) -> None:
    """Remove the folder `path` with all that is in it, if it exists."""
    if path.exists():
        shutil.rmtree(path)
