"""The pages that are made from the code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.harness.programs import PROJECT

GENERATORS = sorted(path.name for path in (PROJECT / "scripts").glob("generate_*.py"))


def test_make_docs_writes_every_generated_page():
    """A generator that `make docs` does not run leaves a page that says how things were."""
    planned = subprocess.run(["make", "-n", "docs"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert len(GENERATORS) >= 3
    assert [] == [name for name in GENERATORS if f"scripts/{name}" not in planned]


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generated_page_is_up_to_date(name):
    """`--check` of each generator finds nothing to write."""
    done = subprocess.run(
        [sys.executable, PROJECT / "scripts" / name, "--check"], capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
