"""Coffer's Airflow side: operators, hooks and notifiers over the engine in `coffer`."""
