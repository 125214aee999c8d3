"""The record of a database, and the statements that copy its tables."""

import json

import pytest

from coffer.errors import FormatVersionError, ObjectCorruptError
from coffer.postgres.logical_record import (
    DatabaseRecord,
    PartitionedRecord,
    SequenceRecord,
    TableRecord,
    folder_of,
)

TABLE = TableRecord(7, "s", 'odd "t"', ("a", "b c"), above=(5, 4), root=("s", "top"), objects=((1259, 7), (2606, 9)))
RECORD = DatabaseRecord(
    name="sales ü",
    version=150018,
    encoding="UTF8",
    properties={"datcollate": "C"},
    settings=("work_mem=5MB",),
    lsn="0/1",
    large_objects=True,
    whole=True,
    tables=(TABLE,),
    partitioned=(PartitionedRecord(5, "s", "mid", (4,), ((1259, 5),)),),
    sequences=(SequenceRecord(8, "s", "seq", -3, is_called=False, owner=7),),
)


def test_a_record_comes_back():
    """What was encoded is decoded, tuples and all; the same record has the same bytes."""
    assert RECORD == DatabaseRecord.decode(RECORD.encode(), "x")
    assert RECORD.encode() == DatabaseRecord.decode(RECORD.encode(), "x").encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.pop("tables"),
        lambda fields: fields.update(tables=[{"oid": 1}]),
        lambda fields: fields.update(tables=3),
        lambda fields: fields.update(more=1),
        lambda fields: fields["tables"][0].update(objects=[["x", "y"]]),
        lambda fields: fields.pop("format"),
    ],
)
def test_a_damaged_record_is_told(change):
    """Missing, odd or unknown fields are damage."""
    fields = json.loads(RECORD.encode())
    change(fields)
    with pytest.raises(ObjectCorruptError, match="x: is no record"):
        DatabaseRecord.decode(json.dumps(fields).encode(), "x")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"{}"])
def test_what_is_no_json_object_is_damage(data):
    """Whatever stands there, the answer is an error of the tree."""
    with pytest.raises(ObjectCorruptError):
        DatabaseRecord.decode(data, "x")


def test_a_newer_format_is_told_as_such():
    """It is not damage: a newer Coffer wrote it."""
    fields = json.loads(RECORD.encode()) | {"format": 2}
    with pytest.raises(FormatVersionError, match="format 2"):
        DatabaseRecord.decode(json.dumps(fields).encode(), "x")


def test_a_table_is_copied_by_its_columns():
    """Columns are named, so that generated and dropped ones do not matter; the encoding is the file's."""
    assert TABLE.copy_out("LATIN1") == 'COPY "s"."odd ""t""" ("a", "b c") TO STDOUT WITH (ENCODING \'LATIN1\')'


def test_a_partition_that_is_not_safe_is_loaded_through_its_root():
    """Its rows may belong to another partition on another server."""
    assert TABLE.copy_in("UTF8") == 'COPY "s"."top" ("a", "b c") FROM STDIN WITH (ENCODING \'UTF8\')'


def test_a_table_without_columns_has_no_list():
    """An empty list would be a mistake of syntax."""
    bare = TableRecord(1, "s", "t", ())
    assert bare.copy_out("UTF8") == 'COPY "s"."t" TO STDOUT WITH (ENCODING \'UTF8\')'
    assert bare.copy_in("UTF8") == 'COPY "s"."t" FROM STDIN WITH (ENCODING \'UTF8\')'


def test_an_extensions_table_is_copied_by_its_condition():
    """Only the rows that the extension does not make itself."""
    table = TableRecord(1, "s", "t", ("a)", "b"), condition="WHERE NOT own", extension="e")
    assert table.copy_out("UTF8").startswith('COPY (SELECT "a)", "b" FROM ONLY "s"."t" WHERE NOT own) TO STDOUT')


def test_no_database_takes_the_place_of_the_roles():
    """A database may be called globals.sql, or dot dot."""
    assert folder_of("globals.sql") == "globals%2Esql"
    assert folder_of("..") == "%2E%2E"
    assert folder_of("a/b") == "a%2Fb"
