"""Rules about text: ignores carry reasons, links lead somewhere, nothing names the machine it was written on."""

import re
import tokenize

import pytest

from tests.architecture.sources import PRODUCTION, ROOT, label, project_files, python_files, text_files

IGNORE = re.compile(r"#\s*(noqa|type:\s*ignore|pragma:\s*no cover|nosec)")
REASONED = re.compile(r"#\s*(noqa: [A-Z0-9, ]+|type: ignore\[[a-z, -]+\]|pragma: no (cover|branch))\s*(-|#)\s*\w+")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def unreasoned(text):
    """The ignore comments of a Python text that do not say why."""
    lines = iter(text.splitlines(keepends=True))
    comments = [
        token.string for token in tokenize.generate_tokens(lambda: next(lines, "")) if token.type == tokenize.COMMENT
    ]
    return [comment for comment in comments if IGNORE.search(comment) and not REASONED.search(comment)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x = 1  # noqa: S105 - the word is a key's name\n", 0),
        ("x = 1  # type: ignore[arg-type]  # the stub lacks the argument\n", 0),
        ("x = 1  # noqa: S105\n", 1),
        ("x = 1  # noqa\n", 1),
        ("x = 1  # type: ignore[arg-type]\n", 1),
        ("x = 1  # pragma: no cover\n", 1),
        ("x = '# noqa'\n", 0),
    ],
)
def test_the_rule_for_ignores_finds_what_it_should(line, expected):
    """A reason follows after a dash or in a comment of its own."""
    assert expected == len(unreasoned(line))


def test_every_ignore_carries_its_reason():
    """Whoever reads an ignore learns why it is safe."""
    files = python_files(*PRODUCTION, "tests")
    found = {label(path): bad for path in files if (bad := unreasoned(path.read_text(encoding="utf-8")))}
    assert found == {}


def test_links_in_the_documentation_lead_somewhere():
    """Every relative link in a Markdown file names a file of the project."""
    found = []
    pages = [path for path in project_files() if path.suffix == ".md"]
    assert len(pages) > 5
    for path in pages:
        targets = [target for target in LINK.findall(path.read_text(encoding="utf-8")) if ":" not in target]
        found += [f"{label(path)}: {target}" for target in targets if not (path.parent / target).exists()]
    assert found == []


def test_no_file_names_the_folder_it_was_written_in():
    """The project can lie anywhere: no file holds its absolute path, nor a home folder."""
    home = re.compile(r"(?<![\w.])/(home|Users|root)/\w+")
    found = [
        f"{label(path)}: {match.group() if (match := home.search(text)) else ROOT}"
        for path, text in text_files()
        if str(ROOT) in text or home.search(text)
    ]
    assert found == []


def test_the_documentation_names_only_targets_that_exist():
    """Each `make x` in a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        (label(path), quoted or shown)
        for path in project_files()
        if path.suffix == ".md"
        for quoted, shown in re.findall(
            r"`make ([a-z-]+)[^`\n]*`|^\s*make ([a-z-]+)\s*$", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert ("README.md", "test") in named
    assert {(page, target) for page, target in named if target not in targets} == set()


def test_the_build_runs_the_command_of_the_readme():
    """.ci/run calls make check and the README's own test command, and stops at the first failure."""
    build = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in build
    assert ["check", "test"] == re.findall(r"^make ([a-z-]+)", build, re.MULTILINE)
