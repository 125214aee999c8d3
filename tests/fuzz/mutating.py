"""Make hostile inputs of good ones: bytes, integers, pieces and JSON values are replaced, moved, doubled and cut."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

_INTEGERS = [0, 1, 2, 3, 7, 8, 9, 16, 17, 31, 32, 33, 46, 79, 80, 81, 127, 128, 253, 254, 255, 256, 257, 1024, 65_535]
_INTEGERS += [65_536, 65_537, 1 << 18, (1 << 18) + 1, 1 << 22, (1 << 22) + 1, 1 << 24, (1 << 24) + 1, 1 << 26, 1 << 31]
_INTEGERS += [(1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
_FORMS = ["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"]
_VALUES: list[Any] = [None, True, False, 0, -1, 1, 2, 4096, 1 << 31, 1 << 32, 1 << 63, 1 << 64, -(1 << 63), 10**300]
_VALUES += [1.5, -0.0, float("inf"), float("-inf"), float("nan"), "", "0", "x", "\ud800", "\0", "0" * 64, "00" * 32]
_VALUES += ["f" * 32, "zz", "é", [], [[]], {}, {"": 0}, [0, ""], [None], "x" * 5000, [0] * 500, "cdc", "root"]


def mutated(draw: Random, samples: Sequence[bytes]) -> bytes:
    """Return a sample after one to eight changes; now and then bytes without any sample."""
    if draw.randrange(100) == 0:
        return draw.randbytes(draw.randrange(300))
    data = bytearray(draw.choice(samples))
    for _ in range(1 + min(draw.randrange(8), draw.randrange(8))):
        _change(draw, data, samples)
    return bytes(data)


def _change(draw: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    way = draw.randrange(10)
    at = draw.randrange(len(data) + 1)
    length = min(draw.randrange(1, 64), len(data) - at)
    if way < 2 and at < len(data):
        data[at] ^= 1 << draw.randrange(8)
    elif way == 2 and at < len(data):
        data[at] = draw.randrange(256)
    elif way < 5:
        form = draw.choice(_FORMS)
        size = struct.calcsize(form)
        value = draw.choice(_INTEGERS) & ((1 << 8 * size) - 1)
        data[at : at + size] = struct.pack(form, value)
    elif way == 5:
        del data[at : at + length]
    elif way == 6:
        data[at:at] = data[at : at + length] * draw.randrange(1, 5)
    elif way == 7:
        data[at:at] = draw.randbytes(draw.randrange(1, 40))
    elif way == 8:
        other = draw.choice(samples)
        start = draw.randrange(len(other) + 1)
        data[at : at + length] = other[start : start + draw.randrange(1, 200)]
    else:
        del data[at:]


def mutated_json(draw: Random, samples: Sequence[bytes]) -> bytes:
    """Return a document with some values, names or levels replaced; sometimes with bytes changed as well."""
    try:
        document = json.loads(draw.choice(samples))
    except (ValueError, RecursionError):
        return mutated(draw, samples)
    for _ in range(draw.randrange(1, 4)):
        document = _change_json(draw, document)
    way = draw.randrange(20)
    try:
        text = json.dumps(document, indent=draw.choice([None, 1])).encode()
    except (ValueError, RecursionError):
        return mutated(draw, samples)
    if way == 0:
        return mutated(draw, [text])
    if way == 1:
        return b"[" * draw.randrange(1, 3000) + text
    if way == 2:
        return text.replace(b"1", b"1" * draw.randrange(1, 5000), 1)
    return text


def _change_json(draw: Random, document: Any) -> Any:
    if isinstance(document, dict) and document:
        name = draw.choice(list(document))
        way = draw.randrange(8)
        if way == 0:
            return {key: value for key, value in document.items() if key != name}
        if way == 1:
            return document | {draw.choice(["", "x", name + "x"]): draw.choice(_VALUES)}
        if way < 5 and isinstance(document[name], dict | list):
            return document | {name: _change_json(draw, document[name])}
        return document | {name: draw.choice(_VALUES)}
    if isinstance(document, list) and document and draw.randrange(4):
        at = draw.randrange(len(document))
        return [*document[:at], _change_json(draw, document[at]), *document[at + 1 :]]
    return draw.choice(_VALUES)


def hostile_integers(draw: Random, count: int) -> list[int]:
    """Return a column's values: small, huge, negative, or all the same."""
    if draw.randrange(3) == 0:
        return [draw.choice(_INTEGERS)] * count
    pool = [0, 1, 2, 3, -1, *draw.sample(_INTEGERS, 3), -draw.choice(_INTEGERS), draw.choice(_INTEGERS) << 40]
    return [draw.choice(pool) for _ in range(count)]
