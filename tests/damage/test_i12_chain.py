"""I12: snapshots form a signed chain with a head remembered elsewhere: one removed or swapped is noticed."""

import pytest

from coffer.errors import SignatureError
from coffer.repository.heads import HeadStore
from coffer.repository.snapshot import encode_revoked, encode_snapshot, parse_name
from coffer.verification import check
from tests.harness.backups import Workbench
from tests.harness.corrupt import errors_of, hints_of, unreadable_files
from tests.harness.keyrings import make_keyring
from tests.harness.memory_store import TamperableMemoryBackend


@pytest.fixture
def names(history):
    """The snapshots' names, oldest first."""
    return history.names("snapshots/")


def broken(history, store, *, heads=True):
    """What check finds: code and object of each error."""
    repo = history.open(store, heads=history.heads if heads else None)
    return [(found.code, found.object) for found in errors_of(check(repo))]


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("heads", [True, False], ids=["with-head", "without-head"])
def test_a_snapshot_that_was_removed_is_named_by_the_one_after_it(history, store, names, at, heads):
    """The link names its number and its hash, so the store alone tells."""
    store.delete(names[at])
    assert [("chain-broken", names[at])] == broken(history, store, heads=heads)


def test_the_newest_snapshot_that_was_removed_is_known_by_the_head(history, store, names):
    """Nothing in the store follows it; what this machine remembers does."""
    store.delete(names[-1])
    assert [("chain-broken", names[-1])] == broken(history, store)
    assert [] == broken(history, store, heads=False), "a machine that never saw it cannot know"


def test_a_store_that_was_rolled_back_is_known_by_the_head(history, store, names):
    """Every snapshot gone, as after a restore of an old copy of the store, or an empty one."""
    for name in names:
        store.delete(name)
    assert [("chain-broken", names[-1])] == broken(history, store)


@pytest.fixture
def bench(tmp_path):
    """A source backed up three times by a machine that remembers it."""
    bench = Workbench(tmp_path / "tree", backend=TamperableMemoryBackend())
    bench.repo.heads = HeadStore(tmp_path / "heads")
    for version in ("a", "bb", "ccc"):
        (bench.root / "file").write_text(version)
        bench.back_up()
    return bench


def test_backups_after_a_rollback_do_not_hide_it(bench):
    """They are made, with numbers and ids that were never used; each says what is lost, and so does check."""
    before = bench.repo.snapshots()
    for name in [snapshot.name for snapshot in before[1:]]:
        bench.backend.delete(name)
    for number in (4, 5, 6):
        (bench.root / "file").write_text("d" * number)
        result = bench.back_up()
        assert (number, True, 3) == (result.snapshot.sequence, result.snapshot.complete, result.exit_code)
        assert [("chain-broken", before[2].name)] == [(found.code, found.object) for found in result.concerns]
        assert result.snapshot.id not in {snapshot.id for snapshot in before}
        assert before[2].name in [found.object for found in errors_of(check(bench.repo))]
    assert 1 == bench.repo.snapshots()[1].previous_sequence


@pytest.mark.parametrize("harm", ["remove", "replace", "revoke"])
def test_latest_says_that_a_newer_one_is_lost(bench, harm):
    """Whoever restores the newest learns that this machine knows of a newer one."""
    name = bench.repo.snapshots()[2].name
    if harm == "remove":
        bench.backend.delete(name)
    elif harm == "replace":
        bench.backend.replace(name, encode_snapshot(bench.repo.keyring, bench.repo.load_snapshot(name)))
    else:
        bench.backend.replace(name, encode_revoked(bench.repo.keyring, name))
    for asked in ("latest", "latest:tree"):
        concerns = []
        assert (3 if harm == "replace" else 2) == bench.repo.resolve(asked, concerns=concerns).sequence
        assert [("chain-broken", name)] == [(found.code, found.object) for found in concerns]
    assert [] == bench.repo.lost_heads("other")


def test_a_whole_chain_and_a_damaged_head_are_no_loss(bench):
    """What is damaged stands there; check names it."""
    assert [] == bench.repo.lost_heads() == bench.repo.lost_heads("tree")
    bench.backend.flip_bit(bench.repo.snapshots()[2].name, -1)
    assert [] == bench.repo.lost_heads()
    assert () == bench.back_up().concerns


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_snapshot_under_another_name_is_an_error_there(history, store, names, at):
    """Its name is signed: a renamed one is no snapshot, and where it was it is missing."""
    tag, _ = parse_name(names[at])
    new = f"snapshots/{tag}-00000009"
    store.put(new, [store.get(names[at])])
    assert [new] == [name for _, name in broken(history, store)]
    store.delete(names[at])
    assert sorted([names[at], new]) == sorted(name for _, name in broken(history, store))


def test_a_snapshot_of_another_source_under_our_name_is_an_error_of_it(history, store, names):
    """The tag in the name is the source's own."""
    _, number = parse_name(names[0])
    moved = f"snapshots/00000000-{number:08d}"
    store.put(moved, [store.get(names[0])])
    assert [moved] == [name for _, name in broken(history, store)]


@pytest.mark.parametrize(("here", "there"), [(0, 1), (1, 2), (0, 2)])
def test_swapped_snapshots_are_errors_of_both(history, store, names, here, there):
    """Each is signed under its own name."""
    one, two = store.get(names[here]), store.get(names[there])
    store.replace(names[here], two)
    store.replace(names[there], one)
    assert [names[here], names[there]] == [name for _, name in broken(history, store)]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_snapshot_that_was_replaced_by_a_signed_other_is_named(history, store, names, at):
    """A second version of one snapshot, signed by a writer's key: the hash in the next one, or the head, tells."""
    repo = history.open(store)
    other = repo.load_snapshot(names[at])
    store.replace(names[at], encode_snapshot(repo.keyring, other))
    assert [("chain-broken", names[at])] == broken(history, store)


def test_a_snapshot_that_another_key_signed_is_refused(history, store, names):
    """Whoever holds the sealing keys and not the signing key makes no snapshot."""
    repo = history.open(store)
    false = make_keyring(repo.id, signing=bytes(range(32)))
    false.roots, false.ids, false.current_epoch = repo.keyring.roots, repo.keyring.ids, repo.keyring.current_epoch
    store.replace(names[1], encode_snapshot(false, repo.load_snapshot(names[1])))
    assert [(SignatureError.code, names[1])] == broken(history, store)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_damaged_snapshot_hides_no_other(history, store, names, at):
    """One error, of it; the others are listed and restorable, and the source can be backed up again."""
    store.flip_bit(names[at], -1)
    assert [names[at]] == [name for _, name in broken(history, store)]
    repo = history.open(store)
    damages = []
    left = repo.snapshots(damages=damages)
    assert [name for name in names if name != names[at]] == [snapshot.name for snapshot in left]
    assert [names[at]] == [error.details["object"] for error in damages]
    for snapshot in left:
        assert set() == unreadable_files(repo, snapshot)
        assert snapshot == repo.resolve(snapshot.id)
    history.back_up(repo)
    assert [names[at]] == [name for _, name in broken(history, store)]
    assert [] == hints_of(check(history.open(store)))


def test_what_lacks_a_snapshot_is_told(history, store, names):
    """The finding of a removed snapshot names the one that follows it."""
    store.delete(names[0])
    (found,) = errors_of(check(history.open(store)))
    assert (history.snapshots[1].id,) == found.snapshots
    assert f"{names[1]} follows it" in found.message
