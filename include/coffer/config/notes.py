"""What this version reads but does not act on yet.

The policy has a place for all that Coffer is to do, so that a file need not change later. A block that is valid but has
no effect must not pass for a backup that is made: `policy_notes` says so each time the policy is checked. Whoever makes
a block work takes its line away here.
"""

from __future__ import annotations

from coffer.config.policy import Policy

PENDING: dict[str, str] = {
    "cloud_backup": "nothing is sent to a cloud location",
    "sync_procedures": "nothing is synced",
    "local_backup.locations.<name>.retention": "no snapshot expires; all are kept",
    "checks": "verification always makes all checks that there are",
    "test_procedures": "there is no regular test restore",
    "recovery_plans": "no plan can be run",
    "partial_recovery": "no procedure can be run",
    "metrics": "no history of figures is kept",
    "alert_config": "no alert is sent",
    "encryption.at_rest.key_rotation": "no key is rotated",
    "encryption.in_transit": "the only connections that leave the machine are those to databases, which take TLS 1.3",
    "access_control": "no role is made in Airflow",
    "storage_optimizer": "nothing is optimised afterwards",
    "performance_config.concurrency.network_limit": "databases are read at their own max_rate; nothing else leaves the"
    " machine",
}
"""Key, and what that means. Listed in docs/configuration.md."""


def policy_notes(policy: Policy) -> tuple[str, ...]:
    """Return what someone who reads this policy could wrongly rely on, a line each; empty if nothing.

    Only what was asked for by name is told: a default that has no effect yet misleads nobody.
    """
    asked_for = {
        "cloud_backup": bool(policy.cloud_backup.providers),
        "alert_config": bool(policy.alert_config.channels),
    }
    notes = [f"{key}: not acted on by this version: {PENDING[key]}" for key, asked in asked_for.items() if asked]
    if policy.encryption.at_rest.key_storage == "vault":
        notes.append(
            "encryption.at_rest.key_storage: vault is not supported by this version: use key_file or passphrase"
        )
    return tuple(notes)
