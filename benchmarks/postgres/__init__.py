"""Coffer's PostgreSQL figures beside those of pg_basebackup, pgBackRest and Barman."""
