"""What is said of a run that is not done by its deadline. Airflow also lists it under Browse > Deadlines."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)


async def say_overdue(context: Mapping[str, Any], **_: Any) -> None:
    """Log that a run missed its deadline; runs in the triggerer.

    Args:
        context: Airflow's, of a deadline: ``dag_run`` and ``deadline``.
        **_: What a later Airflow adds.
    """
    run = context.get("dag_run") or {}
    log.error("run %s of %s is not done by its deadline", run.get("dag_run_id"), run.get("dag_id"))
