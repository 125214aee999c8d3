"""The repository as a whole: made, opened, listed, resolved, committed to."""

from datetime import UTC, datetime

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.chunking.cutter import KIB, ChunkParams
from coffer.crypto.kek import KeyFileUnlocker
from coffer.errors import (
    BackendUnavailableError,
    LeaseLostError,
    NotARepositoryError,
    ObjectCorruptError,
    RepositoryExistsError,
    SizeLimitError,
    SnapshotAmbiguousError,
    SnapshotNotFoundError,
    WrongKeyError,
)
from coffer.ids import pack_name
from coffer.repository import lease
from coffer.repository.heads import Head, HeadStore
from coffer.repository.pack import TYPE_DATA, TYPE_ROOT
from coffer.repository.repository import Repository
from coffer.repository.snapshot import encode_revoked, snapshot_id
from coffer.repository.writer import ChunkWriter
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend
from tests.harness.keyrings import make_unlocker
from tests.harness.manifests import sample_groups
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store import TamperableMemoryBackend
from tests.harness.repositories import commit_snapshot, make_repository, make_snapshot

DAY_S = 24 * 3600


@pytest.fixture
def clock():
    """A clock that stands at 2026-11-01 00:00 UTC."""
    return ManualClock()


@pytest.fixture
def store(clock):
    """An empty store that tests may damage."""
    return TamperableMemoryBackend(clock)


@pytest.fixture
def repo(store, clock):
    """An empty repository."""
    return make_repository(store, clock)


def _names(store, prefix=""):
    return [info.name for info in store.list(prefix)]


def test_a_new_repository_opens_with_its_key(store, repo):
    """By what lies in the store alone; the settings are those that it was made with."""
    opened = Repository.open(store, make_unlocker())
    assert (repo.id, repo.settings) == (opened.id, opened.settings)
    assert repo.keyring.public_key == opened.keyring.public_key
    assert [] == opened.snapshots()
    assert 0 == len(opened.index())


def test_a_repository_keeps_how_content_is_cut(store):
    """As it was asked for when it was made."""
    chunking = ChunkParams(avg_bytes=512 * KIB)
    Repository.create(store, make_unlocker(), chunking=chunking)
    assert chunking == Repository.open(store, make_unlocker()).settings.chunking


def test_settings_are_put_last(store):
    """An init that was killed leaves no repository: keys come before coffer.json."""
    killed = Fault(FaultKind.FAIL_BEFORE, method="put", nth=3)
    with FaultyBackend(store, [killed]) as faulty, pytest.raises(BackendUnavailableError):
        make_repository(faulty)
    assert ["keys/0001-1", "keys/chunk-id-1", "keys/signing-1"] == _names(store)
    with pytest.raises(NotARepositoryError):
        Repository.open(store, make_unlocker())


def test_nothing_is_made_over_a_repository_or_its_remains(store, repo):
    """Neither over a whole one, nor over keys without coffer.json, nor over coffer.json without keys."""
    before = store.contents()
    with pytest.raises(RepositoryExistsError):
        make_repository(store)
    assert before == store.contents()
    for lost in ("coffer.json", "keys/"):
        remains = store.clone()
        for name in _names(remains, lost):
            remains.delete(name)
        with pytest.raises(RepositoryExistsError, match="remains"):
            make_repository(remains)


def test_the_wrong_key_and_no_repository_are_told_apart(store, repo):
    """Each with an error of its own."""
    with pytest.raises(WrongKeyError):
        Repository.open(store, KeyFileUnlocker(b"x" * 32))
    with pytest.raises(NotARepositoryError):
        Repository.open(MemoryBackend(), make_unlocker())


def test_closing_closes_the_store(store, repo, monkeypatch):
    """Once is enough, twice is no error."""
    closed = []
    monkeypatch.setattr(store, "close", lambda: closed.append(1))
    repo.close()
    repo.close()
    assert [1, 1] == closed


# ------------------------------------------------------------------------------------------------ committing


def test_a_committed_snapshot_is_found(repo, clock):
    """Whole, by a new process too."""
    committed = commit_snapshot(repo, clock)
    assert [committed] == repo.snapshots() == Repository.open(repo.backend, make_unlocker()).snapshots()
    assert committed == repo.load_snapshot(committed.name) == repo.newest("home")


def test_snapshots_of_a_source_form_a_chain(repo, clock):
    """Each names the number and the SHA-256 of the one before; each source has its own chain (I12)."""
    first, other, second = [commit_snapshot(repo, clock, source) for source in ("home", "other", "home")]
    assert (0, "") == (first.previous_sequence, first.previous_sha256)
    assert (0, "") == (other.previous_sequence, other.previous_sha256)
    assert (first.sequence, first.sha256) == (second.previous_sequence, second.previous_sha256)


def test_the_chain_passes_over_revoked_writers(repo, clock):
    """A mark is no snapshot: the chain goes on from the last that was committed."""
    first = commit_snapshot(repo, clock)
    dead = lease.acquire(repo.backend, repo.keyring, repo.keyring.ids.source_tag("home"), clock)
    clock.advance(7 * 3600)
    lease.sweep(repo.backend, repo.keyring, dead.source_tag, clock)
    third = commit_snapshot(repo, clock)
    assert (3, 1, first.sha256) == (third.sequence, third.previous_sequence, third.previous_sha256)
    assert [first, third] == repo.snapshots()
    assert repo.load_snapshot(dead.snapshot_name) is None
    assert first == repo.newest("home", below=3)
    assert repo.newest("home", below=1) is None


def test_a_writer_that_was_revoked_commits_nothing(repo, clock):
    """The mark stands at the very name (I3)."""
    slow = lease.acquire(repo.backend, repo.keyring, repo.keyring.ids.source_tag("home"), clock)
    clock.advance(7 * 3600)
    lease.sweep(repo.backend, repo.keyring, slow.source_tag, clock)
    with pytest.raises(LeaseLostError, match="revoked"):
        repo.commit(slow, make_snapshot(repo.keyring, "home", slow.sequence))
    assert [] == repo.snapshots()


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"warnings_count": -1}, ObjectCorruptError), ({"tags": ("t" * (1 << 20),)}, SizeLimitError)],
)
def test_what_nobody_could_read_is_not_committed(repo, clock, changes, error):
    """A snapshot is read as it was encoded before it is put: else a success would hide every other one."""
    with pytest.raises(error):
        commit_snapshot(repo, clock, **changes)
    assert [] == repo.snapshots()


def test_a_clock_that_stands_before_1970_stops_no_backup(repo, clock):
    """Its times are the first that a snapshot can hold."""
    committed = commit_snapshot(repo, clock, started_ns=-5_000_000_000, finished_ns=-1)
    assert (0, 0) == (committed.started_ns, committed.finished_ns)
    assert committed == repo.resolve("latest")


def test_the_newest_head_is_remembered_outside_the_store(store, clock, tmp_path):
    """After the commit, not before: a machine does not expect what may not be there."""
    heads = HeadStore(tmp_path)
    repo = make_repository(store, clock, heads)
    first = commit_snapshot(repo, clock)
    tag = repo.keyring.ids.source_tag("home")
    assert {tag: Head(1, first.sha256)} == heads.heads(repo.id)
    second = commit_snapshot(repo, clock)
    assert {tag: Head(2, second.sha256)} == heads.heads(repo.id)


# ------------------------------------------------------------------------------------------------ resolving


def test_snapshots_are_listed_oldest_first(repo, clock):
    """Of all sources, or of one."""
    made = [commit_snapshot(repo, clock, source) for source in ("b", "a", "b")]
    assert made == repo.snapshots()
    assert [made[0], made[2]] == repo.snapshots("b")
    assert [] == repo.snapshots("none")


def test_latest_is_the_one_that_was_finished_last(repo, clock):
    """Of all, or of one source."""
    made = [commit_snapshot(repo, clock, source) for source in ("b", "a")]
    assert made[1] == repo.resolve("latest") == repo.resolve("latest:a")
    assert made[0] == repo.resolve("latest:b")
    with pytest.raises(SnapshotNotFoundError, match="of source 'c'"):
        repo.resolve("latest:c")


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-01", 0),
        ("2026-11-02", 1),
        ("20261102", 1),
        ("2026-12-24", 2),
        ("2026-11-02T00:00", 0),
        ("2026-11-02T00:00:01", 1),
        ("2026-11-02T01:00:01+01:00", 1),
        ("2026-11-02T01:00:00+01:00", 0),
        ("9999-12-31", 2),
    ],
)
def test_a_moment_means_the_newest_finished_by_then(repo, clock, moment, expected):
    """At or before it, in UTC unless it says otherwise; a date alone means the end of that day."""
    made = []
    for _ in range(3):
        made.append(commit_snapshot(repo, clock))
        clock.advance(DAY_S - 1)
    assert datetime(2026, 11, 2, 0, 0, 1, tzinfo=UTC).timestamp() * 1e9 == made[1].finished_ns
    assert made[expected] == repo.resolve(f"latest@{moment}") == repo.resolve(f"latest:home@{moment}")


@pytest.mark.parametrize("moment", ["2026-10-31", "0001-01-01", "2026-11-01T00:00"])
def test_before_the_first_there_is_none(repo, clock, moment):
    """Said with the moment that was asked for."""
    commit_snapshot(repo, clock)
    with pytest.raises(SnapshotNotFoundError, match=f"until {moment}"):
        repo.resolve(f"latest@{moment}")


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01", "2026-11-01T25:00", "1"])
def test_what_is_no_moment_is_refused(repo, clock, moment):
    """With the form that is expected."""
    commit_snapshot(repo, clock)
    with pytest.raises(SnapshotNotFoundError, match="not of the form"):
        repo.resolve(f"latest@{moment}")


def test_a_prefix_of_an_id_names_a_snapshot(repo, clock):
    """As long as it fits one only."""
    made = [commit_snapshot(repo, clock) for _ in range(20)]
    for snapshot in made:
        assert snapshot == repo.resolve(snapshot.id)
        alone = next(n for n in range(1, 17) if sum(s.id.startswith(snapshot.id[:n]) for s in made) == 1)
        assert snapshot == repo.resolve(snapshot.id[:alone])
    first_digits = [snapshot.id[0] for snapshot in made]
    shared = next(digit for digit in first_digits if first_digits.count(digit) > 1)
    with pytest.raises(SnapshotAmbiguousError, match=f"fits {first_digits.count(shared)} of them"):
        repo.resolve(shared)


@pytest.mark.parametrize("name", ["0" * 16, "f" * 16])
def test_an_id_that_nobody_has_is_not_found(repo, clock, name):
    """It has the form of an id, and fits none."""
    commit_snapshot(repo, clock)
    with pytest.raises(SnapshotNotFoundError, match="there is none"):
        repo.resolve(name)


@pytest.mark.parametrize("name", ["", "Latest", "home", "0" * 17, "../x", "latest:", "latest@", "DEADBEEF"])
def test_what_is_no_name_of_a_snapshot_is_refused(repo, name):
    """With the forms that there are."""
    with pytest.raises(SnapshotNotFoundError, match="not an id"):
        repo.resolve(name)


def test_a_revoked_writer_is_never_resolved(repo, clock):
    """The id of a mark's name fits nothing."""
    name = f"snapshots/{repo.keyring.ids.source_tag('home')}-00000001"
    repo.backend.put(name, [encode_revoked(repo.keyring, name)])
    with pytest.raises(SnapshotNotFoundError):
        repo.resolve(snapshot_id(repo.id, name))
    with pytest.raises(SnapshotNotFoundError):
        repo.resolve("latest")


def test_a_damaged_snapshot_is_an_error_and_no_absence(store, repo, clock):
    """Whoever lists learns of it; an oversized one is not read (I7)."""
    name = commit_snapshot(repo, clock).name
    store.flip_bit(name, -1)
    with pytest.raises(ObjectCorruptError, match=name):
        repo.snapshots()
    store.replace(name, bytes((1 << 20) + 1))
    with pytest.raises(SizeLimitError, match=name):
        repo.snapshots()


def test_damaged_snapshots_can_be_gathered_while_the_others_are_listed(store, repo, clock):
    """For whoever reports: all that can be read, and an error for each that cannot."""
    kept = commit_snapshot(repo, clock)
    harmed = commit_snapshot(repo, clock)
    store.flip_bit(harmed.name, -1)
    damages = []
    assert [kept] == repo.snapshots(damages=damages)
    assert [harmed.name] == [damage.details["object"] for damage in damages]


# ------------------------------------------------------------------------------------------------ reading


def _write(repo, data, type_=TYPE_DATA):
    writer = ChunkWriter(repo.backend, repo.keyring, repo.index(), workers=1)
    try:
        pending = writer.submit([data], len(data), type_)
        writer.flush_meta()
        return pending.chunk_id
    finally:
        writer.close()


def test_index_and_reader_are_made_once(repo):
    """A run reads the segments once."""
    assert repo.index() is repo.index()
    assert repo.reader() is repo.reader()


def test_a_manifest_is_read_by_its_snapshot(repo, clock):
    """Root, blocks and entries, through index and packs."""
    from coffer.repository.blocks import encode_content, encode_stable, encode_times
    from coffer.repository.manifest import NO_FINGERPRINT, BlockRef, encode_root
    from coffer.repository.pack import TYPE_SECTION

    groups = sample_groups()
    sections = [_write(repo, part, TYPE_SECTION) for part in (encode_stable(groups), encode_times(groups))]
    content = _write(repo, encode_content(groups), TYPE_SECTION)
    block = BlockRef(b"", b"etc", 9, 0, NO_FINGERPRINT, *sections, content)
    root = _write(repo, encode_root([block]), TYPE_ROOT)
    snapshot = commit_snapshot(repo, clock, manifest_root=root)
    reopened = Repository.open(repo.backend, make_unlocker())
    expected = [entry for group in groups for entry in group.entries()]
    assert expected == list(reopened.manifest(snapshot).entries())


def test_packs_and_index_are_compared(store, repo):
    """Orphans are packs that no segment names; missing are those that the store does not have."""
    kept, orphan, lost = [_write(repo, data) for data in (b"kept", b"orphan", b"lost")]
    for info in list(store.list("index/")):
        if _names_pack(repo, info, orphan):
            store.delete(info.name)
    store.delete(pack_name(repo.index().find(lost).pack_id))
    store.put("packs/strange", [b"x"])
    store.put(f"packs/00/{'0' * 64}", [b"no pack"])
    opened = Repository.open(store, make_unlocker())
    orphans, missing = opened.compare_packs()
    assert [repo.index().find(orphan).pack_id] == [pack_id for pack_id, _ in orphans]
    assert [repo.index().find(lost).pack_id] == missing
    assert kept in opened.index()
    assert orphan not in opened.index()


def _names_pack(repo, info, chunk_id):
    from coffer.repository.index import read_segment

    packs = [pack for pack, _ in read_segment(repo.backend, repo.keyring, info.name, info.size_bytes)]
    return repo.index().find(chunk_id).pack_id in packs


def test_a_repository_without_its_index_is_read_from_the_packs(store, repo):
    """The index is disposable (I8): lost or damaged, the packs' own tables say the same."""
    chunk = _write(repo, b"data of a lost segment")
    for name in _names(store, "index/"):
        store.delete(name)
    assert b"data of a lost segment" == Repository.open(store, make_unlocker()).reader().read(chunk, TYPE_DATA)
    store.put("index/" + "0" * 64, [b"damaged"])
    opened = Repository.open(store, make_unlocker())
    assert chunk in opened.index()
    orphans, missing = opened.compare_packs()
    assert (1, []) == (len(orphans), missing)
