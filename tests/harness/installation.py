"""A small installation in a folder: a policy, a key, an empty repository, and the trees that the policy names."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from coffer.backends.factory import open_backend
from coffer.crypto.kdf import Argon2Params
from coffer.crypto.kek import KeyFileUnlocker, PassphraseUnlocker, Unlocker, write_new_key_file
from coffer.repository.repository import Repository

PROJECT = Path(__file__).resolve().parents[2]
RANDOM_BYTES = 200_000  # of each tree, incompressible: what is stored twice shows
CHEAP_ARGON2 = Argon2Params(memory_kib=8 * 1024, iterations=1, lanes=1)


@dataclass(frozen=True)
class Installation:
    """One installation.

    Attributes:
        folder: All of it is below here.
        policy: The policy file.
    """

    folder: Path
    policy: Path

    @property
    def repository(self) -> Path:
        """Folder of the location `primary`."""
        return self.folder / "backups" / "primary"

    @property
    def key_file(self) -> Path:
        """The key that the policy names."""
        return self.folder / "keys" / "coffer.key"

    def tree(self, source: str) -> Path:
        """Return the folder that a source backs up."""
        return self.folder / "trees" / source

    @contextmanager
    def opened(self) -> Iterator[Repository]:
        """Open the repository with the policy's key."""
        repository = Repository.open(open_backend(self.repository), KeyFileUnlocker.load(self.key_file))
        try:
            yield repository
        finally:
            repository.close()


def install(folder: Path, sources: tuple[str, ...] = ("docs",), *, extra: str = "") -> Installation:
    """Make an installation in a new folder; each source is a tree of three files.

    Args:
        folder: Where.
        sources: Names of the policy's sources.
        extra: Further lines of the policy.
    """
    made = Installation(folder, folder / "config" / "coffer.yaml")
    made.policy.parent.mkdir(parents=True)
    listed = "".join(f"  - {{name: {name}, kind: filesystem, paths: [trees/{name}]}}\n" for name in sources)
    made.policy.write_text(
        "timezone: UTC\n"
        "repository: {key_file: keys/coffer.key, state_dir: state}\n"
        f"sources:\n{listed}"
        "local_backup:\n  locations:\n"
        '    primary: {path: backups/primary, retention: "30d", frequency: "daily"}\n'
        '    secondary: {path: backups/secondary, retention: "90d", frequency: "weekly"}\n' + extra,
        encoding="utf-8",
    )
    for name in sources:
        tree = made.tree(name)
        (tree / "sub").mkdir(parents=True)
        (tree / "a.bin").write_bytes(random.Random(name).randbytes(RANDOM_BYTES))
        (tree / "sub" / "b.txt").write_text(f"second file of {name}\n" * 50)
        (tree / "sub" / "empty").touch()
    make_repository(made.repository, write_new_key_file(made.key_file))
    return made


def make_repository(folder: Path, unlocker: Unlocker) -> None:
    """Make an empty repository; a passphrase costs little here."""
    folder.mkdir(parents=True, exist_ok=True)
    Repository.create(open_backend(folder), unlocker, argon2=CHEAP_ARGON2).close()


def make_passphrase_repository(folder: Path, passphrase: str) -> None:
    """Make an empty repository that a passphrase opens."""
    make_repository(folder, PassphraseUnlocker(passphrase))


def connection(**fields: object) -> str:
    """Return the value of an AIRFLOW_CONN_... variable: a connection of type `coffer` with these fields."""
    return json.dumps({"conn_type": "coffer", **fields})


def closed_window() -> tuple[str, str]:
    """Return (schedule, window) such that the backup window is not open within hours of now."""
    hour = (datetime.now(UTC).hour + 6) % 23
    return f"0 {hour} * * *", f"{hour:02}:00-{hour + 1:02}:00"
