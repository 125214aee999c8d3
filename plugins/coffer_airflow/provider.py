"""What the installed package tells Airflow: the connection type `coffer` and its form.

Airflow finds `get_provider_info` by the entry point ``apache_airflow_provider`` in pyproject.toml, and draws the form
from this description alone, without importing the hook.
"""

from __future__ import annotations

from typing import Any

CONNECTION_TYPE = "coffer"


def get_provider_info() -> dict[str, Any]:
    """Return the description, in the form of airflow/provider_info.schema.json."""
    return {
        "package-name": "coffer",  # must be the name of the installed distribution
        "name": "Coffer",
        "description": "Encrypted, deduplicated backups, proved by restoring them.",
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-name": "Coffer repository",
                "hook-class-name": "coffer_airflow.hooks.repository.RepositoryHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port", "login"],
                    "relabeling": {"host": "Repository folder", "password": "Passphrase"},
                    "placeholders": {
                        "host": "/backups/primary (empty: a location of the policy)",
                        "password": "empty: a key file",
                    },
                },
                "conn-fields": {
                    "location": {
                        "label": "Location of the policy",
                        "description": "Instead of a folder: the name of a location in config/coffer.yaml. If both are"
                        " empty, its first location.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "key_file": {
                        "label": "Key file",
                        "description": "The file, on the workers, that 'coffer init' wrote. If this and the passphrase"
                        " are empty, the key that the policy names.",
                        "schema": {"type": ["string", "null"]},
                    },
                },
            }
        ],
    }
