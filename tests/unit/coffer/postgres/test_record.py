"""What is kept of a cluster is read back as it was, and nothing else is taken for it."""

from __future__ import annotations

import json

import pytest

from coffer.errors import ObjectCorruptError
from coffer.postgres import record as module
from coffer.postgres.record import ClusterRecord

RECORD = ClusterRecord(
    server_version="15.18 (Debian)",
    databases={5: "postgres", 16384: "käse"},
    tablespaces={16399: "/srv/side"},
    settings={"max_connections": "100"},
    corrupt_pages=[("base/5/1259", 3)],
    corrupt_pages_count=7,
    notices=["a warning"],
    proof={"format": 1},
)


def test_a_record_is_read_back_as_it_was():
    """Every field."""
    assert RECORD == ClusterRecord.decode(RECORD.encode())
    assert ClusterRecord("18") == ClusterRecord.decode(ClusterRecord("18").encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 2),
        ("server_version", 15),
        ("databases", {"x": "y"}),
        ("databases", {"5": 7}),
        ("databases", []),
        ("tablespaces", {"5": None}),
        ("settings", {"a": 1}),
        ("corrupt_pages", [{"path": "x"}]),
        ("corrupt_pages", [{"path": "x", "block": -1}]),
        ("corrupt_pages", [{"path": "x", "block": True}]),
        ("corrupt_pages_count", "7"),
        ("notices", [1]),
        ("proof", []),
    ],
)
def test_another_form_is_refused(name, value):
    """Each field has its kind."""
    body = json.loads(RECORD.encode())
    body[name] = value
    with pytest.raises(ObjectCorruptError, match="not the record of a cluster"):
        ClusterRecord.decode(json.dumps(body).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_record_is_refused(data):
    """One error for all of it."""
    with pytest.raises(ObjectCorruptError, match="not the record of a cluster"):
        ClusterRecord.decode(data)


def test_a_record_beyond_its_cap_is_refused(monkeypatch):
    """Whoever reads it has bounded the reading; this is the second bound."""
    monkeypatch.setattr(module, "MAX_RECORD_BYTES", 10)
    with pytest.raises(ObjectCorruptError, match="not the record of a cluster"):
        ClusterRecord.decode(RECORD.encode())
