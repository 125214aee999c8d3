"""Checks of what a backup would hold, and what it would leave out."""

from __future__ import annotations

import os

from coffer.sources.postgres.diagnosis import Asked, Diagnosis, bad, care, well
from coffer.sources.postgres.server_facts import ServerFacts
from coffer.units import human_duration

BLOCK_BYTES = 8192
OLDEST_NATIVE_MAJOR = 17
# The last minor versions that were seen to leave changed pages out of native incremental backups, by major version.
# PostgreSQL's own tools restore wrong data from these, and find nothing wrong with it.
LEAKY_MINORS = {17: 12, 18: 6}
_SUMMARIES_NEEDED_S = 8 * 86_400  # from one weekly full backup to the next, and a day
_CONFIG_FILES = ("config_file", "hba_file", "ident_file")


def check_checksums(facts: ServerFacts, asked: Asked) -> Diagnosis:
    """Say whether damage of the server's own disk shows while it is read."""
    if facts.settings["data_checksums"].is_on:
        return well("data_checksums", "on: every page is checked while it is read")
    hint = "Stop the server and run pg_checksums --enable; it reads and writes the whole data folder once."
    if asked.method == "native" and not facts.settings["wal_log_hints"].is_on:
        return bad("data_checksums", "off, and wal_log_hints too: a native incremental can miss changes", hint)
    return care("data_checksums", "off: pages that the server's disk damages are saved as they are", hint)


def check_block_size(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether pages have the size that all but a few builds have."""
    size_bytes = facts.settings["block_size"].number
    if size_bytes == BLOCK_BYTES:
        return well("block_size", f"{size_bytes}")
    return bad(
        "block_size", f"{size_bytes}: only pages of {BLOCK_BYTES} bytes are known", "Take logical backups of this one."
    )


def check_segment_size(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Tell the size of a WAL segment; each that initdb allows will do."""
    return well("wal_segment_size", f"{facts.settings['wal_segment_size'].size_bytes >> 20} MiB")


def check_full_page_writes(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether a page that was read half-written can be mended from WAL."""
    if facts.settings["full_page_writes"].is_on:
        return well("full_page_writes", "on")
    hint = "Set full_page_writes = on; reload."
    if facts.is_standby:
        return bad("full_page_writes", "off: a standby cannot be backed up so", f"On the primary: {hint}")
    return care("full_page_writes", "off: a crash of the server can leave torn pages, which a backup then holds", hint)


def check_native(facts: ServerFacts, asked: Asked) -> Diagnosis | None:
    """Say whether the server can be asked for changed blocks only, where the policy wants that."""
    if asked.method != "native":
        return None
    instead = "Backups compare page by page meanwhile. To say so in the policy: method: delta."
    summarize = facts.settings.get("summarize_wal")
    if summarize is None or facts.major < OLDEST_NATIVE_MAJOR:
        return bad("native", f"version {facts.major} has no incremental backup of its own; 17 is the first", instead)
    if not summarize.is_on:
        return bad("native", "summarize_wal is off: the server does not know what changed", "Set summarize_wal = on.")
    if facts.version % 10000 <= LEAKY_MINORS.get(facts.major, -1):
        hint = "Each one is audited, and pages are compared where it falls short. To save the detour: method: delta."
        return care("native", f"{facts.version_text} is known to leave out changed pages in some cases", hint)
    keep_s = facts.settings["wal_summary_keep_time"].seconds
    if 0 < keep_s < _SUMMARIES_NEEDED_S:
        found = f"wal_summary_keep_time is {human_duration(keep_s)}: summaries since the last full backup may be gone"
        return care("native", found, "Set wal_summary_keep_time = '10d', the default; reload.")
    return well("native", "the server summarises WAL")


def check_config_files(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether the server's own settings are saved: on Debian they lie outside of its data folder."""
    folder = facts.settings.get("data_directory")
    if folder is None:
        return care(
            "config_files",
            f"role {facts.role} may not see where they are; outside of the data folder they are not saved",
            f'GRANT pg_monitor TO "{facts.role}"; and run this again.',
        )
    files = [facts.settings[name].value for name in _CONFIG_FILES if name in facts.settings]
    outside = [file for file in files if file and os.path.commonpath([folder.value, file]) != folder.value]
    if outside:
        return care(
            "config_files",
            f"{', '.join(outside)}: outside of the data folder, so in no backup of it",
            "Back up their folder as a source of file trees, on that machine.",
        )
    return well("config_files", "in the data folder, and saved with it")


def check_tablespaces(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Tell the tablespaces: each is saved, and a restore must be told where to put it."""
    if not facts.tablespaces:
        return well("tablespaces", "none but the server's own")
    named = ", ".join(f"{name} at {place}" for name, place in facts.tablespaces)
    return well("tablespaces", f"{named}: saved; a restore elsewhere maps them")


def check_unlogged(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say which tables come back empty: what is unlogged is in no physical backup."""
    found = [(database.name, database) for database in facts.databases if database.unlogged]
    if not found:
        return well("unlogged_tables", "none")
    count = sum(database.unlogged for _, database in found)
    names = ", ".join(f"{name}.{table}" for name, database in found for table in database.unlogged_names)
    return care(
        "unlogged_tables",
        f"{count} tables come back empty: {names}",
        "If their content matters: ALTER TABLE ... SET LOGGED, or dump them.",
    )


def check_proof(facts: ServerFacts, asked: Asked) -> Diagnosis | None:
    """Say which tables the role cannot read, so that nothing of them can be compared after a restore."""
    if not asked.proves:
        return None
    closed = [database for database in facts.databases if database.failure]
    unreadable = [database for database in facts.databases if database.unreadable]
    hint = f'GRANT pg_read_all_data TO "{facts.role}"; and let it connect to every database in pg_hba.conf.'
    if closed:
        return care("proof", f"database {closed[0].name} cannot be looked into: {closed[0].failure}", hint)
    if unreadable:
        count, whole = (sum(getattr(one, name) for one in facts.databases) for name in ("unreadable", "tables"))
        names = ", ".join(database.name for database in unreadable)
        return care("proof", f"{count} of {whole} tables cannot be read (in {names}): they are not proved", hint)
    return well("proof", f"all {sum(database.tables for database in facts.databases)} tables can be read")


def check_standby(facts: ServerFacts, asked: Asked) -> Diagnosis:
    """Tell whether it is a standby, and whether replay there would break off the queries of the proof."""
    if not facts.is_standby:
        return well("standby", "no, a primary")
    delay_s = facts.settings["max_standby_streaming_delay"].seconds
    patient = delay_s < 0 or facts.settings["hot_standby_feedback"].is_on
    if asked.proves and not patient:
        return care(
            "standby",
            f"a standby, where replay breaks off queries after {human_duration(delay_s)}: the proof may lack tables",
            "Set hot_standby_feedback = on there, or a longer max_standby_streaming_delay; reload.",
        )
    return well("standby", "yes: the backup spares the primary")
