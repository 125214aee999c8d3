"""Where the keys and the state of the repositories lie on this machine. Secrets themselves are never in the policy."""

from __future__ import annotations

from coffer.config.base import PolicyModel
from coffer.config.values import AbsolutePath, EnvName, written


class RepositorySettings(PolicyModel):
    """References to the key, and the folder for state. `encryption.at_rest.key_storage` says which reference counts."""

    key_file: AbsolutePath = written("var/keys/coffer.key")
    """File with the key, mode 0600, for key_storage `key_file`; `coffer init` writes it. Keep a copy elsewhere."""
    passphrase_env: EnvName | None = None
    """Environment variable that holds the passphrase, for key_storage `passphrase`."""
    passphrase_file: AbsolutePath | None = None
    """File whose first line is the passphrase, mode 0600, for key_storage `passphrase`."""
    state_dir: AbsolutePath = written("var/state")
    """Folder for caches and the remembered snapshot heads; caches can be rebuilt."""
