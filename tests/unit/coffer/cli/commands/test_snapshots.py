"""`coffer snapshots`: what there is, and what cannot be read."""

from __future__ import annotations


def test_an_empty_repository_has_none(coffer, repo):
    """No table, a count."""
    assert (0, "0 snapshots\n", "") == coffer("snapshots")


def test_they_are_listed_oldest_first_and_by_source(coffer, repo, tree):
    """A line each, with what it holds and what it added; --source leaves out the others."""
    for source in ("a", "b", "a"):
        coffer("backup", tree, "--source", source)
    lines = coffer("snapshots").out.splitlines()
    assert ["id", "finished", "(UTC)", "source", "host", "files", "size", "added"] == lines[0].split()
    assert ["a", "b", "a"] == [line.split()[3] for line in lines[1:4]]
    assert "3 snapshots" == lines[4]
    assert ["1 snapshot"] == coffer("snapshots", "--source", "b").out.splitlines()[2:]
    found = coffer("snapshots", "--json").result["snapshots"]
    assert (["a", "b", "a"], [1, 1, 2]) == ([s["source"] for s in found], [s["sequence"] for s in found])
    assert found[0]["started"] <= found[1]["started"]


def test_one_that_the_store_has_lost_is_told(coffer, repo, tree, tmp_path):
    """By every command that looks for the newest, with exit code 3; a backup is made all the same."""
    coffer("backup", tree, "--source", "a")
    coffer("backup", tree, "--source", "a")
    lost = coffer("snapshots", "--json").result["snapshots"][1]["object"]
    (repo / lost).unlink()
    commands = (
        ("snapshots",),
        ("restore", "latest", "--target", tmp_path / "plan", "--dry-run"),
        ("restore", "latest", "--target", tmp_path / "out"),
        ("backup", tree, "--source", "a"),
    )
    for command in commands:
        ended = coffer(*command, "--json")
        told = [(w["code"], w["message"].split(":")[0]) for w in ended.envelope["warnings"]]
        assert (3, [("chain-broken", lost)]) == (ended.code, told), command
    assert "chain-broken" == coffer("ls", "latest:a", "--json").envelope["warnings"][0]["code"]


def test_one_that_is_damaged_hides_none_of_the_others(coffer, repo, tree):
    """It is a warning that names the object, the rest is listed, and the exit code is 3."""
    coffer("backup", tree, "--source", "a")
    coffer("backup", tree, "--source", "b")
    name = coffer("snapshots", "--json").result["snapshots"][0]["object"]
    (repo / name).chmod(0o600)
    (repo / name).write_bytes(b"x" * 200)
    ended = coffer("snapshots", "--json")
    assert (3, ["b"]) == (ended.code, [s["source"] for s in ended.result["snapshots"]])
    assert name in ended.envelope["warnings"][0]["message"]
    assert "coffer: warning: " in coffer("snapshots").err
    assert 3 == coffer("stats").code
    assert 3 == coffer("find", "a.txt").code
