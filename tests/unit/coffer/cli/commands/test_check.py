"""`coffer check`: structure, told in lines and in findings."""

from __future__ import annotations


def test_a_whole_repository_has_no_error(coffer, repo, tree):
    """Exit code 0, and what was looked at."""
    coffer("backup", tree)
    ended = coffer("check")
    assert (0, "") == (ended.code, ended.err)
    assert ended.out.startswith("no error was found; looked at: ")


def test_a_pack_that_is_missing_is_found(coffer, repo, tree):
    """Exit code 1, the object, and the snapshot that needs it; the same in JSON."""
    coffer("backup", tree)
    for pack in (repo / "packs").rglob("*"):
        if pack.is_file():
            pack.unlink()
    code, line, hint = coffer("check").fault()
    assert 1 == code
    assert line.endswith("found in the repository")
    assert "Keep the repository as it is" in hint
    found = coffer("check", "--json")
    assert ("damage-found", "error") == (found.envelope["error"]["code"], found.result["findings"][0]["severity"])


def test_a_stray_file_is_a_hint(coffer, repo, tree):
    """It is said, and the exit code stays 0."""
    coffer("backup", tree)
    (repo / "notes.txt").write_text("mine")
    ended = coffer("check")
    assert 0 == ended.code
    assert "hint: " in ended.out
