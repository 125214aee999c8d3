"""How the engine's errors end a task."""

import logging

import pytest
from airflow.sdk.exceptions import AirflowFailException

from coffer.errors import BackendUnavailableError, WrongKeyError
from coffer_airflow.failures import told_to_airflow

LOG = logging.getLogger("test.failures")


def test_a_permanent_error_fails_at_once(caplog):
    """AirflowFailException, which Airflow does not try again, with code, message and hint; the hint is logged too."""
    with pytest.raises(AirflowFailException) as caught, told_to_airflow(LOG):
        raise WrongKeyError("repository: another key", hint="Look for the other one.")
    assert "wrong-key: repository: another key\nHINT: Look for the other one." == str(caught.value)
    assert ["repository: another key", "HINT: Look for the other one."] == caplog.messages


def test_a_transient_error_is_left_to_airflows_retries(caplog):
    """It passes as it is, so that the task's retry settings count; it is logged with its hint."""
    with pytest.raises(BackendUnavailableError), told_to_airflow(LOG):
        raise BackendUnavailableError("store: no answer")
    assert "store: no answer" == caplog.messages[0]


def test_an_error_of_another_kind_passes():
    """A programmer's error is not dressed up as one of ours."""
    with pytest.raises(ZeroDivisionError), told_to_airflow(LOG):
        raise ZeroDivisionError
