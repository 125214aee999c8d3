"""The chain of a source: whole, or what is wrong with it is named."""

import pytest

from coffer.repository.heads import Head
from coffer.repository.snapshot import Snapshot, encode_revoked
from coffer.verification.chain import SourceChain, judge_chains, load_chains
from coffer.verification.findings import FindingLog
from coffer.verification.inventory import take_inventory

TAG = "0123abcd"


def name_of(number):
    return f"snapshots/{TAG}-{number:08d}"


def snapshot(number, previous, sha256=None):
    """A snapshot whose hash is its number, and that names the hash of the one before it."""
    return Snapshot(
        id=f"{number:016x}",
        name=name_of(number),
        source="tree",
        sequence=number,
        host="here",
        started_ns=number * 1000,
        finished_ns=number * 1000 + 500,
        manifest_root=bytes(32),
        previous_sequence=previous,
        previous_sha256=str(previous) if previous else "",
        parent_id="",
        paths=(),
        tags=(),
        complete=True,
        warnings_count=0,
        sha256=sha256 or str(number),
    )


def chain(*links, revoked=(), damaged=()):
    """A chain of (number, previous) links."""
    return SourceChain({number: snapshot(number, before) for number, before in links}, set(revoked), set(damaged))


def judge(found, heads=None, leased=()):
    notes = FindingLog()
    judge_chains({TAG: found} if found else {}, heads or {}, leased, notes)
    return [(finding.severity.value, finding.code, finding.object) for finding in notes.close()[0]]


@pytest.mark.parametrize(
    "whole",
    [
        chain((1, 0)),
        chain((1, 0), (2, 1), (3, 2)),
        chain((1, 0), (3, 1), (4, 3), revoked=[2]),
        chain((2, 0), revoked=[1]),
        chain(revoked=[1]),
        chain(),
    ],
    ids=["one", "three", "over-a-mark", "after-a-mark", "a-mark-alone", "empty"],
)
def test_a_whole_chain_has_no_finding(whole):
    """Each link names the snapshot before it; the numbers of revoked writers are skipped."""
    assert [] == judge(whole, {TAG: Head(max(whole.snapshots), str(max(whole.snapshots)))} if whole.snapshots else None)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (chain((1, 0), (3, 2)), name_of(2)),
        (chain((2, 1)), name_of(1)),
        (chain((1, 0), (3, 2), revoked=[2]), name_of(2)),
        (chain((1, 5)), name_of(1)),
        (chain((1, 1)), name_of(1)),
    ],
    ids=["a-gap", "the-first-gone", "a-mark-instead", "names-a-later-one", "names-itself"],
)
def test_a_broken_link_is_one_error_of_what_is_missing(broken, expected):
    """The object that should be there is named."""
    assert [("error", "chain-broken", expected)] == judge(broken)


def test_another_snapshot_in_the_place_of_the_one_that_is_named_is_an_error_of_it():
    """The hash tells."""
    found = chain((1, 0), (2, 1))
    found.snapshots[1] = snapshot(1, 0, sha256="other")
    assert [("error", "chain-broken", name_of(1))] == judge(found)


def test_what_is_damaged_is_not_judged_twice():
    """It is a finding already; neither the link to it nor the head makes a second one."""
    assert [] == judge(chain((1, 0), (3, 2), damaged=[2]))
    assert [] == judge(chain((1, 0), damaged=[2]), {TAG: Head(2, "2")})


def test_writers_at_the_same_time_make_a_fork_which_is_a_hint():
    """Both name the snapshot that was there when they began; nothing is lost."""
    assert [("hint", "chain-fork", name_of(2))] == judge(chain((1, 0), (2, 1), (3, 1)))
    assert [("hint", "chain-fork", name_of(1))] == judge(chain((1, 0), (2, 0)))


@pytest.mark.parametrize(
    ("found", "leased", "expected"),
    [
        (chain((1, 0), (3, 1)), [], [2]),
        (chain((1, 0), (3, 1)), [(TAG, 2)], []),
        (chain((1, 0), (3, 1)), [("other", 2)], [2]),
        (chain((3, 0)), [], [1]),
        (chain((1, 0), (3, 1), damaged=[2]), [], []),
        (chain((1, 0), (99_999_999, 1)), [], [2]),
    ],
    ids=["free", "leased", "leased-by-another", "at-the-start", "damaged", "far"],
)
def test_a_number_that_nothing_bears_is_a_hint(found, leased, expected):
    """Unless a lease says that its run is not decided; a far number costs no time."""
    assert [("hint", "chain-gap", name_of(number)) for number in expected] == judge(found, leased=leased)


@pytest.mark.parametrize(
    ("found", "head"),
    [
        (None, Head(1, "1")),
        (chain((1, 0)), Head(2, "2")),
        (chain((1, 0), (2, 1)), Head(2, "other")),
        (chain((1, 0), revoked=[2]), Head(2, "2")),
    ],
    ids=["all-gone", "newest-gone", "replaced", "revoked"],
)
def test_a_head_that_is_not_there_is_an_error_of_it(found, head):
    """What this machine remembers was removed or replaced."""
    assert [("error", "chain-broken", name_of(head.sequence))] == judge(found, {TAG: head})


def test_a_head_that_others_have_passed_is_all_right():
    """Another machine backed the source up since."""
    assert [] == judge(chain((1, 0), (2, 1)), {TAG: Head(1, "1")})


def test_a_missing_snapshot_that_link_and_head_name_is_one_error():
    """One defect, one finding."""
    assert [("error", "chain-broken", name_of(2))] == judge(chain((1, 0), (3, 2)), {TAG: Head(2, "2")})


def test_what_stands_at_each_number_is_read_from_the_store(history, store):
    """Snapshots, marks, and what cannot be judged: that is an error already."""
    repo = history.open(store)
    one, two, _ = history.names("snapshots/")
    store.flip_bit(one, -1)
    store.replace(two, encode_revoked(repo.keyring, two))
    notes = FindingLog()
    ticks = []
    (found,) = load_chains(repo, take_inventory(store, notes), notes, lambda: ticks.append(1)).values()
    assert ([3], {2}, {1}) == (list(found.snapshots), found.revoked, found.damaged)
    assert [one] == [finding.object for finding in notes.close()[0]]
    assert 3 == len(ticks)
