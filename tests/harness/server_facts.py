"""A server that nothing is wrong with, as the doctor sees it; tests change one thing of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from coffer.postgres.lsn import Lsn
from coffer.sources.postgres.replication import SystemIdentity
from coffer.sources.postgres.server_facts import DatabaseFacts, ServerFacts, Setting, SlotFacts

GIB = 1 << 30
SETTINGS = {
    "wal_level": Setting("replica"),
    "max_wal_senders": Setting("10"),
    "max_replication_slots": Setting("10"),
    "max_slot_wal_keep_size": Setting("51200", "MB"),
    "wal_sender_timeout": Setting("60000", "ms"),
    "data_checksums": Setting("on"),
    "wal_log_hints": Setting("off"),
    "full_page_writes": Setting("on"),
    "block_size": Setting("8192"),
    "wal_segment_size": Setting("16777216", "B"),
    "max_wal_size": Setting("1024", "MB"),
    "max_standby_streaming_delay": Setting("30000", "ms"),
    "hot_standby_feedback": Setting("off"),
    "archive_mode": Setting("off"),
    "archive_command": Setting(""),
    "data_directory": Setting("/data"),
    "config_file": Setting("/data/postgresql.conf"),
    "hba_file": Setting("/data/pg_hba.conf"),
    "ident_file": Setting("/data/pg_ident.conf"),
}
SLOT = SlotFacts("coffer_primary", "physical", False, Lsn(0x1000000), "reserved", 4096, 50 * GIB)


def sound_server(*, settings: dict[str, Setting | None] | None = None, **changes: Any) -> ServerFacts:
    """Return the facts of a server of version 17 on another machine.

    Args:
        settings: Of these, others than usual; None: the role may not see it, or the version has none.
        **changes: Other fields that are different.
    """
    made = ServerFacts(
        label="db1:5432",
        version=170013,
        version_text="17.13",
        is_local=False,
        tls="TLSv1.3",
        role="backup",
        is_superuser=False,
        may_replicate=True,
        is_standby=False,
        settings={name: value for name, value in {**SETTINGS, **(settings or {})}.items() if value is not None},
        slots={SLOT.name: SLOT},
        senders=1,
        wal_bytes_per_s=1024.0,
        archiver=None,
        tablespaces=(),
        databases=(DatabaseFacts("postgres", tables=3),),
        database_names=("audit", "postgres"),
        identity=SystemIdentity(7_000_000_000_000_000_001, 1, Lsn(0x2000000)),
        free_bytes=None,
    )
    return replace(made, **changes)
