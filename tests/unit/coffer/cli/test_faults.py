"""A fault: one line, one hint, and the code that scripts act on."""

from __future__ import annotations

import pytest

from coffer.cli import faults
from coffer.errors import BackendFullError, CofferError, PolicyInvalidError, SnapshotNotFoundError, WrongKeyError


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (WrongKeyError("x"), 1),
        (BackendFullError("x"), 1),
        (SnapshotNotFoundError("x"), 2),
        (PolicyInvalidError("x"), 2),
    ],
)
def test_usage_errors_end_with_2_and_all_others_with_1(error, exit_code):
    """The class decides."""
    assert exit_code == faults.fault_of(error).exit_code


def test_message_and_hint_are_escaped():
    """A path in an error may hold anything, and must not reach the terminal as it is."""
    fault = faults.fault_of(CofferError("path /a\x1b]0;x\x07\nb: gone", hint="chmod /a\nb"))
    assert ("path /a\\x1b]0;x\\x07\\nb: gone", "chmod /a\\nb") == (fault.message, fault.hint)


def test_the_mistakes_of_a_policy_keep_their_lines():
    """They come in several lines; each is escaped for itself."""
    assert (
        "policy p: 1 mistake\n  p:1:1: x\\x07"
        == faults.fault_of(PolicyInvalidError("policy p: 1 mistake\n  p:1:1: x\x07")).message
    )


def test_a_fault_without_a_hint_shows_one_line(capsys):
    """No empty HINT is shown."""
    faults.Fault("internal", "broken", "").show()
    assert "coffer: broken\n" == capsys.readouterr().err
