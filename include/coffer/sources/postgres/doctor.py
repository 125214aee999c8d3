"""Look at a server before it is backed up: one check after another, each with what to do. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coffer.errors import CofferError
from coffer.errors_postgres import PostgresVersionError
from coffer.sources.postgres.connection import PostgresConnection
from coffer.sources.postgres.diagnosis import Asked, Diagnosis, Verdict, bad, well
from coffer.sources.postgres.doctor_access import (
    check_databases,
    check_replication,
    check_role,
    check_tls,
    check_version,
)
from coffer.sources.postgres.doctor_content import (
    check_block_size,
    check_checksums,
    check_config_files,
    check_full_page_writes,
    check_native,
    check_proof,
    check_segment_size,
    check_standby,
    check_tablespaces,
    check_unlogged,
)
from coffer.sources.postgres.doctor_wal import (
    check_archiver,
    check_idle_timeout,
    check_keep_size,
    check_replication_slots,
    check_sender_timeout,
    check_slot,
    check_wal_level,
    check_wal_senders,
)
from coffer.sources.postgres.server_facts import ServerFacts, server_facts

CHECKS: tuple[Callable[[ServerFacts, Asked], Diagnosis | None], ...] = (
    # the way to the server
    check_version,
    check_tls,
    check_role,
    check_replication,
    check_databases,
    # WAL
    check_wal_level,
    check_wal_senders,
    check_replication_slots,
    check_slot,
    check_keep_size,
    check_sender_timeout,
    check_idle_timeout,
    check_archiver,
    # what a backup holds
    check_standby,
    check_checksums,
    check_full_page_writes,
    check_block_size,
    check_segment_size,
    check_native,
    check_config_files,
    check_tablespaces,
    check_unlogged,
    check_proof,
)


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found.

    Attributes:
        label: The server's name.
        diagnoses: One for each check, in a fixed order; a check that does not concern this server has none.
        facts: What they were made from; None where the server did not let us in.
    """

    label: str
    diagnoses: tuple[Diagnosis, ...]
    facts: ServerFacts | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of them."""
        return max((diagnosis.verdict for diagnosis in self.diagnoses), key=lambda verdict: verdict.weight)


def examine(target: PostgresConnection, asked: Asked) -> Examination:
    """Make all checks of a server. A server that cannot be reached is a finding and no error."""
    try:
        facts = server_facts(target)
    except PostgresVersionError as error:
        return Examination(target.label, (well("reachable", target.label), bad("version", str(error), error.hint)))
    except CofferError as error:
        return Examination(target.label, (bad("reachable", str(error), error.hint),))
    found = [well("reachable", target.label), *(check(facts, asked) for check in CHECKS)]
    return Examination(target.label, tuple(diagnosis for diagnosis in found if diagnosis is not None), facts)
