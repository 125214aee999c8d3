"""From what the policy says of a database's password to the password. Importing it loads no pydantic."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from coffer.config.unlocking import read_passphrase_file
from coffer.errors import KeyFileError, UsageError

if TYPE_CHECKING:
    from coffer.config.databases import DatabaseCluster


def cluster_password(cluster: DatabaseCluster) -> str | None:
    """Return the password that the policy refers to, or None where it leaves that to libpq.

    Raises:
        UsageError: The variable that it names is not set, or the file cannot be used; never with the password.
    """
    server, key = cluster.server, f"database_servers.{cluster.source}"
    if server.password_env is not None:
        password = os.environ.get(server.password_env)
        if not password:
            raise UsageError(
                f"{key}.password_env: the variable {server.password_env} is not set",
                hint="Set it where this runs, or name a file by password_file.",
            )
        return password
    if server.password_file is None:
        return None
    try:
        return read_passphrase_file(server.password_file, what="password")
    except KeyFileError as error:
        raise UsageError(f"{key}: {error}", hint=error.hint) from None
