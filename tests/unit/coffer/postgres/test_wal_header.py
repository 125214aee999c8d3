"""A WAL segment says which one it is; another one under its name is found."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coffer.errors import SourceFormatError
from coffer.postgres.wal_header import HEADER_BYTES, parse_wal_header, require_segment


@pytest.fixture(scope="module")
def segments(servers):
    """Segments that a real server wrote, by name, and its system identifier and version."""
    server = servers.start()
    server.sql("SELECT pg_switch_wal()")
    server.sql("CREATE TABLE t (n int)")
    found = {
        path.name: path.read_bytes()[:HEADER_BYTES]
        for path in (server.data / "pg_wal").iterdir()
        if re.fullmatch("[0-9A-F]{24}", path.name)
    }
    current = server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    system_id = server.value("SELECT system_identifier FROM pg_control_system()")
    return found, current, system_id, server.installation.major


def test_a_real_segment_is_what_its_name_says(segments):
    """System identifier, timeline, position and sizes are the server's."""
    found, current, system_id, major = segments
    header = parse_wal_header(found[current], current)
    assert (system_id, 1, 16 << 20, 8192) == (
        header.system_id,
        header.timeline,
        header.segment_bytes,
        header.page_bytes,
    )
    assert header.major in (major, None)
    assert current == require_segment(header, current, system_id).name(header.segment_bytes)


def test_another_clusters_segment_is_refused(segments):
    """Both identifiers are named."""
    found, current, system_id, _ = segments
    with pytest.raises(SourceFormatError, match=f"is of cluster {system_id}, expected 42"):
        require_segment(parse_wal_header(found[current], current), current, 42)


def test_another_segment_under_the_name_is_refused(segments):
    """As a file that the server keeps to use it again."""
    found, current, system_id, _ = segments
    other = current[:-1] + ("0" if current[-1] != "0" else "1")
    with pytest.raises(SourceFormatError, match="and not what its name says"):
        require_segment(parse_wal_header(found[current], other), other, system_id)


@given(st.binary(max_size=60))
def test_no_bytes_lead_to_another_error(data):
    """Garbage gives the typed error and nothing else."""
    with pytest.raises(SourceFormatError):
        parse_wal_header(data, "x")
