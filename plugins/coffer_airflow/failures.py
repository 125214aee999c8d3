"""How an error of the engine ends a task: a permanent one at once, a transient one is left to Airflow's retries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

from coffer.errors import CofferError

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


@contextmanager
def told_to_airflow(log: Logger | logging.Logger) -> Iterator[None]:
    """Log the message and the hint of an error of the engine, and raise what Airflow acts upon.

    Raises:
        AirflowFailException: For a permanent error. Airflow makes no further try: it would end the same way.
        TransientError: As it is. Airflow tries again, with the pauses of the task's retry settings.
    """
    try:
        yield
    except CofferError as error:
        log.error("%s", error)  # noqa: TRY400 - a traceback explains nothing of a wrong key or a full disk
        log.error("HINT: %s", error.hint)  # noqa: TRY400 - as above
        if error.transient:
            raise
        raise AirflowFailException(f"{error.code}: {error}\nHINT: {error.hint}") from None
