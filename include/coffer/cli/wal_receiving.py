"""`coffer wal receive` and `coffer wal status`: WAL over the wire, and how far its slot is behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coffer.cli.clusters import cluster_options, find_cluster
from coffer.cli.command import command, flag, option
from coffer.cli.display import Display
from coffer.cli.faults import EXIT_FAILED, EXIT_INCOMPLETE, EXIT_OK, fault_of
from coffer.cli.outcome import Outcome
from coffer.cli.quantities import DURATION
from coffer.cli.run import Run
from coffer.cli.text import count_of
from coffer.postgres.wal_archive import WalArchive
from coffer.progress import Progress
from coffer.units import human_size

if TYPE_CHECKING:
    from coffer.sources.postgres.slot_state import SlotState
    from coffer.sources.postgres.wal_receiver import DrainResult


@command(
    "receive",
    parent="wal",
    moves_data=True,
    options=(
        *cluster_options(),
        flag("--once", help="Save what is missing until now, and end."),
        option(
            "--interval",
            metavar="DURATION",
            type=DURATION,
            default="60s",
            help="Save WAL at the latest after 10s, 1m ...",
        ),
        flag("--create-slot", help="Create the slot where it is missing; WAL is kept from then on."),
        flag("--accept-gap", help="Go on although WAL was removed from the server before it was saved."),
    ),
)
def receive_wal(run: Run, once: bool, interval: int, create_slot: bool, accept_gap: bool, **given: Any) -> Outcome:
    """Save the WAL of a server as it is written.

    Through a physical replication slot, which keeps on the server what is not saved yet: the server is told to go on
    only when the WAL is durable in the repository. Runs until it is stopped, looks again for a server that was lost,
    and follows a promotion. With --once it ends when all that is there now is saved.

    A slot that nobody reads from fills the server's disk: see 'coffer wal status'.
    """
    from coffer.sources.postgres.replication import ReplicationSession
    from coffer.sources.postgres.wal_receiver import drain, receive

    cluster = find_cluster(run, given)
    repo = run.repository()
    if create_slot:
        with ReplicationSession(cluster.connection) as session:
            if session.create_slot(cluster.slot):
                run.note(f"slot {cluster.slot} was created")
    progress = Progress(phase="receiving WAL")
    run.stops_softly = True
    more: dict[str, Any] = {"slot": cluster.slot, "accept_gap": accept_gap, "stop": run.stop, "progress": progress}
    with Display(run, progress):
        if once:
            done = drain(repo, cluster.source, cluster.connection, **more)
        else:
            done = receive(repo, cluster.source, cluster.connection, interval_s=float(interval), **more)
    if done.gap is not None:
        run.warn("pg-wal-gap", f"WAL {done.gap[0]}..{done.gap[1]} is not saved: no moment inside it can be restored")
    return _outcome_of(run, cluster.source, cluster.slot, done)


def _outcome_of(run: Run, source: str, slot: str, done: DrainResult) -> Outcome:
    gap = None if done.gap is None else {"start": str(done.gap[0]), "end": str(done.gap[1])}
    result: dict[str, Any] = {
        "source": source,
        "slot": slot,
        "timeline": done.timeline,
        "start": str(done.start),
        "end": str(done.end),
        "objects": done.ranges,
        "wal_bytes": done.wal_bytes,
        "stored_bytes": done.stored_bytes,
        "reconnects": done.reconnects,
        "gap": gap,
        "slot_at": None if done.slot_at is None else str(done.slot_at),
    }
    sizes = f"{human_size(done.wal_bytes)} in {count_of(done.ranges, 'object')}, {human_size(done.stored_bytes)} stored"
    line = f"{source}: WAL is saved up to {done.end} on timeline {done.timeline}; {sizes}"
    return Outcome(result=result, lines=[line], exit_code=EXIT_INCOMPLETE if run.warnings_count else EXIT_OK)


@command("status", parent="wal", options=cluster_options())
def show_status(run: Run, **given: Any) -> Outcome:
    """Show how far the saving of a server's WAL is behind.

    Ends with 3 when the slot holds back half of what max_slot_wal_keep_size allows, or of what the server's disk has
    free (seen only on the server's own machine), and with 1 when it is lost.
    """
    from contextlib import closing

    from coffer.errors_postgres import PostgresSlotLostError
    from coffer.sources.postgres.connection import connect_sql
    from coffer.sources.postgres.slot_state import SlotVerdict, free_disk_bytes, slot_state

    cluster = find_cluster(run, given)
    target = cluster.connection
    with closing(connect_sql(target)) as connection:
        free_bytes = free_disk_bytes(connection, label=target.label) if target.is_local else None
        state = slot_state(connection, cluster.slot, label=target.label, free_bytes=free_bytes)
    newest = WalArchive(run.repository(), cluster.source).newest()
    result = {"source": cluster.source, **_state_fields(state)}
    result["saved_timeline"], result["saved_until"] = (newest[0], str(newest[1])) if newest else (None, None)
    lines = _state_lines(cluster.source, state, result)
    if state.verdict is SlotVerdict.LOST:
        fault = fault_of(PostgresSlotLostError(f"replication slot {state.name}: {state.reason}"))
        return Outcome(result=result, lines=lines, exit_code=EXIT_FAILED, fault=fault)
    if state.verdict is SlotVerdict.WARN:
        run.warn("slot-behind", f"replication slot {state.name}: {state.reason}")
    return Outcome(result=result, lines=lines, exit_code=EXIT_INCOMPLETE if run.warnings_count else EXIT_OK)


def _state_fields(state: SlotState) -> dict[str, Any]:
    return {
        "slot": state.name,
        "verdict": state.verdict.value,
        "reason": state.reason or None,
        "advice": state.advice or None,
        "is_active": state.is_active,
        "wal_status": state.wal_status,
        "restart": None if state.restart is None else str(state.restart),
        "position": None if state.position is None else str(state.position),
        "lag_bytes": state.lag_bytes,
        "safe_wal_bytes": state.safe_wal_bytes,
        "keep_bytes": state.keep_bytes,
        "free_bytes": state.free_bytes,
    }


def _state_lines(source: str, state: SlotState, fields: dict[str, Any]) -> list[str]:
    def size(value: int | None, otherwise: str) -> str:
        return otherwise if value is None else human_size(value)

    saved = "nothing is saved"
    if fields["saved_until"] is not None:
        saved = f"saved up to {fields['saved_until']} on timeline {fields['saved_timeline']}"
    verdict = state.verdict.value + (f": {state.reason}" if state.reason else "")
    kept = (
        f"{human_size(state.lag_bytes)}, from {fields['restart'] or 'nowhere'} on, {state.wal_status or 'not reserved'}"
    )
    room = f"{size(state.keep_bytes, 'none')}, {size(state.safe_wal_bytes, 'any size')} to go"
    return [
        f"{source}: {saved}; the server is at {fields['position'] or 'an unknown place'}",
        f"slot {state.name}: {verdict}",
        f"kept for it: {kept}{', read from just now' if state.is_active else ''}",
        f"limit: {room}; free on the server's disk: {size(state.free_bytes, 'unknown')}",
        *([f"advice: {state.advice}"] if state.advice else []),
    ]
