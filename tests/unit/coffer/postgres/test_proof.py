"""The proof that a snapshot keeps: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

import copy
import json

import pytest

from coffer.errors import ObjectCorruptError
from coffer.postgres.lsn import Lsn
from coffer.postgres.proof import MAX_TABLES, DatabaseProof, LeftOut, Proof, TableProof

DIGEST = "0123456789abcdef" * 2
PROOF = Proof(
    timeline=2,
    lsn=Lsn(0x3000028),
    until=Lsn(0x3000100),
    exact=True,
    server_version=150018,
    superuser="postgres",
    seed=4711,
    taken_ns=1_793_491_200_000_000_000,
    duration_ms=1500,
    databases=(
        DatabaseProof(
            5,
            "postgres",
            "UTF8",
            "10:20:11",
            (
                TableProof("public", "orders", 16384, rows=3, digest=DIGEST),
                TableProof('od"d', "naïve.table", 16390, rows=9, digest=DIGEST, percent="12.500"),
                TableProof("public", "cache", 16400, left_out=LeftOut.UNLOGGED, missed=4),
            ),
        ),
        DatabaseProof(16999, "closed", "UTF8", failure="no right to connect"),
    ),
)


def test_a_proof_survives_the_record():
    """Through JSON and back, every field."""
    assert PROOF == Proof.parse(json.loads(json.dumps(PROOF.to_json())))


def test_it_says_what_it_covers():
    """Whole, in part, and left out for which reason."""
    assert {"proved": 1, "sampled": 1, "unlogged": 1} == PROOF.counts


def changed(*path, value):
    """Return the proof's JSON with one value replaced; ... removes it."""
    body = copy.deepcopy(PROOF.to_json())
    at = body
    for step in path[:-1]:
        at = at[step]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return body


TABLE = ("databases", 0, "tables", 0)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "proof",
        changed("format", value=2),
        changed("lsn", value="0/XYZ"),
        changed("lsn", value=5),
        changed("lsn", value=...),
        changed("until", value="0/1"),
        changed("timeline", value=0),
        changed("timeline", value=True),
        changed("exact", value=1),
        changed("seed", value=-1),
        changed("seed", value=1 << 63),
        changed("superuser", value="x" * 300),
        changed("databases", value={}),
        changed("databases", 0, value=None),
        changed("databases", 1, "name", value="postgres"),
        changed("databases", 0, "name", value=""),
        changed("databases", 0, "oid", value=0),
        changed("databases", 0, "snapshot", value="1; DROP TABLE x"),
        changed("databases", 0, "tables", value=None),
        changed(*TABLE, "digest", value=DIGEST.upper()),
        changed(*TABLE, "digest", value=DIGEST[1:]),
        changed(*TABLE, "digest", value=...),
        changed(*TABLE, "rows", value=-1),
        changed(*TABLE, "rows", value=1.5),
        changed(*TABLE, "percent", value="0"),
        changed(*TABLE, "percent", value="101"),
        changed(*TABLE, "percent", value="1) OR (1"),
        changed(*TABLE, "name", value="a\0b"),
        changed(*TABLE, "schema", value=7),
        changed(*TABLE, "left_out", value="because"),
        changed("databases", 0, "tables", 2, "missed", value=...),
    ],
)
def test_what_no_backup_writes_is_refused(body):
    """Kinds, ranges and forms are checked before anything of it reaches a server."""
    with pytest.raises(ObjectCorruptError, match=r"cluster\.json"):
        Proof.parse(body)


def test_the_number_of_tables_is_bounded():
    """One record cannot take any amount of memory."""
    body = PROOF.to_json()
    body["databases"][0]["tables"] = [body["databases"][0]["tables"][0]] * (MAX_TABLES + 1)
    with pytest.raises(ObjectCorruptError):
        Proof.parse(body)
