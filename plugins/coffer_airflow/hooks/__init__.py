"""Hooks: from an Airflow connection to an open repository."""

from coffer_airflow.hooks.repository import RepositoryHook

__all__ = ["RepositoryHook"]
