"""Whether each source's snapshots are genuine, and their chain is whole (invariant I12)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice, pairwise

from coffer.errors import ChainBrokenError
from coffer.repository.heads import Head
from coffer.repository.repository import Repository
from coffer.repository.snapshot import Snapshot, object_name, parse_name
from coffer.verification.findings import DAMAGE, FindingLog
from coffer.verification.inventory import Inventory

_BROKEN = ChainBrokenError.code
_MAX_NUMBERS_SHOWN = 5


@dataclass(slots=True)
class SourceChain:
    """What stands at the numbers of one source.

    Attributes:
        snapshots: The genuine ones, by number.
        revoked: Numbers at which the mark of a revoked writer stands.
        damaged: Numbers whose object cannot be judged; each is a finding already.
    """

    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)
    damaged: set[int] = field(default_factory=set)


def load_chains(
    repo: Repository, inventory: Inventory, notes: FindingLog, tick: Callable[[], None]
) -> dict[str, SourceChain]:
    """Read and authenticate every snapshot and mark: source tag → its chain. What does not hold is an error."""
    chains: dict[str, SourceChain] = {}
    for name, size in sorted(inventory.snapshots.items()):
        tick()
        tag, number = parse_name(name)
        chain = chains.setdefault(tag, SourceChain())
        try:
            snapshot = repo.load_snapshot(name, size)
        except DAMAGE as error:
            notes.damage(name, error)
            chain.damaged.add(number)
            continue
        if snapshot is None:
            chain.revoked.add(number)
        else:
            chain.snapshots[number] = snapshot
    return chains


def judge_chains(
    chains: Mapping[str, SourceChain], heads: Mapping[str, Head], leased: Collection[tuple[str, int]], notes: FindingLog
) -> None:
    """Follow the links of every chain, and compare it with the head that is remembered outside the store.

    Each snapshot names the one before it and the hash of its object. One that is named and missing, or is another than
    the one named, was removed or replaced: an error that names it. So is a remembered head that is not there.

    Writers of one source that run at the same time may commit in another order than that of their numbers. The links
    then fork, or a number stays free; that alone is a hint.

    Args:
        chains: As `load_chains` returned them.
        heads: Source tag → head.
        leased: (source tag, number) of every lease in the store: its number is not yet decided.
        notes: Takes the findings.
    """
    for tag, chain in sorted(chains.items()):
        numbers = sorted(chain.snapshots)
        for at, number in enumerate(numbers):
            snapshot = chain.snapshots[number]
            skipped = numbers[bisect_right(numbers, snapshot.previous_sequence) : at]
            _judge_skipped(chain, skipped, snapshot, notes)
            _judge_link(tag, chain, snapshot, notes)
        _judge_gaps(tag, chain, leased, notes)
    for tag, head in sorted(heads.items()):
        _judge_head(tag, chains.get(tag, SourceChain()), head, notes)


def _judge_link(tag: str, chain: SourceChain, snapshot: Snapshot, notes: FindingLog) -> None:
    before = snapshot.previous_sequence
    if before >= snapshot.sequence:
        notes.error(snapshot.name, _BROKEN, f"{snapshot.name}: names {before} as the number before its own")
        return
    if before == 0 or before in chain.damaged:
        return
    found = _at(chain, before, snapshot.previous_sha256)
    if found:
        name = object_name(tag, before)
        notes.error(name, _BROKEN, f"{name}: {found}, {snapshot.name} follows it")
        notes.affect(name, snapshot.id)


def _at(chain: SourceChain, number: int, sha256: str) -> str:
    """Say what is wrong with what stands at a number; nothing where the object of that hash does."""
    if number in chain.revoked:
        return "the mark of a revoked writer stands in its place"
    snapshot = chain.snapshots.get(number)
    if snapshot is None:
        return "the snapshot is missing"
    return "" if snapshot.sha256 == sha256 else "another snapshot stands in its place"


def _judge_skipped(chain: SourceChain, skipped: list[int], snapshot: Snapshot, notes: FindingLog) -> None:
    """A snapshot between a link's two ends was committed by a writer that ran at the same time.

    Their times need not show it: the clocks of two machines may disagree. It is signed, and nothing
    is lost by it, so it is a hint whatever the times say.
    """
    for other in (chain.snapshots[number] for number in skipped):
        notes.hint(other.name, "chain-fork", f"{other.name}: committed beside {snapshot.name}, not before it")


def _judge_gaps(tag: str, chain: SourceChain, leased: Collection[tuple[str, int]], notes: FindingLog) -> None:
    taken = sorted({0, *chain.snapshots, *chain.revoked})  # a damaged object's number may be anyone's
    named = {snapshot.previous_sequence for snapshot in chain.snapshots.values()}
    free = (
        number
        for below, above in pairwise(taken)
        for number in range(below + 1, above)
        if number not in named and number not in chain.damaged and (tag, number) not in leased
    )
    shown = list(islice(free, _MAX_NUMBERS_SHOWN))
    if shown:
        numbers = ", ".join(map(str, shown))
        notes.hint(
            object_name(tag, shown[0]), "chain-gap", f"source {tag}: no snapshot and no mark at number {numbers}"
        )


def _judge_head(tag: str, chain: SourceChain, head: Head, notes: FindingLog) -> None:
    if head.sequence in chain.damaged:
        return
    found = _at(chain, head.sequence, head.sha256)
    if found:
        name = object_name(tag, head.sequence)
        notes.error(name, _BROKEN, f"{name}: {found}, this machine remembers it as the newest of its source")
