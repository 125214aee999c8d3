"""Coffer's engine: encrypted, deduplicated backups that are proved by restoring them.

The engine imports no Airflow and is usable from a plain script: a restore needs only the store, the key and Python.
"""

__version__ = "0.1.0.dev0"
