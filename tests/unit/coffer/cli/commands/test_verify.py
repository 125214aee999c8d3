"""`coffer verify`: every stored byte."""

from __future__ import annotations

import pytest


def test_all_that_is_stored_is_read(coffer, repo, tree):
    """The summary says how much was authenticated, and how fast."""
    coffer("backup", tree)
    ended = coffer("verify", "--workers", "1")
    assert (0, "") == (ended.code, ended.err)
    assert "were read and authenticated in" in ended.out.splitlines()[-1]
    result = coffer("verify", "--json").result
    stored = sum(path.stat().st_size for path in (repo / "packs").rglob("*") if path.is_file())
    assert stored == result["counts"]["read_bytes"]


@pytest.mark.parametrize("command", ["verify", "restore"])
def test_one_flipped_bit_is_found(coffer, repo, tree, tmp_path, command):
    """Verify names the pack and ends with 1; a restore gives back all but what is damaged and ends with 3."""
    coffer("backup", tree)
    pack = max((path for path in (repo / "packs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[200] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    if command == "verify":
        ended = coffer("verify", "--json")
        assert 1 == ended.code
        assert any(pack.name in finding["object"] for finding in ended.result["findings"])
    else:
        ended = coffer("restore", "latest", "-t", tmp_path / "out", "--json")
        assert (3, True) == (ended.code, ended.result["failures_count"] > 0)
