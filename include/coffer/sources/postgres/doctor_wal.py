"""Checks of what keeps and moves WAL: the settings that let it be streamed, the slot, and the disk behind it."""

from __future__ import annotations

from coffer.sources.postgres.diagnosis import Asked, Diagnosis, bad, care, well
from coffer.sources.postgres.server_facts import ServerFacts, SlotFacts
from coffer.units import human_duration, human_rate, human_size

SENDERS_NEEDED = 2  # one for the base backup, one for WAL meanwhile
SAFE_SHARE = 0.5  # of what a slot may hold back; beyond it somebody must be told
_SHORT_TIMEOUT_S = 10
_SHORT_IDLE_S = 3600
_HOUR_S = 3600
_GIB = 1 << 30


def check_wal_level(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether WAL holds enough to restore from."""
    level = facts.settings["wal_level"].value
    if level in ("replica", "logical"):
        return well("wal_level", level)
    return bad("wal_level", f"{level}: WAL lacks what a restore needs", "Set wal_level = replica; restart the server.")


def check_wal_senders(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether enough connections for replication are left."""
    most = facts.settings["max_wal_senders"].number
    free = most - facts.senders
    hint = "Raise max_wal_senders (10 is the default); restart the server."
    if free < 1:
        return bad("max_wal_senders", f"{most}, all in use", hint)
    if free < SENDERS_NEEDED:
        return care("max_wal_senders", f"{most}, {free} free: a backup while WAL is received needs two", hint)
    return well("max_wal_senders", f"{most}, {free} free")


def check_replication_slots(facts: ServerFacts, asked: Asked) -> Diagnosis:
    """Say whether there is a slot left where ours does not exist yet."""
    most = facts.settings["max_replication_slots"].number
    free = most - len(facts.slots)
    if asked.slot in facts.slots or free > 0:
        return well("max_replication_slots", f"{most}, {free} free")
    return bad(
        "max_replication_slots",
        f"{most}, all in use, and {asked.slot} is not there yet",
        "Raise max_replication_slots and restart, or drop a slot that is unused: SELECT * FROM pg_replication_slots;",
    )


def check_slot(facts: ServerFacts, asked: Asked) -> Diagnosis:
    """Say how the slot is, and how much WAL it holds back."""
    slot = facts.slots.get(asked.slot)
    if slot is None:
        return well("slot", f"{asked.slot} is not there yet: the first backup makes it")
    if slot.kind != "physical":
        return bad("slot", f"{slot.name} is a {slot.kind} slot", "Name another one for the backup: it is made then.")
    if slot.is_lost:
        return bad(
            "slot",
            f"{slot.name} is lost: WAL that was not saved yet is gone",
            "Take a full backup, which makes the slot anew. Then raise max_slot_wal_keep_size, or save WAL more often.",
        )
    held = f"{slot.name} holds back {human_size(slot.lag_bytes)}{', in use now' if slot.active else ''}"
    share = used_share(slot)
    if slot.wal_status == "unreserved" or share >= SAFE_SHARE:
        return care("slot", f"{held}: {share:.0%} of what it may", "Save WAL now: coffer wal receive. Is that DAG on?")
    return well("slot", held)


def used_share(slot: SlotFacts) -> float:
    """Return how much of what it may hold back a slot does hold back, 0 to 1; 0 where there is no limit."""
    if slot.safe_bytes is None:
        return 0.0
    whole = slot.lag_bytes + max(0, slot.safe_bytes)
    return slot.lag_bytes / whole if whole else 1.0


def check_keep_size(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether a backup that stays away could fill the server's disk."""
    name, setting = "max_slot_wal_keep_size", facts.settings["max_slot_wal_keep_size"]
    keep_bytes = setting.size_bytes
    pace = facts.wal_bytes_per_s
    told = f"; WAL grows by {human_rate(pace)}" if pace else ""
    if keep_bytes < 0:
        found = f"-1: a slot that nobody reads from keeps WAL until the disk is full{told}"
        return care(name, found, f"Set {name} = '{advised_keep_size(facts)}', and reload: the oldest WAL is dropped.")
    if facts.free_bytes is not None and keep_bytes > facts.free_bytes:
        found = f"{human_size(keep_bytes)}, and the disk has {human_size(facts.free_bytes)} left{told}"
        return care(name, found, f"Set {name} = '{advised_keep_size(facts)}', or give the disk more space.")
    if pace and keep_bytes < pace * _HOUR_S:
        found = f"{human_size(keep_bytes)}, which lasts {human_duration(keep_bytes / pace)}{told}"
        return care(name, found, "Raise it, if the disk allows: a backup that is away for longer loses its slot.")
    return well(name, f"{human_size(keep_bytes)}{told}")


def advised_keep_size(facts: ServerFacts) -> str:
    """Return half of the free space as the setting is written; where it is not known, a rule for people."""
    if facts.free_bytes is None:
        return "<half of the free space of its disk>GB"
    return f"{facts.free_bytes // 2 // _GIB}GB" if facts.free_bytes >= 2 * _GIB else f"{facts.free_bytes // 2 >> 20}MB"


def check_sender_timeout(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether a pause of the repository breaks the stream of WAL."""
    timeout_s = facts.settings["wal_sender_timeout"].seconds
    if 0 < timeout_s < _SHORT_TIMEOUT_S:
        hint = "Set wal_sender_timeout = 60s, the default; reload."
        return care("wal_sender_timeout", f"{human_duration(timeout_s)}: a short pause breaks the stream", hint)
    return well("wal_sender_timeout", "none" if timeout_s == 0 else human_duration(timeout_s))


def check_idle_timeout(facts: ServerFacts, asked: Asked) -> Diagnosis | None:  # noqa: ARG001 - every check is handed both
    """Say whether the server drops a slot only because it was idle; from version 18 on."""
    setting = facts.settings.get("idle_replication_slot_timeout")
    if setting is None:
        return None
    if 0 < setting.seconds < _SHORT_IDLE_S:
        hint = "Set idle_replication_slot_timeout = 0, or a day; reload. max_slot_wal_keep_size guards the disk."
        found = f"{human_duration(setting.seconds)}: the slot is lost if WAL is not saved for so long"
        return care("idle_replication_slot_timeout", found, hint)
    return well("idle_replication_slot_timeout", "none" if not setting.number else human_duration(setting.seconds))


def check_archiver(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether an archive command is in the way. None is needed: WAL comes through the slot."""
    mode = facts.settings["archive_mode"].value
    if mode == "off":
        return well("archiving", "off: WAL comes through the slot")
    ways = [facts.settings[name].value for name in ("archive_command", "archive_library") if name in facts.settings]
    if not any(ways):
        return care(
            "archiving",
            f"archive_mode is {mode}, and no command or library is named: the server keeps all WAL",
            "Set archive_mode = off and restart. As a second way to save WAL: archive_command = 'coffer wal push %p'.",
        )
    if facts.archiver is not None and facts.archiver.fails_now:
        return care(
            "archiving",
            f"the archive command fails ({facts.archiver.failures} times, last on {facts.archiver.last_failed}): the"
            " server keeps all WAL since",
            "Look at the server's log, and mend the command, or set it to '/bin/true': WAL comes through the slot.",
        )
    return well("archiving", f"archive_mode is {mode}, and works")
