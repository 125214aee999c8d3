"""Encryption at rest and in transit, and who may do what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from coffer.config.base import PolicyModel
from coffer.config.values import ONCE, SOME, Name, Rotation, written

KeyStorage = Literal["key_file", "passphrase", "vault"]
CipherSuite = Literal["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
Permission = Literal[
    "manage_backups", "initiate_backup", "initiate_restore", "view_backups", "view_reports", "view_logs"
]


class AtRest(PolicyModel):
    """Encryption of everything that is stored."""

    algorithm: Literal["AES-256-GCM"] = "AES-256-GCM"
    """The only algorithm of the repository format."""
    key_rotation: Rotation = written("90d")
    """How long one epoch's key is used."""
    key_storage: KeyStorage = "key_file"
    """Where the key that wraps all others comes from; see `repository`."""


class InTransit(PolicyModel):
    """Encryption of every connection that leaves the machine."""

    protocol: Literal["TLS1.3"] = "TLS1.3"
    """The only protocol; a server that offers less is refused."""
    cipher_suites: Annotated[tuple[CipherSuite, ...], SOME, ONCE] = (
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    )
    """The cipher suites that are offered."""


class Encryption(PolicyModel):
    """Encryption at rest and in transit."""

    at_rest: AtRest = written({})
    """What is stored."""
    in_transit: InTransit = written({})
    """What is sent."""


class Role(PolicyModel):
    """What the holders of a role may do; everything else is refused."""

    permissions: Annotated[tuple[Permission, ...], SOME, ONCE]
    """What they may do."""


class AccessControl(PolicyModel):
    """The roles."""

    roles: Mapping[Name, Role] = written(
        {
            "backup_admin": {"permissions": ["manage_backups", "initiate_restore", "view_reports"]},
            "backup_operator": {"permissions": ["view_backups", "initiate_backup", "view_reports"]},
            "auditor": {"permissions": ["view_reports", "view_logs"]},
        }
    )
    """The roles by name."""
