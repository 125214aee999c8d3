"""A database that has one of everything that a logical backup can get wrong: nasty_schema.sql."""

from __future__ import annotations

import re
from pathlib import Path

_FILE = Path(__file__).with_name("nasty_schema.sql")


def statements(database: str) -> list[str]:
    """Return what fills an empty database of that name, in pieces that are each one transaction."""
    quoted = '"' + database.replace('"', '""') + '"'
    sections = re.split(r"^-- section: \w+$", _FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [section.replace("{database}", quoted) for section in sections[1:]]
