"""The newest snapshot of each source, remembered outside the store, so that its removal is noticed (invariant I12)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple


class Head(NamedTuple):
    """The newest snapshot that this machine knows of: its sequence number and the SHA-256 of its object [hex]."""

    sequence: int
    sha256: str


class HeadStore:
    """A small file per repository, replaced atomically. Losing it loses the notice, not the backups."""

    def __init__(self, folder: Path) -> None:
        """Keep the files in `folder`, made on the first write."""
        self._folder = folder

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
            return {str(tag): Head(int(sequence), str(sha256)) for tag, (sequence, sha256) in document.items()}
        except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return {}

    def remember(self, repository_id: bytes, source_tag: str, head: Head) -> bool:
        """Remember a head unless a newer one is; durable on return. False where it could not be written: no error."""
        known = self.heads(repository_id)
        if source_tag in known and known[source_tag].sequence >= head.sequence:
            return True
        known[source_tag] = head
        file = self._file(repository_id)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        except OSError:
            return False
        return True

    def _file(self, repository_id: bytes) -> Path:
        return self._folder / f"{repository_id.hex()}.json"
