"""The server that is backed up: how many pages a change touches, and how it archives."""

import subprocess

import pytest

from benchmarks.postgres.cluster import ARCHIVE_SCRIPT, Content, archive_by, page_step


@pytest.mark.parametrize(
    ("pages", "accounts_pages", "expected"),
    [
        (20_000, 17_000, 85),  # 200 pages are one percent
        (20_000, 20_000, 100),
        (50, 40, 40),  # one page at the least
        (10, 0, 1),
    ],
)
def test_the_step_takes_one_percent_of_the_whole_cluster(pages, accounts_pages, expected):
    """Only accounts are updated, so they are stepped over more densely than by a hundred."""
    assert expected == page_step(pages=pages, accounts_pages=accounts_pages)


def test_a_name_tells_what_the_cluster_holds():
    """Results of one content are never mixed with those of another."""
    assert ["blank-100", "text-5"] == [str(Content(100)), str(Content(5, "text"))]


def test_every_tool_gets_each_segment_or_the_server_keeps_it(tmp_path):
    """The script ends with a failure at the first line that fails: the server tries the segment again."""
    archive_by(tmp_path, [f'cp "$1" {tmp_path}/"$2"', "false", f"touch {tmp_path}/never"])
    (tmp_path / "segment").write_bytes(b"wal")

    done = subprocess.run(["sh", tmp_path / ARCHIVE_SCRIPT, tmp_path / "segment", "0001"], check=False)

    assert done.returncode != 0
    assert b"wal" == (tmp_path / "0001").read_bytes()
    assert not (tmp_path / "never").exists()


def test_without_a_tool_segments_are_let_go(tmp_path):
    """Before the repositories are there, nothing waits."""
    archive_by(tmp_path, [])

    assert 0 == subprocess.run(["sh", tmp_path / ARCHIVE_SCRIPT, "a", "b"], check=False).returncode
