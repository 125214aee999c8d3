"""Write docs/configuration.md from the policy's models; with `--check`, only compare, and fail if it is out of date."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from generated_page import write_or_compare

from coffer.config.base import PolicyModel
from coffer.config.describe import Entry, describe, walk
from coffer.config.notes import PENDING
from coffer.config.policy import Policy

HEAD = """# Configuration

Made by `make docs` from the models in `include/coffer/config/`; do not edit.

One file says what is backed up, where to, when, and for how long: `config/coffer.yaml`, or the file that the
environment variable `COFFER_POLICY` names. `coffer config check` shows every mistake in it at once, each with its line,
what is allowed, and the known key or word that was probably meant.

- Every key has a default unless it is *required*, so a policy can be as short as its sources:

  ```yaml
  sources:
    - {name: home, paths: [/home]}
  ```

- An unknown key is a mistake, and so is a key that comes twice. The file is YAML by its core schema: `yes`, `no` and
  `on` are texts, only `true` and `false` are truth values.
- A relative path counts from the project folder: the folder that holds `config/`, or the file's own folder if that is
  not called `config`. `~` is the home folder. A quantity needs its unit: `retention: 30` is refused, `30d` is not.
- A policy that nobody named, but that lies in the working folder, is refused if others than root and the user own it or
  its folder, or may write them. One that `COFFER_POLICY` names, and the project's own, are taken as they are.
- No secret has a place here. The policy says where a key or passphrase is: the name of an environment variable, or a
  file. Where a value may be a secret, no message shows it.
- Checked beyond single values: names that name nothing or are there twice, locations within each other, sources within
  locations and the other way round, keys stored in what they open, schedules outside the backup window, levels that
  contradict each other, alerts that no channel takes.

In the tables, `<name>` stands for a name of your choice and `[]` for the items of a list.
"""
KINDS_HEAD = """
## Kinds of value

| type | allowed |
|---|---|
"""
# Kinds whose words are too long to be said at every key.
LONG_KINDS = frozenset({"condition", "cron", "name", "path", "pattern"})
PENDING_HEAD = """
## What this version does not act on yet

These keys are read and checked, so that a policy need not change later, and have no effect yet:

"""


def main() -> int:
    """Write or compare the page; see `write_or_compare`."""
    return write_or_compare("configuration.md", render(), made_from="include/coffer/config/")


def render() -> str:
    """Return the whole page: the kinds of value, a section for each key at the top, the keys without effect yet."""
    sections: dict[str, list[Entry]] = {}
    for entry in walk(Policy):
        sections.setdefault(entry.key.partition(".")[0].partition("[")[0], []).append(entry)
    kinds = shared_kinds(entry for entries in sections.values() for entry in entries)
    parts = [HEAD, KINDS_HEAD, *(f"| {kind} | {_cell(allowed)} |\n" for kind, allowed in sorted(kinds.items()))]
    parts += [_section(name, entries, kinds) for name, entries in sections.items()]
    parts += [PENDING_HEAD, *(f"- `{key}`: {meaning}\n" for key, meaning in PENDING.items())]
    return "".join(parts)


def shared_kinds(entries: Iterable[Entry]) -> dict[str, str]:
    """Return what is allowed for each kind of value that several keys have with the same words, by kind."""
    uses: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        description = entry.description if entry.description.item is None else describe(entry.description.item)
        if description.kind in LONG_KINDS:
            uses[description.kind, description.allowed] += 1
    assert len({kind for kind, _ in uses}) == len(uses), "a kind of value has two meanings"
    return dict(uses.keys())


def _section(name: str, entries: list[Entry], kinds: dict[str, str]) -> str:
    """Return the section of one key at the top: what it is, and a table of what is below it."""
    top, *below = entries
    head = f"\n## {name}\n\n{_meaning(top)}"
    if below and top.description.item is not None:
        head += f" {top.description.kind.capitalize()}; default {_default(top)}."
    by_key: dict[str, list[Entry]] = {}
    for entry in below if below else [top]:
        by_key.setdefault(entry.key, []).append(entry)
    rows = [row for alike in by_key.values() for row in _rows(alike, kinds)]
    return head + "\n\n| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n" + "".join(rows)


def _rows(alike: list[Entry], kinds: dict[str, str]) -> list[str]:
    """Return the lines of one key: several if blocks of several types have it, each with another meaning."""
    first = alike[0]
    if first.name == "type" and first.variant:
        words = tuple(entry.variant for entry in alike)
        return [_row(first._replace(description=first.description._replace(words=words)), kinds, "")]
    plain = list(dict.fromkeys(_row(entry, kinds, "") for entry in alike))
    siblings = len(first.description.models) > 1
    if len(plain) == 1 and (len(alike) > 1 or not first.variant or siblings):
        return plain
    return [_row(entry, kinds, f" For type `{entry.variant}`.") for entry in alike]


def _row(entry: Entry, kinds: dict[str, str], addition: str) -> str:
    """Return one line of a table."""
    cells = (_default(entry), _allowed(entry, kinds), _meaning(entry) + addition)
    return f"| `{entry.key}` | {entry.description.kind} | {' | '.join(cells)} |\n"


def _allowed(entry: Entry, kinds: dict[str, str]) -> str:
    """Return what is allowed; blocks have their keys in lines of their own, shared kinds a table of theirs."""
    description = entry.description
    item = describe(description.item) if description.item is not None else None
    if description.models or (item is not None and item.models):
        return "the keys below"
    if description.words:
        words = ", ".join(f"`{word}`" for word in description.words)
        count = "one or more" if "one or more" in description.allowed else "any"
        return words if item is None else f"{count} of {words}"
    text = description.allowed
    if item is not None and item.kind in kinds:
        text = text.partition("; for each")[0]
    return f"see [{description.kind}](#kinds-of-value)" if description.kind in kinds else _cell(text)


def _cell(text: str) -> str:
    """Return a text with the signs of Markdown made harmless; a bar would split the cell."""
    for sign in "*_<|":
        text = text.replace(sign, "\\" + sign)
    return text


def _default(entry: Entry) -> str:
    """Return a key's default as it would be written in the file."""
    if entry.field.is_required():
        return "*required*"
    default = entry.field.get_default()
    if default is None or (default == {} and entry.description.models):
        return "none" if default is None else "see its keys"
    return f"`{_yaml(default)}`"


def _yaml(value: Any) -> str:
    """Return plain data on one line as YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    needs_quotes = isinstance(value, str) and any(sign in value for sign in ("*", "#", ": ", "%", "!"))
    return json.dumps(value) if needs_quotes else str(value)


def _meaning(entry: Entry) -> str:
    """Return the docstring of the key's attribute."""
    return attribute_docstrings(entry.model)[entry.name]


@cache
def attribute_docstrings(model: type[PolicyModel]) -> dict[str, str]:
    """Return the texts that stand below the attributes of a model's class, by the attribute's name.

    Read from the source when the page is made and not by pydantic, which would read it at every start.
    """
    body = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    for attribute, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(attribute, ast.AnnAssign)
            and isinstance(attribute.target, ast.Name)
            and isinstance(text, ast.Expr)
        ):
            assert isinstance(text.value, ast.Constant)
            texts[attribute.target.id] = " ".join(str(text.value.value).split())
    return texts


if __name__ == "__main__":
    sys.exit(main())
