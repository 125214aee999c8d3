"""Hooks: from an Airflow connection to an open repository, and to a PostgreSQL cluster."""

from coffer_airflow.hooks.cluster import ClusterHook
from coffer_airflow.hooks.repository import RepositoryHook

__all__ = ["ClusterHook", "RepositoryHook"]
