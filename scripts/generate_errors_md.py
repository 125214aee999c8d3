"""Write docs/errors.md from the error tree; with `--check`, only compare and fail when it is out of date."""

from __future__ import annotations

import inspect
import sys

from generated_page import write_or_compare

from coffer import errors
from coffer import errors_postgres as _errors_postgres  # noqa: F401 - its classes join the tree

HEAD = """# Errors

Made by `make docs` from `include/coffer/errors.py` and `errors_postgres.py`; do not edit.

Everything that Coffer raises on purpose is a `CofferError`. Below it an error is either **transient** (trying again
may help: Airflow retries) or **permanent** (trying again gives the same answer: Airflow fails the task at once). The
code is stable: it is in `--json` output and in logs, and never changes its meaning.

The command line ends with 2 for errors of the section *usage* and with 1 for all others. Work that was done but is not
complete ends with 3.
"""
ROW_HEAD = "\n| code | class | try again | when | what to do |\n|---|---|---|---|---|\n"


def main() -> int:
    """Write or compare the page; see `write_or_compare`."""
    return write_or_compare("errors.md", render(), made_from="include/coffer/errors.py and errors_postgres.py")


def render() -> str:
    """Return the whole page: a section for the transient errors, one for each permanent group."""
    groups = [cls for cls in errors.PermanentError.__subclasses__() if cls.__subclasses__()]
    lone = [cls for cls in errors.PermanentError.__subclasses__() if not cls.__subclasses__()]
    parts = [HEAD, _section("transient", list(_descendants(errors.TransientError)))]
    parts += [_section(cls.code, [cls, *_descendants(cls)]) for cls in groups]
    if lone:
        parts.append(_section("other", lone))
    return "".join(parts)


def _descendants(cls: type[errors.CofferError]) -> list[type[errors.CofferError]]:
    """Return all classes below, in the order of the source."""
    found: list[type[errors.CofferError]] = []
    for child in cls.__subclasses__():
        found += [child, *_descendants(child)]
    return found


def _section(title: str, classes: list[type[errors.CofferError]]) -> str:
    """Return one section with its table."""
    return f"\n## {title.capitalize()}\n{ROW_HEAD}" + "".join(_row(cls) for cls in classes)


def _row(cls: type[errors.CofferError]) -> str:
    """Return the table's line of one class; bars in texts would split the cell."""
    when = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()).removeprefix("Raised when ")
    again = "yes" if cls.transient else "no"
    cells = (
        f"`{cls.code}`",
        f"`{cls.__name__}`",
        again,
        when.replace("|", r"\|"),
        cls.default_hint.replace("|", r"\|"),
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.exit(main())
