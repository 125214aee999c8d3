"""Every stored vector gives what it says: its plaintext, or one typed error."""

import hashlib
import json
from pathlib import Path

import pytest

from coffer.errors import CofferError
from tests.vectors import make_vectors
from tests.vectors.parsing import released

DATA = Path(__file__).resolve().parent / "data"
FILES = sorted(DATA.rglob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_vector_gives_what_it_says(path):
    """The SHA-256 of what is released, or the code of the error; of a refused vector nothing is released."""
    vector = json.loads(path.read_text())
    if vector["expect"] == "ok":
        assert vector["plaintext_sha256"] == hashlib.sha256(released(vector)).hexdigest()
        return
    with pytest.raises(CofferError) as caught:
        released(vector)
    assert vector["expect"] == caught.value.code, caught.value


def test_every_kind_of_object_has_whole_and_defective_vectors():
    """Or a parser that refuses everything, or takes everything, would pass."""
    found = {(path.parent.name, json.loads(path.read_text())["expect"] == "ok") for path in FILES}
    parsers = ("key-file", "pack", "sealed", "segment", "settings", "snapshot", "wrapped-key")
    assert {(parser, whole) for parser in parsers for whole in (True, False)} == found
    assert len(FILES) > 100


def test_the_vectors_are_those_that_the_script_writes(tmp_path, monkeypatch):
    """Byte for byte: nobody has edited one by hand, and the script still makes the same."""
    monkeypatch.setattr(make_vectors, "DATA", tmp_path)
    make_vectors.main()
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert {path.relative_to(DATA): path.read_bytes() for path in FILES} == made
