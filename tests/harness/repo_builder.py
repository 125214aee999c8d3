"""A repository with a history, made once and harmed in copies."""

from __future__ import annotations

import random
from pathlib import Path

from coffer.repository.heads import Head, HeadStore
from coffer.repository.repository import Repository
from tests.harness.backups import Workbench, write_tree
from tests.harness.keyrings import random_again
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.snapshots import KEY, SMALL_CHUNKS

PACK_BYTES = 12_000  # some files each, so that the paths of one lost pack fit in a finding


class KnownHeads(HeadStore):
    """What a machine remembers of a repository; it learns nothing more."""

    def remember(self, repository_id: bytes, source_tag: str, head: Head) -> bool:
        """Forget it."""
        return True


class History:
    """A source backed up three times, with changes between.

    Attributes:
        bench: Its workbench; its store is the master copy: not to be harmed.
        heads: What this machine remembers of the three.
        snapshots: The three, oldest first.
    """

    def __init__(self, folder: Path) -> None:
        with random_again("history"):  # the same cuts in every run
            self._make(folder)
        self.snapshots = self.bench.repo.snapshots()
        self.heads = KnownHeads(folder / "heads")

    def _make(self, folder: Path) -> None:
        self.bench = Workbench(folder / "tree", backend=TamperableMemoryBackend())
        self.bench.repo.heads = HeadStore(folder / "heads")
        rng = random.Random(20261101)
        files = {f"d{n % 4}/file-{n:02d}": rng.randbytes(rng.randrange(1500, 9000)) for n in range(24)}
        files |= {f"small/{n:02d}": rng.randbytes(rng.randrange(1, 900)) for n in range(4)}
        # One chunk each, of one length and in different packs.
        files |= {f"d{n}/same": rng.randbytes(SMALL_CHUNKS.min_bytes) for n in range(4)}
        write_tree(self.bench.root, files)
        self.back_up()
        write_tree(self.bench.root, {"d1/file-01": rng.randbytes(7000), "new/file": rng.randbytes(5000)})
        self.back_up()
        write_tree(self.bench.root, {"d2/file-02": rng.randbytes(6000)})
        self.back_up()

    def back_up(self, repo: Repository | None = None) -> None:
        """Take one more snapshot."""
        self.bench.back_up(repo=repo, pack_size_bytes=PACK_BYTES)

    def copy(self) -> TamperableMemoryBackend:
        """Return a copy of the store, to harm."""
        return self.bench.backend.clone()

    def open(self, store: TamperableMemoryBackend, *, heads: HeadStore | None = None) -> Repository:
        """Return the repository of a copy, as another process opens it."""
        return Repository.open(store, KEY, heads=heads, clock=self.bench.clock)

    def names(self, prefix: str) -> list[str]:
        """Return the names of the master copy's objects."""
        return self.bench.stored_names(prefix)

    def packs(self, type_: int) -> list[str]:
        """Return the names of the packs that hold chunks of a type."""
        index = self.bench.reopen().index()
        found = {
            pack_id for pack_id in index.pack_ids() if any(where.type == type_ for _, where in index.iter_pack(pack_id))
        }
        return sorted(f"packs/{pack_id.hex()[:2]}/{pack_id.hex()}" for pack_id in found)
