"""Settings of a recovery: quoted, in an order that counts, and written over those of an earlier restore."""

import pytest

from coffer.postgres.lsn import Lsn
from coffer.postgres.record import ClusterRecord
from coffer.restore.cluster.plan import StopAt
from coffer.restore.cluster.settings import (
    BEGIN,
    END,
    minimal_configuration,
    quote,
    recovery_settings,
    strayed_settings,
    with_settings,
)

STOP = StopAt("recovery_target_name", "it's", 1, Lsn(0x3000000), "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "''"),
        ("plain", "'plain'"),
        ("it's", "'it''s'"),
        ("a\\b", "'a\\\\b'"),
        ("two\nlines\tand\rmore", "'two\\nlines\\tand\\rmore'"),
        ("é #", "'é #'"),
    ],
)
def test_values_are_quoted_as_the_server_reads_them(value, expected):
    """A quote is doubled, a backslash too, and no value ends its line."""
    assert expected == quote(value)


def test_the_target_stands_behind_the_empty_ones_and_further_settings_last():
    """An empty target that came later would take the real one back."""
    found = recovery_settings(STOP, action="pause", restore_command="false", keep_archiving=False, more={"a": "b"})
    names = [name for name, _ in found]
    empties = {"recovery_target", "recovery_target_lsn", "recovery_target_time", "recovery_target_xid"}
    assert all(names.index(name) < names.index("recovery_target_name") for name in empties)
    assert {""} == {value for name, value in found if name in empties}
    assert ("a", "b") == found[-1]
    assert ("archive_mode", "off") in found
    keeping = recovery_settings(STOP, action="pause", restore_command="false", keep_archiving=True, more={})
    assert "archive_mode" not in dict(keeping)


def test_ours_are_written_behind_what_is_there_and_once():
    """The last line of a name counts; a second restore replaces the block of the first."""
    first = with_settings("work_mem = '8MB'", [("a", "1")])
    assert f"work_mem = '8MB'\n{BEGIN}\na = '1'\n{END}\n" == first
    second = with_settings(first + "b = '3'\n", [("a", "2")])
    assert f"work_mem = '8MB'\nb = '3'\n{BEGIN}\na = '2'\n{END}\n" == second
    assert f"{BEGIN}\n{END}\n" == with_settings("", [])


def test_a_made_up_configuration_has_what_the_recovery_needs():
    """And names the file that it stands for, in one line whatever its name."""
    record = ClusterRecord("15.18", settings={"max_connections": "300", "work_mem": "8MB", "config_file": "/etc/a\nb"})
    text = minimal_configuration(record)
    assert "max_connections = '300'\n" in text
    assert "work_mem" not in text
    assert "/etc/a\\nb" in text
    assert "max_wal_senders" not in text
    assert "outside the data folder" in minimal_configuration(ClusterRecord(""))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("data_directory = '/var/lib/x'", {"data_directory": "/var/lib/x"}),
        ("  HBA_FILE '/etc/x'  # comment", {"hba_file": "/etc/x"}),
        ("ident_file=/etc/y", {"ident_file": "/etc/y"}),
        ("#data_directory = '/x'", {}),
        ("data_directory = ''", {}),
        ("listen_addresses = '*'", {}),
        ("hba_file = '/a'\nhba_file = '/b'", {"hba_file": "/b"}),
    ],
)
def test_what_leads_to_the_files_of_the_original_is_seen(line, expected):
    """As the server reads it: any case, with or without an equals sign and quotes, the last one counts."""
    assert expected == strayed_settings(line)
