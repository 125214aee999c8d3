"""What the operators share: the open repository, progress in the log, the end by a kill, and how errors are told."""

from __future__ import annotations

import _thread
import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from coffer.memory import tune_process
from coffer.progress import Progress
from coffer.repository.repository import Repository
from coffer_airflow.failures import told_to_airflow
from coffer_airflow.hooks.repository import DEFAULT_CONN_ID, RepositoryHook
from coffer_airflow.progress_log import ProgressLog

if TYPE_CHECKING:
    from airflow.sdk import Context

Result = dict[str, Any]


class RepositoryOperator(BaseOperator):
    """Base of the operators. A subclass says in `work` what is done with the open repository.

    What `work` returns becomes the task's XCom: ids, counts and sizes, never a key or content.

    Args:
        coffer_conn_id: The connection; `coffer_default` need not exist (then the policy says it all).
        location: Name of a location of the policy, instead of what the connection or the policy's order says.
        **kwargs: Airflow's own.
    """

    template_fields: Sequence[str] = ("coffer_conn_id", "location")
    ui_color = "#e8f0ec"

    def __init__(self, *, coffer_conn_id: str = DEFAULT_CONN_ID, location: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.coffer_conn_id = coffer_conn_id
        self.location = location

    def execute(self, context: Context) -> Result:
        """Open the repository and do the work.

        Raises:
            AirflowFailException: The work failed for good; no further try.
            TransientError: It failed for now.
        """
        tune_process()  # a task has a process of its own, which ends with it
        hook = RepositoryHook(self.coffer_conn_id, location=self.location)
        progress = Progress()
        with told_to_airflow(self.log), hook.opened(self._stop) as repo, ProgressLog(self.log, progress):
            return self.work(repo, hook, progress, context)

    @abstractmethod
    def work(self, repo: Repository, hook: RepositoryHook, progress: Progress, context: Context) -> Result:
        """Do the work; `self._stop` is set when it is to end early."""

    def on_kill(self) -> None:
        """Ask the work to end: it stores a checkpoint and raises `InterruptedRunError`.

        Airflow calls this from a signal handler, and kills the process 5 s later. The event is set on another thread,
        since the interrupted code may hold the event's own lock just now.
        """
        _thread.start_new_thread(self._stop.set, ())

    @property
    def _stop(self) -> threading.Event:
        # Made late: Airflow copies operators, and an event cannot be copied. setdefault is one step, so a kill that
        # comes between two lines of the work finds the same event.
        event: threading.Event = self.__dict__.setdefault("_stop_event", threading.Event())
        return event
