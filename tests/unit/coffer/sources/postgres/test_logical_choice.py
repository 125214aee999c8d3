"""Which tables a logical backup takes."""

import pytest

from coffer.errors import UsageError
from coffer.sources.postgres.connection import PostgresConnection
from coffer.sources.postgres.logical_choice import Choice
from coffer.sources.postgres.logical_spec import LogicalSource


def choice(**patterns):
    return Choice.of(LogicalSource("x", PostgresConnection("h"), **patterns))


def test_without_patterns_everything_is_taken():
    """A backup of the whole database."""
    whole = choice()
    assert whole.is_everything
    assert whole.takes(("s", "t"), [])
    assert whole.takes_data("s", "t")


def test_a_partition_is_taken_with_the_table_it_is_part_of():
    """The partitioned table was named: its data is in its partitions."""
    some = choice(tables=("s.top",))
    assert not some.is_everything
    assert some.takes(("s", "leaf"), [("s", "mid"), ("s", "top")])
    assert not some.takes(("s", "leaf"), [("s", "mid")])


def test_what_is_left_out_wins():
    """A table that fits both is left out; so is a partition of one that is."""
    some = choice(tables=("s.*",), exclude=("s.secret",))
    assert some.takes(("s", "t"), [])
    assert not some.takes(("s", "secret"), [])
    assert not some.takes(("s", "leaf"), [("s", "secret")])


def test_data_can_be_left_out_alone():
    """The table is taken, its rows are not."""
    some = choice(exclude_data=("log_*",))
    assert some.takes(("s", "log_1"), [])
    assert not some.takes_data("s", "log_1")


@pytest.mark.parametrize("field", ["tables", "exclude", "exclude_data"])
def test_a_pattern_that_is_none_is_refused(field):
    """Before any server is asked."""
    with pytest.raises(UsageError):
        choice(**{field: ("a.b.c",)})
