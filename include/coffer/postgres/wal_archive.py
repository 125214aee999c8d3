"""The write-ahead log of one source in the repository: put, found, and read back in order.

Every object is written once and never changed (invariant I1). Ranges may overlap: a segment that was pushed and a
stream that was received hold the same bytes, and are compared where both are read.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Iterator

from coffer.errors import (
    BackendAccessError,
    CryptoError,
    ObjectCorruptError,
    ObjectExistsError,
    ObjectNotFoundError,
    RepositoryError,
    ShortReadError,
)
from coffer.errors_postgres import PostgresSystemChangedError, WalConflictError, WalGapError
from coffer.postgres.facts import ClusterFacts
from coffer.postgres.lsn import Lsn
from coffer.postgres.timeline import History
from coffer.postgres.wal_coverage import Reach, WalCoverage
from coffer.postgres.wal_object import (
    FIRST_READ_BYTES,
    FRAME_BYTES,
    MAX_HISTORY_OBJECT_BYTES,
    MAX_RANGE_BYTES,
    PREFIX,
    OpenRange,
    WalHead,
    WalRangeRef,
    decode_history,
    encode_history,
    encode_range,
    history_object_name,
    open_range,
    parse_history_object_name,
    parse_range_name,
    range_name,
)
from coffer.repository.objects import read_whole
from coffer.repository.repository import Repository
from coffer.repository.snapshot import storable_ns

_READ_BYTES = 8 << 20  # one read of the store; a store at a distance then answers at its full rate
_HEADS_TRIED = 8  # of damaged ranges, before it is not known any more which cluster they are of
# What is wrong with one object and says nothing of the next.
_DAMAGE = (RepositoryError, CryptoError, ObjectNotFoundError, ShortReadError, BackendAccessError)


class WalArchive:
    """The saved log of one source. Thread-safe for reading; one thread puts."""

    def __init__(self, repo: Repository, source: str, *, system_id: int | None = None, tag: str = "") -> None:
        """Look at the log of a source; nothing is read yet.

        Args:
            repo: The repository.
            source: Name of the source.
            system_id: The cluster that the log must be of; where omitted, the one that the first object says.
            tag: Of the source, for a reader that does not know its name; else it follows from the name.
        """
        self._repo = repo
        self.source = source
        self.tag = tag or repo.keyring.ids.source_tag(source)
        self._system_id = system_id

    # ------------------------------------------------------------------------------------------------ what there is

    def ranges(
        self, timeline: int | None = None, start: Lsn | None = None, end: Lsn | None = None
    ) -> list[WalRangeRef]:
        """Return the ranges by timeline and start; what else lies among them is passed over.

        Args:
            timeline: Only those of this one.
            start: Only those that hold a byte from here on; with `end` and a timeline.
            end: And before this one.
        """
        prefix = f"{PREFIX}{self.tag}/"
        if timeline is not None:
            prefix += f"{timeline:08x}-"
            if start is not None and end is not None:
                prefix += _begin_of_starts(start, end)
        found = []
        for info in self._repo.backend.list(prefix):
            ref = parse_range_name(info.name, info.size_bytes)
            if ref is None or (start is not None and end is not None and not (ref.start < end and start < ref.end)):
                continue
            found.append(ref)
        return sorted(found)

    def coverage(self) -> WalCoverage:
        """Return what is saved, as it is now."""
        return WalCoverage(self.ranges())

    def newest(self) -> tuple[int, Lsn] | None:
        """Return (the youngest timeline of which something is saved, where that ends); None where nothing is."""
        return self.coverage().newest()

    def end_of(self, timeline: int, from_: Lsn) -> Lsn:
        """Return the first byte that is missing when one goes on from `from_` along a timeline."""
        return self.coverage().end_of(timeline, from_)

    def reach(self, history: History, from_timeline: int, from_: Lsn) -> Reach:
        """Return how far replay can go along a history; see `WalCoverage.reach`."""
        return self.coverage().reach(history, from_timeline, from_)

    def timelines(self) -> list[int]:
        """Return the timelines of which a range or a history is saved, oldest first."""
        return sorted({*self.coverage().timelines(), *self.histories()})

    def head(self, ref: WalRangeRef) -> WalHead:
        """Return what a range says of itself: its cluster, when it was saved.

        Raises:
            ObjectCorruptError, WrongKeyError, SizeLimitError, ShortReadError: It is damaged.
            ObjectNotFoundError: It is gone.
        """
        return self._open(ref)[0].head

    def system_id(self) -> int | None:
        """Return the cluster that the source is of, as its log says, else its newest snapshot; None where neither is.

        Where nothing of them can be read, neither is.
        """
        if self._system_id is None:
            for ref in self.ranges()[: -_HEADS_TRIED - 1 : -1]:
                with contextlib.suppress(*_DAMAGE):
                    self._open(ref)
                    break
        if self._system_id is None:
            snapshot = self._repo.newest(self.source)
            with contextlib.suppress(*_DAMAGE):
                facts = None if snapshot is None else ClusterFacts.of(snapshot)
                self._system_id = None if facts is None else facts.system_id
        return self._system_id

    # ------------------------------------------------------------------------------------------------ putting

    def put(
        self,
        timeline: int,
        start: Lsn,
        data: bytes | bytearray | memoryview,
        *,
        system_id: int,
        segment_bytes: int,
    ) -> WalRangeRef:
        """Save a range; on return it is durable. The same range with the same bytes again is no error (idempotent).

        Args:
            timeline: On which the bytes were written.
            start: The first of them.
            data: 1 byte to 64 MiB.
            system_id: The cluster that wrote them.
            segment_bytes: Size of its WAL segments [bytes].

        Raises:
            WalConflictError: The same range is there with other bytes; nothing was written.
            PostgresSystemChangedError: The source's log is of another cluster; nothing was written.
            ObjectCorruptError: The same range is there, and is damaged; nothing was written.
            BackendError, TransientError: The store refuses; as `Backend.put`.
        """
        self.require_cluster(system_id)
        end = start.after(len(data))
        name = range_name(self.tag, timeline, start, end)
        hasher = self._repo.keyring.ids.wal_hasher()
        hasher.update(data)
        saved_ns = storable_ns(self._repo.clock.now_ns())
        head = WalHead(self.tag, system_id, timeline, start, end, segment_bytes, saved_ns, hasher.digest())
        parts = encode_range(self._repo.keyring, head, data)
        try:
            self._repo.backend.put(name, parts)
        except ObjectExistsError:
            return self._require_same(name, head)
        return WalRangeRef(timeline, start, end, name, sum(map(len, parts)))

    def require_cluster(self, system_id: int) -> None:
        """Make sure that the source's log is of this cluster, or that there is none yet.

        Raises:
            PostgresSystemChangedError: It is of another one.
        """
        known = self.system_id()
        if known is not None and known != system_id:
            raise PostgresSystemChangedError(
                f"source {self.source}: system identifier is {system_id}, what is saved is of {known}",
                found=system_id,
                expected=known,
            )
        self._system_id = system_id

    def _require_same(self, name: str, head: WalHead) -> WalRangeRef:
        """Hold what was to be put against what stands at its name."""
        ref = parse_range_name(name, self._repo.backend.stat(name).size_bytes)
        if ref is None:
            raise ValueError(f"not the name of a range: {name}")
        if not hmac.compare_digest(self._open(ref)[0].head.content_id, head.content_id):
            raise WalConflictError(
                f"source {self.source}: WAL {head.start}..{head.end} of timeline {head.timeline} is saved with other "
                "bytes",
                object=name,
            )
        return ref

    # ------------------------------------------------------------------------------------------------ reading

    def read(self, ref: WalRangeRef) -> bytes:
        """Return the bytes of a range, authenticated, and held against their id.

        Raises:
            ObjectCorruptError, WrongKeyError, SizeLimitError, ShortReadError: It is damaged, or belongs elsewhere.
            ObjectNotFoundError: It is gone.
        """
        pieces = []
        hasher = self._repo.keyring.ids.wal_hasher()
        opened, begin = self._open(ref)
        for piece in self._pieces(opened, begin, 0, len(opened.head.frames)):
            hasher.update(piece)
            pieces.append(piece)
        self._require_id(opened, hasher.digest())
        return b"".join(pieces)

    def prove(self, ref: WalRangeRef) -> WalHead:
        """Read a range as `read` does, and keep nothing of it but what it says of itself. Holds some MiB at a time.

        Raises:
            As `read`.
        """
        hasher = self._repo.keyring.ids.wal_hasher()
        opened, begin = self._open(ref)
        for piece in self._pieces(opened, begin, 0, len(opened.head.frames)):
            hasher.update(piece)
        self._require_id(opened, hasher.digest())
        return opened.head

    def read_part(self, ref: WalRangeRef, start: Lsn, end: Lsn) -> Iterator[bytes]:
        """Yield [start, end) of a range in pieces of at most 1 MiB; only the frames that hold it are read.

        Raises:
            ValueError: The range does not hold all of it.
            As `read`, except that the id of the whole is not computed.
        """
        if not ref.start <= start <= end <= ref.end:
            raise ValueError(f"{ref.name}: does not hold {start}..{end}")
        if start == end:
            return
        first, stop = (start - ref.start) // FRAME_BYTES, -(-(end - ref.start) // FRAME_BYTES)
        opened, begin = self._open(ref)
        at = ref.start.after(first * FRAME_BYTES)
        for piece in self._pieces(opened, begin, first, stop):
            head, tail = max(0, start - at), min(len(piece), end - at)
            yield piece if tail - head == len(piece) else piece[head:tail]
            at = at.after(len(piece))

    def bytes_between(self, timeline: int, start: Lsn, end: Lsn) -> Iterator[bytes]:
        """Yield [start, end) of a timeline in pieces of at most 1 MiB.

        Where one range goes on in the middle of another, what both hold is compared. A damaged range is passed over
        where others hold its bytes.

        Raises:
            WalGapError: Something of it is not saved; what was yielded before is good.
            WalConflictError: Two ranges hold different bytes of one place.
            ObjectCorruptError, WrongKeyError, SizeLimitError, ShortReadError, ObjectNotFoundError: A range is damaged,
                and no other holds its bytes.
        """
        ranges = self.ranges(timeline, start, end)
        at, before, damage = start, None, None
        while at < end:
            ref = max((ref for ref in ranges if ref.start <= at < ref.end), key=_end, default=None)
            if ref is None:
                if damage is not None:
                    raise damage
                raise self._gap(ranges, timeline, at, end)
            try:
                if before is not None:
                    self._compare(before, ref, at)
                for piece in self.read_part(ref, at, min(ref.end, end)):
                    yield piece
                    at = at.after(len(piece))
            except _DAMAGE as error:
                damage = damage or error
                ranges.remove(ref)
                continue
            before = ref

    def compare(self, first: WalRangeRef, second: WalRangeRef) -> None:
        """Hold two ranges of one timeline against each other, where they overlap.

        Raises:
            WalConflictError: They hold different bytes of one place.
            As `read`: One of them is damaged.
        """
        self._compare(first, second, min(first.end, second.end))

    def _compare(self, first: WalRangeRef, second: WalRangeRef, until: Lsn) -> None:
        at = max(first.start, second.start)
        while at < until:
            stop = min(until, at.after(FRAME_BYTES))
            if b"".join(self.read_part(first, at, stop)) != b"".join(self.read_part(second, at, stop)):
                raise WalConflictError(
                    f"{second.name}: holds other bytes than {first.name} of {at}..{stop}", object=second.name
                )
            at = stop

    def _gap(self, ranges: list[WalRangeRef], timeline: int, at: Lsn, end: Lsn) -> WalGapError:
        until = min((ref.start for ref in ranges if ref.start > at), default=end)
        return WalGapError(
            f"source {self.source}: WAL {at}..{until} of timeline {timeline} is not saved",
            hint="'coffer wal list' shows what is saved, and which points in time can be restored.",
            missing_from=str(at),
            missing_to=str(until),
            timeline=timeline,
        )

    def _open(self, ref: WalRangeRef) -> tuple[OpenRange, bytes]:
        """Return a range whose head is opened, and the first bytes of its object."""
        begin = self._repo.backend.get(ref.name, 0, min(ref.size_bytes, FIRST_READ_BYTES))
        opened = open_range(self._repo.keyring, ref, begin)
        if opened.head.source_tag != self.tag:
            raise ObjectCorruptError(f"{ref.name}: is of another source than {self.source}", object=ref.name)
        if self._system_id is None:
            self._system_id = opened.head.system_id
        elif opened.head.system_id != self._system_id:
            raise ObjectCorruptError(
                f"{ref.name}: is of cluster {opened.head.system_id}, expected {self._system_id}", object=ref.name
            )
        return opened, begin

    def _pieces(self, opened: OpenRange, begin: bytes, first: int, stop: int) -> Iterator[bytes]:
        """Yield the frames from `first` up to, and without, `stop`; the store is read in pieces of some MiB."""
        offsets = opened.offsets
        while first < stop:
            until = first + 1
            while until < stop and offsets[until + 1] - offsets[first] <= _READ_BYTES:
                until += 1
            where, length = offsets[first], offsets[until] - offsets[first]
            if where + length <= len(begin):
                sealed = begin[where : where + length]
            else:
                sealed = self._repo.backend.get(opened.ref.name, where, length)
            yield from opened.frames(first, sealed)
            first = until

    def _require_id(self, opened: OpenRange, found: bytes) -> None:
        if not hmac.compare_digest(opened.head.content_id, found):
            name = opened.ref.name
            raise ObjectCorruptError(f"{name}: its bytes are not those of its id", object=name)

    # ------------------------------------------------------------------------------------------------ histories

    def histories(self) -> list[int]:
        """Return the timelines whose history is saved, oldest first; timeline 1 has none."""
        names = (info.name for info in self._repo.backend.list(f"{PREFIX}{self.tag}/"))
        return sorted(found for name in names if (found := parse_history_object_name(name)) is not None)

    def put_history(self, timeline: int, content: bytes, *, system_id: int) -> None:
        """Save a timeline's history file; on return it is durable. The same content again is no error (idempotent).

        Raises:
            SourceFormatError: It is no history of that timeline; nothing was written.
            WalConflictError: Another history of that timeline is saved; nothing was written.
            PostgresSystemChangedError: The source's log is of another cluster; nothing was written.
        """
        History.parse(timeline, content)
        self.require_cluster(system_id)
        saved_ns = storable_ns(self._repo.clock.now_ns())
        name = history_object_name(self.tag, timeline)
        data = encode_history(self._repo.keyring, self.tag, timeline, content, system_id=system_id, saved_ns=saved_ns)
        try:
            self._repo.backend.put(name, [data])
        except ObjectExistsError:
            if self.history_content(timeline) != content:
                raise WalConflictError(
                    f"source {self.source}: another history of timeline {timeline} is saved", object=name
                ) from None

    def history(self, timeline: int) -> History:
        """Return a timeline's history; that of timeline 1 needs no object.

        Raises:
            ObjectNotFoundError: It is not saved.
            ObjectCorruptError, WrongKeyError, SizeLimitError: It is damaged, or belongs elsewhere.
        """
        return History(1) if timeline == 1 else History.parse(timeline, self.history_content(timeline))

    def history_content(self, timeline: int) -> bytes:
        """Return a timeline's history file as it was saved.

        Raises:
            As `history`.
        """
        name = history_object_name(self.tag, timeline)
        data = read_whole(self._repo.backend, name, MAX_HISTORY_OBJECT_BYTES)
        content, system_id = decode_history(self._repo.keyring, name, data)
        if self._system_id is not None and system_id != self._system_id:
            raise ObjectCorruptError(f"{name}: is of cluster {system_id}, expected {self._system_id}", object=name)
        return content


def _end(ref: WalRangeRef) -> Lsn:
    return ref.end


def _begin_of_starts(start: Lsn, end: Lsn) -> str:
    """Return what the starts of all ranges that hold a byte of [start, end) begin with, as hexadecimal digits."""
    lowest, highest = f"{max(0, start - MAX_RANGE_BYTES + 1):016x}", f"{max(start, end - 1):016x}"
    same = 0
    while same < len(lowest) and lowest[same] == highest[same]:
        same += 1
    return lowest[:same]
