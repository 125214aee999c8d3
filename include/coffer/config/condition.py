"""The grammar of alert conditions: read by hand, never evaluated as code.

    condition  = either
    either     = both { "or" both }
    both       = negation { "and" negation }
    negation   = "not" negation | "(" condition ")" | comparison
    comparison = operand ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) operand
    operand    = NUMBER [ UNIT ] | "text" | NAME [ "(" operand { "," operand } ")" ]

Only the form is checked here. Which metrics there are, and what a unit means for each, is known where alerts are
evaluated.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from coffer.units import UnitError

CONDITION_ALLOWED = (
    "comparisons (== != < <= > >=) of metrics, numbers with units and texts, joined by and, or, not and brackets, "
    'such as "status != success" or "available < 20%"'
)

_MAX_LENGTH = 500
_MAX_DEPTH = 20  # brackets within brackets: a limit, so that no text can exhaust the stack
_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_WORDS = frozenset({"and", "or", "not"})
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[0-9]+(?:\.[0-9]+)?[ ]?(?:%|[A-Za-z]+(?:/s)?\b)?(?![A-Za-z0-9_]))
      | (?P<text>"[^"\\]*"|'[^'\\]*')
      | (?P<name>[A-Za-z_][A-Za-z0-9_.]*)
      | (?P<sign>==|!=|<=|>=|<|>|\(|\)|,)
    )""",
    re.VERBOSE | re.ASCII,
)


class Token(NamedTuple):
    """A word of a condition.

    Attributes:
        kind: ``number``, ``text``, ``name``, ``sign`` or ``end``.
        word: The word itself, without blanks around it.
        column: Where it begins, from 1.
    """

    kind: str
    word: str
    column: int


def tokens_of(text: str) -> list[Token]:
    """Return the words of a condition in order, and an ``end`` after the last.

    Raises:
        UnitError: A character begins no word, or the text is over 500 characters long.
    """
    if len(text) > _MAX_LENGTH:
        raise _refusal(text, f"longer than {_MAX_LENGTH} characters")
    tokens: list[Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            position += len(text[position:]) - len(text[position:].lstrip())
            raise _refusal(text, f"column {position + 1}: {text[position]!r} is not understood")
        kind = str(match.lastgroup)
        # "5 or": the blank between a number and a unit must not swallow a word of the grammar.
        word = match[kind]
        if kind == "number" and " " in word and word.split(" ")[1] in _WORDS:
            word = word.split(" ")[0]
        tokens.append(Token(kind, word, match.start(kind) + 1))
        position = match.start(kind) + len(word)
    return [*tokens, Token("end", "the end", end + 1)]


def check_condition(text: str) -> None:
    """Check that a text is a condition.

    Raises:
        UnitError: It is not; the cause names the column.
    """
    checker = _Checker(text)
    checker.either(0)
    if checker.token.kind != "end":
        raise checker.refusal("and, or or the end")


def _refusal(text: str, why: str) -> UnitError:
    return UnitError("condition", text, why, CONDITION_ALLOWED)


class _Checker:
    """Walks over the tokens by recursive descent; each method takes what its rule of the grammar takes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens_of(text)
        self._next = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._next]

    def refusal(self, expected: str) -> UnitError:
        return _refusal(self._text, f"column {self.token.column}: expected {expected}, found {self.token.word!r}")

    def _take(self, *words: str) -> bool:
        if self.token.kind in ("name", "sign") and self.token.word in words:
            self._next += 1
            return True
        return False

    def either(self, depth: int) -> None:
        self._negation(depth)
        while self._take("and", "or"):
            self._negation(depth)

    def _negation(self, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _refusal(self._text, f"more than {_MAX_DEPTH} brackets within each other")
        if self._take("not"):
            self._negation(depth + 1)
        elif self._take("("):
            self.either(depth + 1)
            if not self._take(")"):
                raise self.refusal("and, or or ')'")
        else:
            self._operand(depth)
            if not self._take(*_COMPARISONS):
                raise self.refusal("a comparison (== != < <= > >=)")
            self._operand(depth)

    def _operand(self, depth: int) -> None:
        if self.token.kind not in ("number", "text", "name") or self.token.word in _WORDS:
            raise self.refusal("a metric, a number or a text")
        is_name = self.token.kind == "name"
        self._next += 1
        if is_name and self._take("("):
            self._arguments(depth + 1)

    def _arguments(self, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _refusal(self._text, f"more than {_MAX_DEPTH} brackets within each other")
        self._operand(depth)
        while self._take(","):
            self._operand(depth)
        if not self._take(")"):
            raise self.refusal("',' or ')'")
