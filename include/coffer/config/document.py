"""YAML text to plain data, with the place of every key and with every mistake of form.

Read by the core schema of YAML 1.2, where ``no`` is a text, ``0755`` is no octal number and ``12:30`` is no base-60
number; only ``true`` and ``false`` are truth values. Keys that come twice, keys that are no text, and tags are
mistakes. Merge keys (``<<``) are not known; anchors and aliases are.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from itertools import pairwise
from typing import Any, NamedTuple

import yaml

Path = tuple[str | int, ...]
"""Keys and list indices (from 0) from the top of the document to a value."""

_MAX_NODES = 50_000  # aliases within aliases could make a small file grow without bound
_MAX_DEPTH = 50  # a policy is six deep
_TOO_DEEP = ("blocks or brackets within each other, too deep", f"at most {_MAX_DEPTH} within each other")


class Place(NamedTuple):
    """A place in the file.

    Attributes:
        line: From 1.
        column: From 1.
    """

    line: int
    column: int


class FormMistake(NamedTuple):
    """A mistake of form: not the value is wrong but how the text is written.

    Attributes:
        place: Where.
        path: Path to the value, as far as it is known.
        problem: What is wrong; never holds a value.
        allowed: What is allowed instead.
    """

    place: Place
    path: Path
    problem: str
    allowed: str


class Document:
    """What a YAML text says.

    Attributes:
        data: Plain data: dict, list, str, int, float, bool, None.
        places: Place of every key and list item, by its path; of the top under ``()``.
        mistakes: Mistakes of form, in no order.
        unread: True if a part could not be read at all and is missing in the data.
    """

    def __init__(self) -> None:
        self.data: Any = None
        self.places: dict[Path, Place] = {(): Place(1, 1)}
        self.mistakes: list[FormMistake] = []
        self.unread = False

    def place_of(self, path: Path) -> Place:
        """Return the place of a path, or of the nearest thing around it that has one."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]


# ------------------------------------------------------------------------------------------------ loading


class _CoreLoader(yaml.SafeLoader):
    """Composes nodes by the YAML 1.2 core schema."""

    # A fresh dict: the parent's rules (YAML 1.1, and merge keys) are held in a class attribute that would be shared.
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # the name and its mutability are PyYAML's


_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]{1,30}", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,3})?", list("-+.0123456789")),
):
    _CoreLoader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def parse_document(text: str) -> Document:
    """Return what a YAML text says, and all mistakes of its form.

    Where the form is broken, the blocks below each key of the first column are read one by one, so that one forgotten
    quote does not hide the mistakes of the rest.
    """
    document = Document()
    try:
        node = _compose(text)
    except yaml.YAMLError as error:
        document.unread = True
        document.mistakes += (mistakes := _read_blocks(document, text))
        # What breaks the whole is found again in its block, and told better there: a quote left open in one block
        # breaks the text at the next quote, blocks later. Only what joins blocks is left to be told for the whole.
        if not mistakes or isinstance(error, yaml.composer.ComposerError):
            document.mistakes.append(_of_yaml(error, text))
        return document
    if node is not None:
        document.data = _Builder(document).build(node, ())
    return document


class _NestingError(yaml.YAMLError):
    """Raised when the text is nested so deeply that PyYAML, which descends by recursion, gives up."""


def _compose(text: str) -> yaml.Node | None:
    loader = _CoreLoader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    except RecursionError:
        raise _NestingError from None
    finally:
        loader.dispose()


_BLOCK_START = re.compile(r"(?m)^(?=[^\s#\-{}\[\]%])")


def _read_blocks(document: Document, text: str) -> list[FormMistake]:
    """Read each block that begins in the first column by itself; keep what can be read, return the others' mistakes."""
    starts = [match.start() for match in _BLOCK_START.finditer(text)]
    mistakes: list[FormMistake] = []
    document.data = {}
    for start, stop in pairwise([*starts, len(text)]):
        block = "\n" * text.count("\n", 0, start) + text[start:stop]
        try:
            node = _compose(block)
        except yaml.composer.ComposerError:
            continue  # an alias whose anchor lies in another block: no mistake of this block
        except yaml.YAMLError as error:
            mistakes.append(_of_yaml(error, block))
            continue
        if isinstance(node, yaml.MappingNode):
            document.data.update(_Builder(document).build(node, ()) or {})
        elif node is not None:
            mistakes.append(FormMistake(_place(node), (), *_NO_COLON))
    return mistakes


class _Builder:
    """Makes plain data of nodes, and notes places and mistakes in the document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        """Return the plain data of a node, None for what is refused."""
        self._document.places.setdefault(path, _place(node))
        self._count += 1
        if self._count > _MAX_NODES:
            return None
        if self._count == _MAX_NODES:
            self._refuse(node, path, "too many values", f"at most {_MAX_NODES:,} values")
            return None
        if len(path) > _MAX_DEPTH:
            self._refuse(node, path[:1], *_TOO_DEEP)
            return None
        if id(node) in self._open:
            self._refuse(node, path, "an alias within what it names", "aliases of values that are complete")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, path)
            return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _refuse(self, node: yaml.Node, path: Path, problem: str, allowed: str) -> None:
        self._document.mistakes.append(FormMistake(_place(node), path, problem, allowed))

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any] | None:
        if node.tag != _TAG + "map":
            self._refuse(node, path, *_TAG_FOUND)
            return None
        data: dict[str, Any] = {}
        first_lines: dict[Hashable, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                self._refuse(key_node, path, "a key that is no text", "texts as keys; put a number in quotes")
                continue
            key = str(key_node.value)
            if key in first_lines:
                problem = f"key {key!r} is there twice (first in line {first_lines[key]})"
                self._refuse(key_node, (*path, key), problem, "each key once")
                continue
            first_lines[key] = _place(key_node).line
            self._document.places[(*path, key)] = _place(key_node)
            data[key] = self.build(value_node, (*path, key))
        return data

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> list[Any] | None:
        if node.tag != _TAG + "seq":
            self._refuse(node, path, *_TAG_FOUND)
            return None
        return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        kind, text = node.tag.removeprefix(_TAG), str(node.value)
        try:
            if kind in ("int", "float"):
                return int(text) if kind == "int" else float(text)
        except ValueError:  # "!!int many"
            self._refuse(node, path, "a tag (!...) that its value does not fit", "plain values without tags")
            return None
        if kind in ("bool", "null"):
            return text.lower() == "true" if kind == "bool" else None
        if kind != "str":
            self._refuse(node, path, *_TAG_FOUND)
            return None
        return text


def _place(node: yaml.Node) -> Place:
    return _place_of_mark(node.start_mark)


# ------------------------------------------------------------------------------------------------ YAML's own errors

_NO_COLON = ("a line without ':' after its key", "key: value")
_OPEN_QUOTE = ("a quote that is not closed", "the same quote at both ends")
_TAG_FOUND = ("a tag (!...)", "plain values without tags")

# Part of PyYAML's message -> where we show it, and what we say. Its messages can quote the file (a password that begins
# with * becomes "an undefined alias"), so none of its words are passed on. "begin" is where the thing at fault begins,
# "end" where it turned out to be one.
_PROBLEMS: tuple[tuple[str, str, tuple[str, str]], ...] = (
    (
        "undefined alias",
        "end",
        ("an alias (*...) of which there is no anchor", "quotes around a text that begins with *"),
    ),
    ("duplicate anchor", "end", ("an anchor (&...) that is there twice", "each anchor once")),
    ("expected a single document", "end", ("a second document (---)", "one document")),
    (
        "mapping values are not allowed",
        "end",
        ("a ':' where none can be", "quotes around a text with ': ' in it; check the indentation"),
    ),
    ("entries are not allowed", "end", ("a '- ' where no list can begin", "the list in lines of its own, or [a, b]")),
    ("could not find expected ':'", "begin", _NO_COLON),
    (
        "cannot start any token",
        "end",
        ("a tab, or a text that begins with @, ` or %", "spaces for indentation; quotes around such a text"),
    ),
    (
        "expected <block end>",
        "end",
        ("a line that is indented unlike those it belongs to", "the same indentation for all keys of a block"),
    ),
    (
        "expected ',' or",
        "begin",
        ("a bracket that is not closed, or a missing comma", "[a, b] and {key: value, key: value}"),
    ),
    ("unknown escape", "end", ("a backslash in double quotes that means nothing", "single quotes around such a text")),
    ("quoted scalar", "begin", _OPEN_QUOTE),
    ("tag", "end", _TAG_FOUND),
)


def _of_yaml(error: yaml.YAMLError, text: str) -> FormMistake:
    """Return the mistake of form that an error of PyYAML means, without any word of the file."""
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        return FormMistake(place, (), "a character that YAML does not allow", "printable characters")
    if not isinstance(error, yaml.MarkedYAMLError):  # a _NestingError: all others of PyYAML's are marked
        return FormMistake(Place(1, 1), (), *_TOO_DEEP)
    said = f"{error.problem} {error.context}"
    for part, where, problem in _PROBLEMS:
        if part in said:
            mark = error.context_mark if where == "begin" else error.problem_mark
            return FormMistake(_place_of_mark(mark or error.problem_mark), (), *problem)
    allowed = "YAML: key: value, lists with '- ', the same indentation within a block"
    return FormMistake(_place_of_mark(error.problem_mark), (), "not YAML", allowed)


def _place_of_mark(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)
