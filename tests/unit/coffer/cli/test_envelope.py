"""The envelope: one JSON object, in ASCII, whatever is in it and whatever happens while it is written."""

from __future__ import annotations

import io
import json

import pytest

from coffer.cli.envelope import EnvelopeWriter
from coffer.cli.faults import Fault
from tests.harness.command_line import SCHEMA, validator


def written(act, exit_code=0, warnings=(), fault=None, count=0):
    """What an envelope holds after some acts on its writer."""
    out = io.StringIO()
    writer = EnvelopeWriter(out, "find")
    act(writer)
    writer.finish(exit_code, list(warnings), fault, warnings_count=count)
    assert out.getvalue().isascii()
    return json.loads(out.getvalue())


def test_fields_and_rows_stand_in_the_result_in_order():
    """Fields, a list, and more fields."""

    def act(writer):
        writer.fields({"a": 1, "b": "x"})
        writer.rows("list", iter([{"n": 1}, {"n": 2}]))
        writer.rows("empty", iter([]))
        writer.fields({"c": None})

    found = written(act)
    assert {"a": 1, "b": "x", "list": [{"n": 1}, {"n": 2}], "empty": [], "c": None} == found["result"]
    assert ["schema", "command", "result", "warnings", "warnings_count", "ok", "exit_code", "error"] == list(found)


def test_a_run_that_did_nothing_has_an_empty_result():
    """The verdict alone is an envelope too."""
    found = written(lambda writer: None, 1, [{"code": "c", "message": "m"}], Fault("internal", "m", "h"), 7)
    assert ({}, 7, False, 1) == (found["result"], found["warnings_count"], found["ok"], found["exit_code"])
    assert {"code": "internal", "message": "m", "hint": "h"} == found["error"]


def test_a_list_that_fails_half_way_is_closed():
    """What was made before the failure is there, and the whole stays JSON."""

    def rows():
        yield {"n": 1}
        raise RuntimeError

    def act(writer):
        with pytest.raises(RuntimeError):
            writer.rows("list", rows())

    assert {"list": [{"n": 1}]} == written(act, 1)["result"]


@pytest.mark.parametrize(
    ("text", "expected"), [("\udcff", "\\xff"), ("a\udc80b", "a\\x80b"), ("😀", "😀"), ("🐐", "🐐"), ("é\n", "é\n")]
)
def test_what_json_cannot_hold_is_written_as_an_escape(text, expected):
    """A lone surrogate is no text in JSON; a pair of them is one character and stays."""
    found = written(lambda writer: writer.fields({"a": text, "b": [text, {text: text}, 1], "c": (text,)}))
    assert {"a": expected, "b": [expected, {expected: expected}, 1], "c": [expected]} == found["result"]


def test_the_schema_is_a_schema_and_refuses_what_is_none():
    """The schema is valid itself, and finds a missing field, a foreign field and a wrong type."""
    type(validator()).check_schema(json.loads(SCHEMA.read_text(encoding="utf-8")))
    good = written(lambda writer: writer.fields({"pattern": "x", "matches": [], "found": 0, "snapshots": 0}))
    good["result"]["store"] = dict.fromkeys(("gets", "get_bytes", "puts", "put_bytes", "lists", "stats", "deletes"), 0)
    assert validator().is_valid(good)
    for change in ({"found": "0"}, {"foreign": 1}):
        assert not validator().is_valid({**good, "result": {**good["result"], **change}})
    less = {key: value for key, value in good["result"].items() if key != "found"}
    assert not validator().is_valid({**good, "result": less})
    failed = {**good, "result": {}, "error": {"code": "internal", "message": "m", "hint": "h"}}
    assert validator().is_valid(failed)
    assert not validator().is_valid({key: value for key, value in good.items() if key != "ok"})
