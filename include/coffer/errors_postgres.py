"""The part of the error tree that is about PostgreSQL; its root is in errors.py.

TransientError
├─ PostgresUnavailableError            the server does not answer, or not just now
├─ PostgresSlotBusyError               somebody else reads from the slot
└─ PostgresBackupRunningError          another backup of the cluster runs
SourceError
└─ PostgresError                       the server refused
   ├─ PostgresAuthError                the password or the role is wrong
   ├─ PostgresReplicationDeniedError   the role may not replicate
   ├─ PostgresHbaError                 pg_hba.conf has no line for this connection
   ├─ PostgresVersionError             older than the oldest version that is supported
   ├─ PostgresSettingError             a setting of the server is in the way
   ├─ PostgresSlotLostError            the slot is gone or was invalidated
   ├─ WalGapError                      WAL was removed before it was saved
   ├─ WalConflictError                 the archive holds other bytes of this place
   ├─ PostgresIncrementalRefusedError  a native incremental backup is not possible
   │  └─ PostgresIncrementalAuditError one came, and blocks that must be in it are not
   ├─ PostgresSystemChangedError       another cluster answers at this address
   └─ PostgresTimelineError            the cluster's history is not the one that was saved
RestoreError
├─ RestorePointError                   the moment asked for cannot be restored
└─ ScratchServerError                  a server cannot be run on a restored cluster
"""

from __future__ import annotations

from coffer.errors import RestoreError, SourceError, TransientError


class PostgresUnavailableError(TransientError):
    """Raised when a server does not answer, is starting or stopping, has no connection left, or broke one off."""

    code = "pg-conn"
    default_hint = "Is the server running, and do host and port lead to it? Run the backup again."


class PostgresSlotBusyError(TransientError):
    """Raised when another process reads from the replication slot; nothing was read."""

    code = "pg-slot-busy"
    default_hint = "Is another run of this backup receiving WAL? Wait for it, or give each its own slot."


class PostgresBackupRunningError(TransientError):
    """Raised when another backup of this cluster is running; nothing was read."""

    code = "pg-backup-running"
    default_hint = "Wait until it has ended: the lock ends with its connection. pg_stat_activity shows it as 'coffer'."


class PostgresError(SourceError):
    """Base of what a PostgreSQL server can refuse for good."""

    code = "pg"
    default_hint = "Look at the server's own log; the message holds its words."


class PostgresAuthError(PostgresError):
    """Raised when the server does not accept the role or its password; nothing was read."""

    code = "pg-auth"
    default_hint = "Check user and password of the connection, and that the role has LOGIN."


class PostgresReplicationDeniedError(PostgresError):
    """Raised when the role may not replicate; nothing was read."""

    code = "pg-no-replication"
    default_hint = "Run as a superuser of the server: ALTER ROLE ... REPLICATION."


class PostgresHbaError(PostgresError):
    """Raised when pg_hba.conf of the server has no line that lets this connection in; nothing was read."""

    code = "pg-hba"
    default_hint = "Add a line to pg_hba.conf: host replication <user> <address of this machine>/32 scram-sha-256."


class PostgresVersionError(PostgresError):
    """Raised when the server is too old for what was asked; nothing was read."""

    code = "pg-version"
    default_hint = "Physical backups need PostgreSQL 15 or newer. Take logical backups of this server, or upgrade it."


class PostgresSettingError(PostgresError):
    """Raised when a setting of the server is in the way; the message names it."""

    code = "pg-setting"
    default_hint = "Change the setting that the message names; 'SHOW <name>' tells its value."


class PostgresSlotLostError(PostgresError):
    """Raised when the replication slot does not exist, or the server gave up its WAL."""

    code = "pg-slot-lost"
    default_hint = "A new slot and a full backup are needed. Raise max_slot_wal_keep_size, or save WAL more often."


class WalGapError(PostgresError):
    """Raised when WAL was removed from the server before it was saved; what was saved before stays usable."""

    code = "pg-wal-gap"
    default_hint = (
        "Take a full backup now: points in time inside the gap cannot be restored. Was max_slot_wal_keep_size too low?"
    )


class WalConflictError(PostgresError):
    """Raised when the archive holds other bytes of a place in the log; nothing was written, and what it holds stays."""

    code = "pg-wal-conflict"
    default_hint = (
        "Do two servers write to the archive of one source, such as a test restore that archives? Switch that off, or "
        "give each server a source name of its own."
    )


class PostgresIncrementalRefusedError(PostgresError):
    """Raised when the server cannot make a native incremental backup; nothing was read."""

    code = "pg-incr-refused"
    default_hint = "Compare page by page instead: it needs no help of the server and gives the same snapshot."


class PostgresIncrementalAuditError(PostgresIncrementalRefusedError):
    """Raised when a native incremental backup lacks blocks that the server's own summaries of its WAL name."""

    code = "pg-incr-audit"
    default_hint = "The server sent too little: a defect of some minor versions. Compare page by page instead."


class PostgresSystemChangedError(PostgresError):
    """Raised when the system identifier is not that of the cluster that was backed up before; nothing was read."""

    code = "pg-sysid-changed"
    default_hint = "Was the server made anew or upgraded by pg_upgrade? Give the new cluster a source name of its own."


class PostgresTimelineError(PostgresError):
    """Raised when the server's timelines do not lead on from what was saved; nothing was read."""

    code = "pg-timeline"
    default_hint = "Was the server restored to an earlier moment, or another standby promoted? Take a full backup."


class RestorePointError(RestoreError):
    """Raised when no snapshot and no saved WAL lead to the moment asked for; nothing was written."""

    code = "pg-target-range"
    default_hint = "Run 'coffer pg points' to see what can be restored, and name a moment within it."


class ScratchServerError(RestoreError):
    """Raised when a server cannot be run on a restored cluster; the scratch folder is removed."""

    code = "pg-scratch"
    default_hint = (
        "The message holds the server's own words. Is there room, and is the scratch folder open to its user?"
    )
