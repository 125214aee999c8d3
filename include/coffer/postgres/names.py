"""Names of tables: quoted as SQL and as pg_dump want them, and patterns that pick tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from urllib.parse import quote

from coffer.errors import UsageError

_PART = re.compile(r'"(?:[^"]|"")+"|[^".]+')
_HINT = (
    "Write name, schema.name, or parts of them with * and ?; a name with a dot or capitals in doubt goes in double"
    ' quotes: \'"my schema"."a.b"\'.'
)


def quoted_name(*parts: str) -> str:
    """Return an SQL identifier, qualified where there are several parts; every part is quoted."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def quoted_text(text: str) -> str:
    """Return an SQL string constant."""
    if "\\" in text:
        return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"


def path_name(name: str, longest: int = 200) -> str:
    """Return a name as one component of a path: UTF-8, special characters as %XX, at most `longest` bytes."""
    escaped = quote(name, safe=" !#$&'()+,;=@[]^_`{}~-.")
    if escaped in (".", ".."):
        escaped = escaped.replace(".", "%2E")
    return escaped[:longest]


@dataclass(frozen=True, slots=True)
class TablePattern:
    """A pattern of table names: case counts, `*` and `?` as in a shell, quoted parts are literal.

    Attributes:
        text: As it was written.
        schema, name: Regular expressions for the whole of each; the schema's is None where any will do.
    """

    text: str
    schema: re.Pattern[str] | None
    name: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> TablePattern:
        """Return a pattern.

        Raises:
            UsageError: It is none.
        """
        parts: list[list[str]] = [[]]
        at = 0
        while at < len(text):
            if text[at] == ".":
                parts.append([])
                at += 1
                continue
            match = _PART.match(text, at)
            if match is None:
                raise UsageError(f"table pattern {text!r}: a quote is not closed", hint=_HINT)
            parts[-1].append(match[0])
            at = match.end()
        if not 1 <= len(parts) <= 2 or not all(parts):
            raise UsageError(f"table pattern {text!r}: not a name, nor schema.name", hint=_HINT)
        schema = None if len(parts) == 1 else _expression(parts[0])
        return cls(text, schema, _expression(parts[-1]))

    def fits(self, schema: str, name: str) -> bool:
        """Say whether a table is meant."""
        return (self.schema is None or self.schema.match(schema) is not None) and self.name.match(name) is not None


def _expression(pieces: Iterable[str]) -> re.Pattern[str]:
    """Return the expression of one part, from its quoted and unquoted pieces."""
    shell = ""
    for piece in pieces:
        if piece.startswith('"'):
            literal = piece[1:-1].replace('""', '"')
            shell += re.sub(r"([*?[])", r"[\1]", literal)
        else:
            shell += piece.replace("[", "[[]")
    return re.compile(translate(shell))


def parse_patterns(texts: Iterable[str]) -> tuple[TablePattern, ...]:
    """Return the patterns of several texts.

    Raises:
        UsageError: One of them is none.
    """
    return tuple(map(TablePattern.parse, texts))
