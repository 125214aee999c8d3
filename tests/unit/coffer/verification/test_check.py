"""The check as a whole: its counts, its small objects, its end."""

import threading

import pytest

from coffer.errors import BackendUnavailableError, InterruptedRunError
from coffer.progress import Progress
from coffer.repository import checkpoint, lease
from coffer.repository.pack import TYPE_DATA
from coffer.repository.snapshot import parse_name
from coffer.verification import Severity, check
from tests.harness.corrupt import errors_of, hints_of
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
from tests.harness.manual_clock import ManualClock


def test_counts_say_what_was_looked_at(history, store):
    """Distinct entries and files over all snapshots, objects and their bytes."""
    infos = list(store.list())
    counts = check(history.open(store)).counts
    assert (len(infos), sum(info.size_bytes for info in infos)) == (counts["objects"], counts["size_bytes"])
    assert len(history.names("packs/")) == counts["packs"]
    assert len(history.names("index/")) == counts["segments"]
    assert (3, 0, 0) == (counts["snapshots"], counts["errors"], counts["hints"])
    assert len(history.bench.reopen().index()) == counts["chunks"]
    assert counts["entries"] > counts["files"] > 32


def test_progress_is_kept(history, store):
    """Entries are counted, and the snapshot at hand is told."""
    progress = Progress()
    report = check(history.open(store), progress=progress)
    assert report.counts["entries"] == progress.files_done
    assert progress.current.startswith(b"tree ")


def test_a_stopped_check_ends(history, store):
    """At once, and without a report."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError, match="stopped by request"):
        check(history.open(store), stop=stop)
    stop.clear()
    assert check(history.open(store), stop=stop).ok


@pytest.mark.parametrize("method", ["list", "get", "stat"])
def test_a_store_that_fails_ends_it_as_transient(history, store, method):
    """A report over half a store would be false."""
    repo = history.open(store)
    repo.backend = FaultyBackend(store, [Fault(FaultKind.FAIL_BEFORE, method=method)])
    with pytest.raises(BackendUnavailableError):
        check(repo)


def test_it_reads_no_files_content(history, store):
    """Every data pack may be garbage of the right size: check reads none of it."""
    counting = FaultyBackend(store)
    repo = history.open(store)
    repo.backend = counting
    assert check(repo).ok
    read = {name for method, name in counting.calls if method == "get" and name.startswith("packs/")}
    assert read
    assert not read & set(history.packs(TYPE_DATA))


def test_the_repositorys_own_index_is_not_used(history, store):
    """What this process believes is no proof."""
    repo = history.open(store)
    repo.index()
    store.delete(history.names("index/")[0])
    assert ["index-incomplete"] == [found.code for found in errors_of(check(repo))]


def test_altered_settings_are_an_error(history, store):
    """Still a repository's, and not this one's any more."""
    repo = history.open(store)
    store.replace("coffer.json", store.get("coffer.json").replace(b'"created_ns": ', b'"created_ns":  '))
    assert [("object-corrupt", "coffer.json")] == [(found.code, found.object) for found in errors_of(check(repo))]


def test_settings_that_are_gone_are_an_error(history, store):
    """The repository is open; the next process will not open it."""
    repo = history.open(store)
    store.delete("coffer.json")
    assert [("not-a-repository", "coffer.json")] == [(f.code, f.object) for f in errors_of(check(repo))]


def test_a_lease_that_holds_is_no_finding_and_a_stale_one_is_a_hint(history, store):
    """A run at work; a run that was killed; a run that has committed and was killed before it tidied up."""
    repo = history.open(store)
    tag, number = parse_name(history.names("snapshots/")[-1])
    now_ns = history.bench.clock.now_ns()
    lease.renew(store, repo.keyring, lease.Lease(tag, number + 1, 0, 0), history.bench.clock)
    assert () == check(repo).findings
    repo.clock = ManualClock(now_ns + lease.LEASE_S * 1_000_000_000 + 1)
    assert [("stale-lease", f"leases/{tag}-{number + 1:08d}-0001")] == hints_of(check(repo))
    repo.clock = history.bench.clock
    lease.renew(store, repo.keyring, lease.Lease(tag, number, 0, 0), history.bench.clock)
    assert [("stale-lease", f"leases/{tag}-{number:08d}-0001")] == hints_of(check(repo))


def test_a_damaged_lease_is_an_error(history, store):
    """Nobody can say whether its run lives."""
    repo = history.open(store)
    tag, number = parse_name(history.names("snapshots/")[-1])
    lease.renew(store, repo.keyring, lease.Lease(tag, number + 1, 0, 0), history.bench.clock)
    name = f"leases/{tag}-{number + 1:08d}-0001"
    store.flip_bit(name, -1)
    assert [("object-corrupt", name)] == [(f.code, f.object) for f in errors_of(check(repo))]


def test_a_key_that_is_wrapped_again_may_lose_its_first_wrap(history, store):
    """What counts is that some object holds it."""
    repo = history.open(store)
    store.put("keys/signing-2", [store.get("keys/signing-1")])
    store.delete("keys/signing-1")
    assert check(repo).ok


def test_a_key_that_is_no_key_is_one_error(history, store):
    """Damaged and missing are one thing."""
    repo = history.open(store)
    store.replace("keys/signing-1", b"{}")
    assert [("object-corrupt", "keys/signing-1")] == [(f.code, f.object) for f in errors_of(check(repo))]


def make_checkpoint(history, repo, root):
    tag, _ = parse_name(history.names("snapshots/")[0])
    checkpoint.put(repo.backend, repo.keyring, tag, 5, root)
    return f"checkpoints/{tag}-{5:020d}"


def test_a_checkpoint_that_can_be_used_is_no_finding(history, store):
    """It waits for the next run."""
    repo = history.open(store)
    make_checkpoint(history, repo, history.snapshots[0].manifest_root)
    assert () == check(repo).findings


def test_a_checkpoint_that_cannot_be_used_is_a_hint(history, store):
    """It only saves work: damaged, or of a manifest that is gone."""
    repo = history.open(store)
    name = make_checkpoint(history, repo, bytes(32))
    assert [("chunk-missing", name)] == hints_of(check(repo))
    store.flip_bit(name, -1)
    assert [("object-corrupt", name)] == hints_of(check(repo))
    assert check(repo).ok


@pytest.mark.parametrize("kind", ["leases", "checkpoints"])
def test_what_is_removed_meanwhile_is_no_finding(history, store, monkeypatch, kind):
    """A lease is released, a checkpoint is overtaken, between the listing and the read."""
    repo = history.open(store)
    tag, _ = parse_name(history.names("snapshots/")[0])
    name = f"{kind}/{tag}-" + ("00000009-0001" if kind == "leases" else f"{5:020d}")
    store.put(name, [b"soon gone"])
    real = store.get

    def get(asked, *rest):
        if asked == name:
            store.delete(name)
        return real(asked, *rest)

    monkeypatch.setattr(store, "get", get)
    assert () == check(repo).findings


def test_many_defects_are_all_found(history, store):
    """One damaged object never stops the check."""
    repo = history.open(store)
    snapshot, segment = history.names("snapshots/")[0], history.names("index/")[0]
    store.flip_bit(snapshot, 100)
    store.flip_bit(segment, 100)
    unnamed = {name for _, name in hints_of(check(repo))}
    pack = next(name for name in history.packs(TYPE_DATA) if name not in unnamed)
    store.truncate(pack, 1000)
    store.delete("keys/signing-1")
    found = {finding.object for finding in check(repo).findings if finding.severity is Severity.ERROR}
    assert {snapshot, segment, pack, "keys/signing-1"} == found
