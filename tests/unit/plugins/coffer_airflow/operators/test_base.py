"""What all operators share: their arguments, their names, their end by a kill."""

import copy
import inspect
import threading

import pytest

from coffer_airflow import operators
from coffer_airflow.operators import (
    DatabaseBackupOperator,
    DatabaseDrillOperator,
    DatabaseDumpOperator,
    RestoreOperator,
    SnapshotOperator,
    VerifyOperator,
    WalDrainOperator,
)

MADE = {
    SnapshotOperator: {"source": "docs"},
    VerifyOperator: {},
    RestoreOperator: {"snapshot": "latest", "target": "/restored"},
    DatabaseBackupOperator: {"source": "primary"},
    DatabaseDrillOperator: {"source": "primary"},
    DatabaseDumpOperator: {"source": "primary"},
    WalDrainOperator: {"source": "primary"},
}
CLASSES = list(MADE)


def made(cls, **more):
    """One operator."""
    return cls(task_id="task", **MADE[cls], **more)


def test_every_operator_is_tried_here():
    """The list above is what the package exports."""
    assert set(operators.__all__) == {cls.__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_a_class_has_one_spelling(cls):
    """It is known as coffer_airflow.operators..., not under a second name that Airflow's loader would make."""
    assert cls.__module__.startswith("coffer_airflow.operators.")


@pytest.mark.parametrize("cls", CLASSES)
def test_template_fields_are_arguments_kept_as_they_are(cls):
    """Each is an argument of the constructor and an attribute of the same name and value: Airflow renders it later."""
    arguments = {
        name
        for base in cls.__mro__
        if base.__module__.startswith("coffer_airflow")
        for name in inspect.signature(base.__init__).parameters
    }
    assert set(cls.template_fields) <= arguments
    values = {name: f"{{{{ params.{name} }}}}" for name in cls.template_fields}
    operator = cls(task_id="task", **values)
    assert values == {name: getattr(operator, name) for name in cls.template_fields}


@pytest.mark.parametrize("cls", CLASSES)
def test_template_fields_are_rendered(cls):
    """A value from the run's form reaches the work."""
    operator = cls(task_id="task", **dict.fromkeys(cls.template_fields, "{{ params.x }}"))
    operator.render_template_fields({"params": {"x": "rendered"}})
    assert dict.fromkeys(cls.template_fields, "rendered") == {
        name: getattr(operator, name) for name in cls.template_fields
    }


@pytest.mark.parametrize("cls", CLASSES)
def test_an_operator_can_be_copied(cls):
    """Airflow copies tasks when it parses and maps; a copy has a stop of its own."""
    operator = made(cls)
    copied = copy.deepcopy(operator)
    operator.on_kill()
    assert operator._stop.wait(5)
    assert not copied._stop.is_set()


@pytest.mark.parametrize("cls", CLASSES)
def test_a_kill_that_comes_early_is_heeded(cls, installation):
    """on_kill before the work has begun: the event that the work watches is set already."""
    operator = made(cls)
    operator.on_kill()
    assert operator._stop.wait(5)


def test_a_kill_does_not_wait_for_the_events_lock():
    """on_kill runs in a signal handler: it returns although the interrupted code holds the event's lock."""
    operator = made(SnapshotOperator)
    stop = operator._stop
    returned = threading.Event()
    with stop._cond:
        handler = threading.Thread(target=lambda: (operator.on_kill(), returned.set()), daemon=True)
        handler.start()
        assert returned.wait(5)
        assert not stop.is_set()
    assert stop.wait(5)
