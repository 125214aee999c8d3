"""What a restore must remember until its end, in bounded memory: SQLite spills to an unnamed temporary file.

Folders (their attributes are set last), the first path of each hard-linked file, links that wait for their first path,
and paths that are not to be verified.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from typing import NamedTuple

from coffer.repository.blocks import DEV, GID, INO, MODE, MTIME, SIZE, UID, Row
from coffer.repository.columns import pack_blob, unpack_blob

Xattrs = tuple[tuple[bytes, bytes], ...]

_CACHE_KIB = 8 * 1024  # what SQLite holds in memory before it spills [KiB]
LINKS_IN_MEMORY = 50_000  # about 12 MB; a row costs ten times as long, and a tree may be hard-linked throughout
_BATCH = 500  # rows fetched at a time

_SCHEMA = """
CREATE TABLE folder (path BLOB PRIMARY KEY, made INT, known INT, mode INT, uid INT, gid INT, mtime TEXT, xattrs BLOB)
    WITHOUT ROWID;
CREATE TABLE link (identity BLOB PRIMARY KEY, path BLOB) WITHOUT ROWID;
CREATE TABLE waiting (number INTEGER PRIMARY KEY, path BLOB, first BLOB, block INT, group_at INT, row_at INT);
CREATE TABLE passed (path BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class FolderNote(NamedTuple):
    """A folder of the snapshot.

    Attributes:
        path: As in the snapshot.
        made: Whether this run made it; else it was there.
        known: Whether the snapshot has its attributes; the rest is meaningless if not.
        row: Mode, owner and times are right, the other columns 0.
        xattrs: To be set.
    """

    path: bytes
    made: bool
    known: bool
    row: Row
    xattrs: Xattrs


class WaitingLink(NamedTuple):
    """A further name of a hard-linked file.

    Attributes:
        path: The name to make.
        first: The path that was restored as a file.
        block, group_at, row_at: Where the manifest has its entry, for when it cannot be linked.
    """

    path: bytes
    first: bytes
    block: int
    group_at: int
    row_at: int


class Ledger:
    """One run's notes. Thread-safe. Gone with the process, whatever becomes of it."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._lock = threading.Lock()
        self._links: dict[tuple[int, int, int, int, int, bytes], bytes] = {}
        self._links_seen = 0
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")  # never committed: nothing is to outlive the run, and each commit would cost

    def close(self) -> None:
        """Forget everything."""
        self._db.close()

    # ----------------------------------------------------------------------------------------------- folders

    def note_folder(self, path: bytes, row: Row, xattrs: Xattrs, *, made: bool = False) -> None:
        """Keep a folder's attributes for the end. Of two entries of one path the last counts.

        Args:
            path: As in the snapshot.
            row: Its stat row.
            xattrs: Its extended attributes.
            made: This run has made it just now; else `mark_folder` says so when it is in the target.
        """
        packed = b"".join(pack_blob(part) for pair in xattrs for part in pair)
        with self._lock:
            self._db.execute(
                "INSERT INTO folder VALUES (?,?,1,?,?,?,?,?) ON CONFLICT (path) DO UPDATE SET known=1,"
                " made=max(made, excluded.made), mode=excluded.mode, uid=excluded.uid, gid=excluded.gid,"
                " mtime=excluded.mtime, xattrs=excluded.xattrs",
                (path, 1 if made else -1, row[MODE], row[UID], row[GID], str(row[MTIME]), packed),
            )

    def mark_folder(self, path: bytes, *, made: bool) -> None:
        """Note that a folder is in the target: made by this run, or found there."""
        with self._lock:
            self._db.execute(
                "INSERT INTO folder VALUES (?,?,0,0,0,0,'0',x'') ON CONFLICT (path) DO UPDATE SET"
                " made=max(made, excluded.made)",
                (path, int(made)),
            )

    def is_noted(self, path: bytes) -> bool:
        """Say whether the snapshot has a folder of this path, as far as it was read."""
        with self._lock:
            row = self._db.execute("SELECT known FROM folder WHERE path=?", (path,)).fetchone()
        return row is not None and row[0] == 1

    def made(self, path: bytes) -> bool:
        """Say whether this run made a folder."""
        with self._lock:
            row = self._db.execute("SELECT made FROM folder WHERE path=?", (path,)).fetchone()
        return row is not None and row[0] == 1

    def folders_upwards(self) -> Iterator[FolderNote]:
        """Yield the folders that are in the target, every one before the folder it is in."""
        # Descending by bytes: a path sorts behind each of its own beginnings.
        query = (
            "SELECT path, made, known, mode, uid, gid, mtime, xattrs FROM folder WHERE made >= 0 AND (? OR path < ?)"
            " ORDER BY path DESC LIMIT ?"
        )
        before: bytes | None = None
        while True:
            with self._lock:
                rows = self._db.execute(query, (before is None, before or b"", _BATCH)).fetchall()
            if not rows:
                return
            for path, made, known, mode, uid, gid, mtime, xattrs in rows:
                row = mode, uid, gid, 0, 0, 0, 0, int(mtime), 0
                yield FolderNote(path, made == 1, known == 1, row, _pairs(xattrs))
            before = rows[-1][0]

    # ----------------------------------------------------------------------------------------------- hard links

    def first_path(self, row: Row, what: bytes, path: bytes) -> bytes:
        """Return the path that was first noted for a file of several names; notes this one if there is none.

        Args:
            row: The entry's row.
            what: What it holds: its content's id, link target or device number.
            path: The entry's path.
        """
        # By kind: a hostile entry must not link a folder's or a link's name to a file's. By size, time and content: the
        # number of a file that was removed during the walk may have been given to another one, of its own content.
        identity = row[DEV], row[INO], row[MODE] & 0o170000, row[SIZE], row[MTIME], what
        found = self._links.get(identity)
        if found is not None:
            return found
        if len(self._links) < LINKS_IN_MEMORY:
            return self._links.setdefault(identity, path)
        key = b"%d/%d/%d/%d/%d/%b" % identity
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO link VALUES (?,?)", (key, path))
            (stored,) = self._db.execute("SELECT path FROM link WHERE identity=?", (key,)).fetchone()
        return bytes(stored)

    def let_wait(self, link: WaitingLink) -> None:
        """Keep a link until its first path is there."""
        with self._lock:
            self._db.execute("INSERT INTO waiting VALUES (NULL,?,?,?,?,?)", link)

    def waiting_links(self) -> Iterator[WaitingLink]:
        """Yield the links that wait since the last call, in manifest order; those that come meanwhile wait on."""
        with self._lock:
            (end,) = self._db.execute("SELECT coalesce(max(number), 0) FROM waiting").fetchone()
        while self._links_seen < end:
            with self._lock:
                rows = self._db.execute(
                    "SELECT number, path, first, block, group_at, row_at FROM waiting WHERE number > ? AND number <= ?"
                    " LIMIT ?",
                    (self._links_seen, end, _BATCH),
                ).fetchall()
            self._links_seen = rows[-1][0]
            yield from (WaitingLink(*row[1:]) for row in rows)

    # ----------------------------------------------------------------------------------------------- passed over

    def pass_over(self, path: bytes) -> None:
        """Note a path that failed or was left as it was: no link is made to it, and it is not verified."""
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO passed VALUES (?)", (path,))

    def passed_over(self, path: bytes) -> bool:
        """Say whether a path failed or was left as it was."""
        with self._lock:
            return self._db.execute("SELECT 1 FROM passed WHERE path=?", (path,)).fetchone() is not None


def _pairs(packed: bytes) -> Xattrs:
    parts = []
    at = 0
    while at < len(packed):
        part, at = unpack_blob(packed, at, "ledger")
        parts.append(part)
    return tuple(zip(parts[::2], parts[1::2], strict=True))
