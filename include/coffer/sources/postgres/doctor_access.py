"""Checks of the way to the server: is it the right version, encrypted, and does it let a backup in."""

from __future__ import annotations

from coffer.errors import CofferError
from coffer.errors_postgres import PostgresHbaError
from coffer.sources.postgres.diagnosis import Asked, Diagnosis, bad, care, well
from coffer.sources.postgres.server_facts import ServerFacts

NEWEST_MAJOR = 18  # that was tried
_TLS = "TLSv1.3"


def check_version(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether the server's version is one that was tried; older ones did not let us come this far."""
    if facts.major > NEWEST_MAJOR:
        return care(
            "version", f"{facts.version_text} is newer than any that was tried", "Prove a backup of it by a restore."
        )
    return well("version", f"PostgreSQL {facts.version_text}")


def check_tls(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether what comes from the server can be read on its way."""
    if facts.tls == _TLS:
        return well("tls", facts.tls)
    if facts.is_local:
        return well("tls", f"{facts.tls or 'none'}, and the bytes stay on this machine")
    return bad(
        "tls",
        f"the connection has {facts.tls or 'no TLS'}: the whole database can be read on its way",
        "Set ssl = on on the server, with a certificate, and take sslmode out of the connection, or make it require.",
    )


def check_role(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether the role may replicate, and whether it may more than it needs."""
    if not facts.may_replicate:
        return bad(
            "role",
            f"role {facts.role} has no REPLICATION",
            f'As a superuser of the server: ALTER ROLE "{facts.role}" REPLICATION;',
        )
    if facts.is_superuser:
        return care(
            "role",
            f"role {facts.role} is a superuser: whoever has its password has the server",
            "A role with LOGIN and REPLICATION, and GRANT pg_monitor and pg_read_all_data to it, is enough.",
        )
    return well("role", f"role {facts.role} has REPLICATION")


def check_replication(facts: ServerFacts, asked: Asked) -> Diagnosis:  # noqa: ARG001 - every check is handed both
    """Say whether a replication connection is let in: pg_hba.conf has lines of their own for these."""
    answer = facts.identity
    if not isinstance(answer, CofferError):
        return well("replication", f"let in; system identifier {answer.system_id}, timeline {answer.timeline}")
    hint = answer.hint
    if isinstance(answer, PostgresHbaError):
        kind = "local" if facts.label.startswith("/") else "host"
        address = "" if kind == "local" else " <address of this machine>/32"
        hint = f"Add to pg_hba.conf, and reload: {kind} replication {facts.role}{address} scram-sha-256"
    return bad("replication", str(answer), hint)


def check_databases(facts: ServerFacts, asked: Asked) -> Diagnosis:
    """Say whether the databases of the policy exist. All are saved; a name that is not there is a mistake somewhere."""
    missing = [name for name in asked.dbnames if name not in facts.database_names]
    if missing:
        there = ", ".join(facts.database_names[:10])
        return bad(
            "databases", f"there is no database {', '.join(missing)}", f"Is this the right server? It has {there}."
        )
    return well("databases", f"{len(facts.database_names)} databases, those asked for among them")
