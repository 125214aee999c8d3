"""The reference page says what the models say."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from coffer.config.describe import walk
from coffer.config.notes import PENDING
from coffer.config.policy import Policy

PROJECT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def generator():
    """The script that makes the page, as a module."""
    spec = importlib.util.spec_from_file_location("generate", PROJECT / "scripts" / "generate_configuration_md.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PROJECT / "scripts")  # as for a script that is run
        spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_models_say(generator):
    """docs/configuration.md equals what the script makes now."""
    assert generator.render() == (PROJECT / "docs" / "configuration.md").read_text()


def test_every_key_has_a_line_with_a_meaning(generator):
    """Each key of the policy has its line, and no cell of it is empty."""
    page = generator.render()
    rows = dict(re.findall(r"(?m)^\| `([^`]+)` (\|.*\|)$", page))
    keys = {entry.key for entry in walk(Policy)}
    tops = {key for key in keys if "." not in key and "[" not in key}
    assert keys - set(rows) <= tops
    assert tops == set(re.findall(r"(?m)^## (\w+)$", page)) - {"What"}
    assert all(cell.strip() for row in rows.values() for cell in row.strip("|").split(" | "))


def test_the_page_says_that_the_limit_is_of_the_store_alone(generator):
    """`io_limit` paces what passes to and from the location; nobody must think that the source is spared."""
    (row,) = re.findall(r"(?m)^\| `performance_config.concurrency.io_limit` .*$", generator.render())
    assert "source itself is read is not limited" in row
    assert "read from sources" not in row


def test_every_attribute_of_every_model_has_a_docstring(generator):
    """No key is without a meaning in the source."""
    missing = [entry.key for entry in walk(Policy) if entry.name not in generator.attribute_docstrings(entry.model)]
    assert [] == missing


def test_what_has_no_effect_yet_names_real_keys():
    """Each key of the list of what this version does not act on is a key of the policy."""
    assert set(PENDING) <= {entry.key for entry in walk(Policy)}


def test_check_finds_a_page_that_is_out_of_date(generator, tmp_path, monkeypatch, capsys):
    """--check compares and rewrites nothing; without it the page is written."""
    target = tmp_path / "configuration.md"
    target.write_text("old")
    monkeypatch.setattr(sys.modules[generator.write_or_compare.__module__], "_DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert (1, "old") == (generator.main(), target.read_text())
    assert "HINT: run make docs" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["generate"])
    assert (0, generator.render()) == (generator.main(), target.read_text())
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert 0 == generator.main()
