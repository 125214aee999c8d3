"""Tells Airflow that Coffer is here: the one file below plugins/ that Airflow runs by itself (see .airflowignore).

Operators, hook and connection type need no registration by a plugin: DAGs import them from `coffer_airflow`, and the
connection type comes with the installed package (`coffer_airflow.provider`). What only a plugin can add to Airflow
(pages, links, listeners) is named here.
"""

from airflow.plugins_manager import AirflowPlugin


class CofferPlugin(AirflowPlugin):
    """Coffer, as Admin > Plugins shows it."""

    name = "coffer"
