"""A backup of 300 MB whose process is killed, or asked to stop: what is lost, and what the next run does again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from coffer.backends.local import LocalBackend
from coffer.repository.pack import TYPE_DATA
from coffer.repository.repository import Repository
from coffer.restore import restore
from coffer.sources.filesystem import FilesystemSource, backup
from coffer.verification.check import check
from coffer.verification.compare import compare_trees
from tests.harness.command_line import PROGRAM
from tests.harness.programs import PROJECT
from tests.harness.snapshots import KEY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MB = 1_000_000
SMALL, SMALL_BYTES = 1500, 40_000
LARGE, LARGE_BYTES = 6, 40 * MB
TOTAL = SMALL * SMALL_BYTES + LARGE * LARGE_BYTES
# What a killed run may have read and not stored: the pack being filled and one being put, and what waits for the
# workers. A pack holds 64 MB, compressed; these files do not shrink.
PACK_BYTES = 64 * MB
IN_FLIGHT_BYTES = 40 * 1024 * 1024 + 8 * MB

TELLING_BACKUP = textwrap.dedent("""
    import sys
    from pathlib import Path
    from coffer.backends.local import LocalBackend
    from coffer.progress import Progress
    from coffer.repository.repository import Repository
    from coffer.sources.filesystem import FilesystemSource, backup
    from tests.harness.snapshots import KEY

    class Telling(Progress):
        told = 0

        def __setattr__(self, name, value):
            object.__setattr__(self, name, value)
            if name == "bytes_done" and value >= self.told + 1_000_000:
                object.__setattr__(self, "told", value)
                print(value, flush=True)

    repo = Repository.open(LocalBackend(Path(sys.argv[1])), KEY)
    backup(repo, FilesystemSource("tree", (Path(sys.argv[2]),)), progress=Telling())
""")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Half small files, half large ones, of bytes that do not shrink."""
    root = tmp_path_factory.mktemp("interrupted") / "source"
    draw = random.Random(300)
    for n in range(SMALL):
        path = root / f"small{n % 10}" / f"{n}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw.randbytes(SMALL_BYTES))
    for n in range(LARGE):
        (root / f"large{n}").write_bytes(draw.randbytes(LARGE_BYTES))
    return root


def stored_raw_bytes(store):
    """How much of files' content lies in whole packs, each chunk once, whoever names them [bytes]."""
    repo = Repository.open(store, KEY)
    repo.adopt_packs()
    return repo.index().totals().get(TYPE_DATA, (0, 0, 0))[1]


def killed_at(store_path, root, threshold_bytes):
    """Back up in a process of its own, kill -9 it once it has done so much; return how much it had done [bytes]."""
    command = [sys.executable, "-c", TELLING_BACKUP, str(store_path), str(root)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        done = 0
        for line in process.stdout:
            done = int(line)
            if done >= threshold_bytes:
                process.kill()
                break
        rest = [int(line) for line in process.stdout if line.endswith("\n")]
    assert -signal.SIGKILL == process.returncode, "it was done before it was killed"
    return max([done, *rest])


def test_kills_at_random_moments_lose_a_pack_or_two_and_no_more(tmp_path, tree):
    """Killed four times in a row, each time further on: what was put stays put, and nothing of it is stored again.

    What a kill loses is what was read and lay in no whole pack: the pack at hand, one that was being put, and what was
    on its way to them. The sum over all runs is what one run alone stores.
    """
    store = LocalBackend(tmp_path / "store", create=True)
    Repository.create(store, KEY)
    draw = random.Random(4)
    thresholds = sorted(draw.randrange(20 * MB, TOTAL - 30 * MB) for _ in range(4))
    worst = 0
    for threshold in thresholds:
        before = stored_raw_bytes(store)
        done = killed_at(tmp_path / "store", tree, threshold)
        after = stored_raw_bytes(store)
        lost = done - after
        worst = max(worst, lost)
        print(f"killed at {done / MB:.0f} MB: stored {before / MB:.0f} -> {after / MB:.0f} MB, lost {lost / MB:.0f} MB")
        assert before <= after
        assert lost <= 2 * PACK_BYTES + IN_FLIGHT_BYTES
        assert [] == Repository.open(store, KEY).snapshots()
    before = stored_raw_bytes(store)
    repo = Repository.open(store, KEY)
    result = backup(repo, FilesystemSource("tree", (tree,)))
    again = before + result.stats["raw_bytes_new"] - TOTAL
    print(f"worst loss {worst / MB:.0f} MB; stored twice in the end: {again / MB:.2f} MB with the manifest")
    assert again < 1 * MB, "nothing that was stored is stored again"
    assert TOTAL == stored_raw_bytes(store)
    assert check(Repository.open(store, KEY)).ok
    restored = restore(Repository.open(store, KEY), result.snapshot, tmp_path / "restored")
    assert 0 == restored.failures_count
    comparison = compare_trees(tree, tmp_path / "restored" / str(tree).lstrip("/"))
    assert () == comparison.differences
    assert SMALL + LARGE == comparison.files
    store.close()


def coffer(*arguments, environment):
    return subprocess.Popen(
        [PROGRAM, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_backup_that_is_asked_to_stop_goes_on_where_it_was(tmp_path, tree):
    """SIGTERM once the first pack is stored: a checkpoint, and an exit code of failure; the next run reads the rest."""
    environment = {
        **os.environ,
        "COFFER_STATE_DIR": str(tmp_path / "state"),
        "COFFER_REPOSITORY": str(tmp_path / "repo"),
        "COFFER_KEY_FILE": str(tmp_path / "key"),
    }
    with coffer("init", environment=environment) as init:
        assert (0, "") == (init.wait(), init.stderr.read())
    with coffer("backup", tree, "--source", "tree", "--json", environment=environment) as stopped:
        moment = threading.Event()
        while not any((tmp_path / "repo" / "packs").glob("*/*")):
            assert stopped.poll() is None
            moment.wait(0.005)
        stopped.send_signal(signal.SIGTERM)
        output, _ = stopped.communicate(timeout=60)
    assert 1 == stopped.returncode
    assert "interrupted" == json.loads(output)["error"]["code"]
    assert 1 == len(list((tmp_path / "repo" / "checkpoints").iterdir()))
    assert [] == list((tmp_path / "repo" / "leases").iterdir())
    with coffer("backup", tree, "--source", "tree", "--json", environment=environment) as second:
        output, errors = second.communicate(timeout=120)
    assert (0, SMALL + LARGE) == (second.returncode, json.loads(output)["result"]["snapshot"]["stats"]["files"]), errors
    stats = json.loads(output)["result"]["snapshot"]["stats"]
    finished = TOTAL - stats["read_bytes"]
    print(
        f"the stopped run had finished {finished / MB:.0f} MB in {stats['files_unchanged']} files, none was read again"
    )
    assert 0 < stats["files_unchanged"] < SMALL + LARGE
    assert 0 < finished < TOTAL
    store = LocalBackend(tmp_path / "repo")
    assert stats["raw_bytes_new"] <= stats["read_bytes"] + 1 * MB
    assert [] == list(store.list("checkpoints/"))
    store.close()
