"""The newest snapshot of each source, remembered outside the store, so that its removal is noticed (invariant I12)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from coffer.repository.snapshot import MAX_SEQUENCE

_LOCK_NAME = ".lock"


class Head(NamedTuple):
    """The newest snapshot that this machine knows of: its sequence number and the SHA-256 of its object [hex]."""

    sequence: int
    sha256: str


class HeadStore:
    """A small file per repository, replaced atomically. Losing it loses the notice, not the backups."""

    def __init__(self, folder: Path) -> None:
        """Keep the files in `folder`, made on the first write."""
        self._folder = folder
        self.failure = ""  # why a head could not be remembered, for a warning; empty where all were

    @classmethod
    def default(cls) -> HeadStore:
        """Return the store below COFFER_STATE_DIR, else XDG_STATE_HOME/coffer, else ~/.local/state/coffer."""
        base = os.environ.get("COFFER_STATE_DIR")
        if base:
            return cls(Path(base) / "heads")
        state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
        return cls(Path(state) / "coffer" / "heads")

    def heads(self, repository_id: bytes) -> dict[str, Head]:
        """Return source tag → head; empty where nothing, or nothing readable, is remembered."""
        try:
            document = json.loads(self._file(repository_id).read_bytes())
            found = {str(tag): Head(int(sequence), str(sha256)) for tag, (sequence, sha256) in document.items()}
        except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return {}
        return {tag: head for tag, head in found.items() if 0 < head.sequence <= MAX_SEQUENCE}

    def remember(self, repository_id: bytes, source_tag: str, head: Head) -> bool:
        """Remember a head unless a newer one is; durable on return. False where it could not be written: no error.

        Processes that do so at once take turns, so that none writes over what another has just remembered. `failure`
        says why it could not be written.
        """
        file = self._file(repository_id)
        temporary = file.with_name(f".{file.name}.new")  # one name: the lock lets one write it at a time
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked():
                known = self.heads(repository_id)
                if source_tag in known and known[source_tag].sequence >= head.sequence:
                    return True
                known[source_tag] = head
                with temporary.open("w") as out:
                    json.dump(known, out)
                    out.flush()
                    os.fsync(out.fileno())
                temporary.replace(file)
                folder_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(folder_fd)
                finally:
                    os.close(folder_fd)
        except OSError as error:
            self.failure = f"{self._folder}: {error.strerror}"
            return False
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes, and other stores of this one, from writing meanwhile.

        The lock is on a file of its own, open for writing (NFS wants that), and never removed: its descriptor's end
        frees it, however the process ends.
        """
        fd = os.open(self._folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _file(self, repository_id: bytes) -> Path:
        return self._folder / f"{repository_id.hex()}.json"
