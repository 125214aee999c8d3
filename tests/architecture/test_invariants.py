"""docs/invariants.md: every invariant has a test that exists."""

import ast
import re

import pytest

from tests.architecture.sources import ROOT, cases_in, tree

PAGE = ROOT / "docs" / "invariants.md"
ROWS = re.findall(r"^\| \*\*(I\d+)\*\* \| (.+) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
WITH_RETENTION = ("I4", "I10")


def test_the_invariants_are_numbered_without_a_gap():
    """I1 to I12, each once, in order."""
    assert [f"I{n}" for n in range(1, 13)] == [number for number, _, _ in ROWS]


@pytest.mark.parametrize(("number", "promise", "guards"), ROWS, ids=[number for number, _, _ in ROWS])
def test_every_invariant_names_tests_that_exist(number, promise, guards):
    """The third column names at least one test as `path::name`; each is a test function with a docstring."""
    if number in WITH_RETENTION and guards == "with retention":
        return
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", guards)
    assert named, f"{number} ({promise[:40]}...) names no test"
    for path, name in named:
        cases = {case.name: case for case in cases_in(tree(ROOT / path))}
        assert name in cases, f"{number}: {path} has no {name}"
        assert ast.get_docstring(cases[name])


def test_what_comes_with_retention_cannot_be_broken_yet():
    """I4 and I10 need no test while nothing deletes: the engine has neither prune nor retention."""
    if any(guards == "with retention" for _, _, guards in ROWS):
        engine = ROOT / "include" / "coffer"
        assert [] == [name for name in ("retention", "repository/prune.py") if (engine / name).exists()]
