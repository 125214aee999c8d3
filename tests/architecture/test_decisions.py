"""The decision records: each has the whole form, and the list names each."""

import re

import pytest

from tests.architecture.sources import ROOT, project_files

FOLDER = ROOT / "docs" / "adr"
RECORDS = [path for path in project_files() if path.parent == FOLDER and path.name != "README.md"]
SECTIONS = ["Status", "Context", "Decision", "Consequences", "A change violates this decision when it"]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_has_the_whole_form(path):
    """Number and title agree with the file's name; the five sections are there, in order; the list of violations is a list."""
    text = path.read_text(encoding="utf-8")
    number = path.name[:4]
    assert re.match(rf"# {number}\. \S", text)
    assert SECTIONS == re.findall(r"^## (.+?)(?:\.\.\.|…)?$", text, re.MULTILINE)
    assert re.search(r"^- ", text.split("## A change violates this decision")[1], re.MULTILINE)


def test_records_are_numbered_without_a_gap():
    """0001, 0002, ...: two branches that take the same number are noticed."""
    assert [f"{n + 1:04}" for n in range(len(RECORDS))] == [path.name[:4] for path in RECORDS]


def test_the_list_names_every_record_with_its_title():
    """docs/adr/README.md links each record under its own title."""
    listed = re.findall(r"^- \[(.+)\]\((.+)\)$", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    titles = [(path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# "), path.name) for path in RECORDS]
    assert titles == listed
