"""`coffer find`: names and paths, in one or in all snapshots."""

from __future__ import annotations

import pytest

from coffer.cli.commands.find import compile_pattern
from coffer.errors import ObjectCorruptError
from coffer.repository.blocks import Group
from coffer.repository.manifest import ManifestReader


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.txt", "srv/a.txt", True),
        ("*.txt", "srv/a.txt.gz", False),
        ("srv", "srv/a.txt", False),
        ("/srv/*", "srv/a.txt", True),
        ("srv/*.txt", "srv/deep/a.txt", True),
        ("*/deep/*", "srv/deep/a.txt", True),
        ("/a.txt", "a.txt", True),
        ("a?txt", "srv/aütxt", True),
        ("[ab].txt", "srv/b.txt", True),
        ("*.TXT", "srv/a.txt", False),
        ("*\udcff", "srv/x\udcff", True),
    ],
)
def test_a_pattern_is_a_name_or_with_a_slash_a_path(pattern, path, expected):
    """Characters are characters, not bytes; bytes that are none can be asked for too."""
    folder, _, name = path.encode("utf-8", "surrogateescape").rpartition(b"/")
    group = Group(folder, [name], [(0,) * 9])
    assert expected == compile_pattern(pattern, ignore_case=False)(group, 0)
    assert compile_pattern(pattern.swapcase(), ignore_case=True)(group, 0) or not expected


def test_all_snapshots_are_searched_or_those_that_are_named(coffer, repo, tree):
    """Each match has its snapshot; the sum is at the end."""
    for source in ("a", "b"):
        coffer("backup", tree, "--source", source)
    found = coffer("find", "b.t*", "--json").result
    assert (2, 2, ["a", "b"]) == (found["found"], found["snapshots"], [match["source"] for match in found["matches"]])
    assert (1, 1) == tuple(coffer("find", "b.txt", "latest:a", "--json").result[key] for key in ("found", "snapshots"))
    assert 1 == coffer("find", "B.TXT", "--source", "b", "-i", "--json").result["found"]
    lines = coffer("find", f"{tree}/docs/*").out.splitlines()
    assert "6 matches in 2 snapshots" == lines[-1]
    assert lines[0].endswith("docs/b.txt")


def test_nothing_found_is_no_error(coffer, repo, tree):
    """The answer is none, and the exit code 0."""
    coffer("backup", tree)
    assert (0, "0 matches in 1 snapshot\n") == coffer("find", "nothing")[:2]


def test_snapshots_and_a_source_are_one_too_many(coffer, repo):
    """Which are meant must be clear."""
    assert 2 == coffer("find", "x", "latest", "--source", "a").fault()[0]


def test_a_block_that_several_snapshots_share_is_read_once(coffer, repo, tree, monkeypatch):
    """Where a block holds no match in one snapshot it holds none in the next."""
    coffer("backup", tree)
    read = []
    real = ManifestReader.groups
    monkeypatch.setattr(ManifestReader, "groups", lambda self, block: read.append(block.stable) or real(self, block))
    once = coffer("find", "nothing", "latest", "--json").result
    blocks = len(read)
    twice = coffer("find", "nothing", "latest", "latest", "--json").result
    assert (1, 2) == (once["snapshots"], twice["snapshots"])
    assert 2 * blocks == len(read) > 0


def test_a_damaged_snapshot_keeps_no_other_from_being_searched(coffer, repo, tree, monkeypatch):
    """What of it cannot be read is a warning with its id; the others are searched, and the exit code is 3."""
    for source in ("a", "b"):
        coffer("backup", tree, "--source", source)
    first = coffer("snapshots", "--json").result["snapshots"][0]["id"]
    real = ManifestReader.groups
    calls = []

    def groups(self, block):
        calls.append(block)
        if len(calls) == 1:
            raise ObjectCorruptError("packs/aa: frame 0 failed authentication")
        return real(self, block)

    monkeypatch.setattr(ManifestReader, "groups", groups)
    ended = coffer("find", "b.txt", "--json")
    assert (3, ["b"]) == (ended.code, [match["source"] for match in ended.result["matches"]])
    (warning,) = ended.envelope["warnings"]
    assert f"snapshot {first}: not all of it was searched: " in warning["message"]


@pytest.mark.parametrize("command", [("find", "*"), ("snapshots",)])
def test_a_source_without_snapshots_is_named(coffer, repo, tree, command):
    """A misspelt source is an error that says which there are."""
    coffer("backup", tree, "--source", "docs")
    code, message = coffer(*command, "--source", "dosc").fault()[:2]
    assert (2, True) == (code, "source 'dosc': has no snapshot" in message)
