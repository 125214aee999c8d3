"""`coffer ls`: a folder, a file, or everything below."""

from __future__ import annotations

import pytest

from coffer.backends.local import LocalBackend
from coffer.crypto.kek import KeyFileUnlocker
from coffer.repository.repository import Repository


def names(ended, tree):
    """The listed paths below the tree."""
    prefix = str(tree).lstrip("/")
    return [entry["path"].removeprefix(prefix).lstrip("/") for entry in ended.result["entries"]]


@pytest.fixture
def backed_up(coffer, repo, tree):
    """The tree, in one snapshot of the source `s`."""
    coffer("backup", tree, "--source", "s")
    return tree


def test_a_folder_is_listed_with_what_is_directly_in_it(coffer, backed_up):
    """Sorted by name, nothing of what is below."""
    assert ["a.txt", "docs", "link"] == names(coffer("ls", "latest", backed_up, "--json"), backed_up)
    assert ["docs/b.txt", "docs/deep"] == names(coffer("ls", "latest", f"{backed_up}/docs/", "--json"), backed_up)


def test_without_a_path_the_top_is_listed(coffer, backed_up):
    """The first folder on the way to the tree."""
    top = backed_up.parts[1]
    assert [top] == [entry["path"] for entry in coffer("ls", "latest:s", "--json").result["entries"]]


def test_a_file_is_listed_itself(coffer, backed_up):
    """So is anything else that is no folder."""
    assert ["a.txt"] == names(coffer("ls", "latest", backed_up / "a.txt", "--json"), backed_up)
    line = coffer("ls", "latest", backed_up / "link").out
    assert line.endswith(f"{backed_up}/link -> a.txt\n")
    assert line.startswith("lrwxrwxrwx")


def test_recursive_lists_everything_below(coffer, backed_up):
    """The folder itself first."""
    expected = ["docs", "docs/b.txt", "docs/deep", "docs/deep/c.bin"]
    assert expected == names(coffer("ls", "-R", "latest", backed_up / "docs", "--json"), backed_up)
    assert 6 + len(backed_up.parts) - 1 == len(coffer("ls", "-R", "latest").out.splitlines())


def test_a_path_that_is_not_there_is_a_usage_error(coffer, backed_up):
    """The message names the path as it is in the snapshot."""
    code, line, hint = coffer("ls", "latest", "/no/where").fault()
    assert (2, "path /no/where: not in the snapshot") == (code, line)
    assert "coffer find" in hint


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("latest:nobody", "snapshot-not-found", "there is none of source 'nobody'"),
        ("latest:s@2020-01-01", "snapshot-not-found", "until 2020-01-01"),
        ("latest:s@soon", "snapshot-not-found", "not of the form 2026-11-01"),
        ("xyz", "snapshot-not-found", "not an id (hex digits)"),
        ("0123456789abcdef", "snapshot-not-found", "there is none"),
    ],
)
def test_a_snapshot_that_is_not_there_is_a_usage_error(coffer, backed_up, name, code, said):
    """Every spelling of a snapshot says what does not fit."""
    ended = coffer("ls", name, "--json")
    assert (2, code) == (ended.code, ended.envelope["error"]["code"])
    assert said in ended.envelope["error"]["message"]


def test_a_snapshot_is_named_by_a_prefix_or_a_date(coffer, backed_up):
    """The first digits of its id, if no other begins so; the newest until the end of a day."""
    found = coffer("snapshots", "--json").result["snapshots"][0]
    for name in (found["id"], found["id"][:3], "latest", "latest:s", "latest:s@2999-12-31", "latest@2999-12-31T10:00"):
        assert found["id"] == coffer("ls", name, "--json").result["snapshot"]["id"]


def test_a_prefix_of_several_is_refused(coffer, backed_up):
    """Sixteen more snapshots: two of the seventeen begin alike."""
    for _ in range(16):
        coffer("backup", backed_up / "docs", "--source", "s")
    ids = [snapshot["id"] for snapshot in coffer("snapshots", "--json").result["snapshots"]]
    digit = next(digit for digit in "0123456789abcdef" if sum(i.startswith(digit) for i in ids) > 1)
    ended = coffer("ls", digit, "--json")
    assert (2, "snapshot-ambiguous") == (ended.code, ended.envelope["error"]["code"])


def test_every_folder_of_a_large_tree_is_listed_whole(coffer, repo, tmp_path):
    """Also folders that begin, end or lie across blocks of a manifest: the same as all entries, sorted by folder."""
    root = tmp_path / "large"
    for number in range(30):
        folder = root / f"{number % 3}" / f"{number:02}-" / "x"
        folder.mkdir(parents=True)
        for file in range(4000 if number == 7 else 60):
            (folder / f"{file:04}").touch()
    coffer("backup", root)
    listed = {}
    for entry in coffer("ls", "-R", "latest", "--json").result["entries"]:
        listed.setdefault(entry["path"].rpartition("/")[0], []).append(entry["path"])
    snapshot = Repository.open(LocalBackend(repo), KeyFileUnlocker.load(repo.with_name("repo.key")))
    manifest = snapshot.manifest(snapshot.resolve("latest"))
    assert len(manifest.root.blocks) > 1
    for folder, paths in listed.items():
        assert paths == [entry.path.decode() for entry in manifest.children(folder.encode())]
    assert [] == list(manifest.children(b"no/such"))
