"""I5: every frame is bound to its repository, object and place; whatever is altered or moved is noticed and named."""

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.crypto.kek import KeyFileUnlocker
from coffer.errors import CofferError, ObjectCorruptError, WrongKeyError
from coffer.ids import PackId, pack_name
from coffer.repository.pack import TYPE_DATA, TYPE_ROOT, TYPE_SECTION
from coffer.repository.repository import Repository
from coffer.sources.filesystem import backup
from coffer.verification import check, verify
from tests.harness.corrupt import HEADER_FIELDS, assert_told, errors_of, hints_of, pack_offsets
from tests.harness.snapshots import SMALL_CHUNKS

# Damage of these leaves every frame readable by the index.
FRAMES_STAND = ("table", "table-tag", "trailer-offset", "trailer-length", "trailer-rows", "trailer-mark", "last-byte")
PLACES = [*(f"header-{field}" for field in HEADER_FIELDS), "first-frame", "last-frame-tag", *FRAMES_STAND]


@pytest.fixture(scope="session")
def foreign(history, tmp_path_factory):
    """The store of another repository, with a backup of the same tree under another key."""
    backend = MemoryBackend()
    repo = Repository.create(backend, KeyFileUnlocker(bytes(32)), chunking=SMALL_CHUNKS, clock=history.bench.clock)
    backup(repo, history.bench.source)
    return backend


def test_an_unharmed_repository_has_no_finding(history, store):
    """The baseline: check and verify are silent, and every chunk was opened."""
    repo = history.open(store, heads=history.heads)
    assert () == check(repo).findings
    report = verify(repo)
    assert () == report.findings
    assert report.counts["chunks"] == report.counts["chunks_proved"]
    packs = sum(store.stat(name).size_bytes for name in history.names("packs/"))
    assert (3, packs) == (report.counts["snapshots"], report.counts["read_bytes"])


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("place", PLACES)
def test_a_flipped_bit_in_a_data_pack_is_one_error_of_that_pack(history, store, place, bit):
    """Wherever in the pack: verify names it, and just the snapshots and paths that cannot be read any more."""
    name = history.packs(TYPE_DATA)[0]
    store.flip_bit(name, pack_offsets(store, name)[place], bit)
    repo = history.open(store)
    (found,) = errors_of(verify(repo))
    assert name == found.object
    assert_told(repo, found)
    assert bool(found.snapshots) is (place not in FRAMES_STAND)


@pytest.mark.parametrize("type_", [TYPE_SECTION, TYPE_ROOT])
@pytest.mark.parametrize("place", ["header-commitment", "first-frame", "last-frame-tag", "table"])
def test_a_flipped_bit_in_a_manifest_pack_is_one_error_of_that_pack(history, store, type_, place):
    """What a snapshot needs of its manifest is named with the snapshot; the other snapshots stay whole."""
    name = history.packs(type_)[0]
    store.flip_bit(name, pack_offsets(store, name)[place])
    repo = history.open(store)
    (found,) = errors_of(verify(repo))
    assert name == found.object
    assert_told(repo, found)
    assert len(found.snapshots) < len(history.snapshots)


def test_check_alone_sees_damage_of_a_manifest(history, store):
    """Manifests are read by check too: the same pack is named, without reading any file's content."""
    name = history.packs(TYPE_ROOT)[0]
    for frame in ("first-frame", "last-frame-tag"):
        store.flip_bit(name, pack_offsets(store, name)[frame])
    repo = history.open(store)
    (found,) = errors_of(check(repo))
    assert (ObjectCorruptError.code, name) == (found.code, found.object)
    assert_told(repo, found)


@pytest.mark.parametrize("kind", ["index", "snapshots"])
@pytest.mark.parametrize("place", [*HEADER_FIELDS.values(), 80, -1])
def test_a_flipped_bit_in_a_sealed_object_is_one_error_of_it(history, store, kind, place):
    """Header, ciphertext and tag of index segments and snapshots."""
    name = history.names(f"{kind}/")[0]
    store.flip_bit(name, place)
    (found,) = errors_of(check(history.open(store, heads=history.heads)))
    assert name == found.object


@pytest.mark.parametrize("place", ["coffer.json", "keys/"])
@pytest.mark.parametrize("offset", range(0, 270, 10))
def test_a_flipped_bit_in_the_keys_or_the_settings_opens_nothing(history, store, place, offset):
    """Nobody is led to back up into, or restore from, a repository whose keys were altered."""
    name = history.names(place)[0]
    store.flip_bit(name, offset, 1)
    with pytest.raises(CofferError) as caught:
        history.open(store)
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["coffer.json", "keys/", "index/", "snapshots/", "packs/"])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_a_truncated_object_is_one_error_of_it(history, store, kind, share):
    """An empty object, a short one, one that lacks its last bytes; in a repository that is open."""
    repo = history.open(store, heads=history.heads)
    name = history.names(kind)[0]
    store.truncate(name, int(store.stat(name).size_bytes * share))
    assert [name] == [found.object for found in errors_of(check(repo))]
    (found,) = errors_of(verify(repo))
    assert name == found.object
    if kind == "packs/":
        assert_told(repo, found)


@pytest.mark.parametrize("kind", ["coffer.json", "keys/", "snapshots/", "packs/"])
def test_a_deleted_object_is_one_error_of_it(history, store, kind):
    """It is named though it is not there; a lost index segment is the matter of I8."""
    repo = history.open(store, heads=history.heads)
    for name in history.names(kind):
        copy = store.clone()
        copy.delete(name)
        repo.backend = copy
        (found,) = errors_of(check(repo))
        assert name == found.object
        if kind == "packs/":
            assert_told(history.open(copy), found)


def test_two_frames_that_changed_places_are_errors_of_both_packs(history, store):
    """Equal lengths do not help: the seal knows its pack and its position."""
    index = history.bench.reopen().index()
    rows = [row for pack_id in sorted(index.pack_ids()) for row in index.iter_pack(pack_id) if row[1].type == TYPE_DATA]
    one, two = _two_of_one_length(rows)
    names = []
    for here, there in ((one, two), (two, one)):
        name = pack_name(here.pack_id)
        master = history.bench.backend.get(pack_name(there.pack_id), there.offset, there.sealed_length)
        data = bytearray(store.get(name))
        data[here.offset : here.offset + here.sealed_length] = master
        store.replace(name, bytes(data))
        names.append(name)
    repo = history.open(store)
    assert sorted(names) == [found.object for found in errors_of(verify(repo))]
    assert () == check(repo).findings, "file content is not what check reads"


def _two_of_one_length(rows):
    """Two frames of different packs; the history has some."""
    seen = {}
    for _, where in rows:
        other = seen.setdefault(where.sealed_length, where)
        if other.pack_id != where.pack_id:
            return other, where
    raise AssertionError("no two frames of one length")


def test_two_packs_that_changed_names_are_errors_of_both(history, store):
    """A pack is authentic in itself, and still not the one of that name."""
    one, two = history.packs(TYPE_DATA)[:2]
    for here, there in ((one, two), (two, one)):
        store.replace(here, history.bench.backend.get(there))
    repo = history.open(store)
    found = errors_of(verify(repo))
    assert [one, two] == [finding.object for finding in found]
    lost = [snapshot.id for snapshot in history.snapshots if any(snapshot.id in f.snapshots for f in found)]
    assert lost


@pytest.mark.parametrize("kind", ["packs/", "index/"])
def test_an_object_of_another_repository_is_one_error_of_it(history, store, foreign, kind):
    """Under its own, right name: it opens under no key of this repository, and everything of ours is still read."""
    name = next(info.name for info in foreign.list(kind))
    store.put(name, [foreign.get(name)])
    repo = history.open(store, heads=history.heads)
    for report in (check(repo), verify(repo)):
        (found,) = errors_of(report)
        assert (WrongKeyError.code, name, ()) == (found.code, found.object, found.snapshots)
    assert [s.id for s in history.snapshots] == [s.id for s in repo.snapshots()]
    assert_told(repo, found)


def test_a_snapshot_of_another_repository_is_one_error_of_it(history, store, foreign):
    """A source that this repository never saw."""
    name = next(info.name for info in foreign.list("snapshots/"))
    store.put(name, [foreign.get(name)])
    (found,) = errors_of(check(history.open(store, heads=history.heads)))
    assert (WrongKeyError.code, name) == (found.code, found.object)


@pytest.mark.parametrize("name", ["readme.txt", "packs/readme.txt", "index/readme", "snapshots/readme", "a/b/c/d"])
def test_a_foreign_file_is_a_hint(history, store, name):
    """A plaintext file among the objects harms nothing: no error, and the hint names it."""
    store.put(name, [b"plain text"])
    repo = history.open(store, heads=history.heads)
    assert [("stray-object", name)] == hints_of(check(repo))
    assert check(repo).ok
    assert verify(repo).ok


def test_garbage_under_a_packs_name_is_one_error_of_it(history, store):
    """No writer leaves a half pack; whoever put this there is told of."""
    name = pack_name(PackId(bytes(range(32))))
    store.put(name, [b"x" * 500])
    (found,) = errors_of(check(history.open(store)))
    assert (ObjectCorruptError.code, name, ()) == (found.code, found.object, found.snapshots)
