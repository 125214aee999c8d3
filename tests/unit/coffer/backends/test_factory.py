"""From a written location to a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from coffer.backends import Backend, open_backend
from coffer.errors import BackendLocationError


@pytest.mark.parametrize("spelling", [str, Path, Path.as_uri], ids=["path as text", "Path", "file address"])
def test_every_spelling_of_a_folder_opens_it(tmp_path, spelling):
    """Blanks, umlauts and per cent signs in the path come through all spellings."""
    folder = tmp_path / "my bäckups 100%"

    store = open_backend(spelling(folder), create=True)

    store.put("a/1", [b"x"])
    assert b"x" == (folder / "a/1").read_bytes()
    assert isinstance(store, Backend)
    store.close()


def test_the_address_of_a_store_opens_it_again(tmp_path):
    """`url` is a location, for a path of any bytes."""
    first = open_backend(Path(str(tmp_path) + "/odd \udcff%"), create=True)
    first.put("a/1", [b"x"])

    again = open_backend(first.url)

    assert b"x" == again.get("a/1")
    first.close()
    again.close()


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    """Locations also come from files and variables, where no shell expands it."""
    monkeypatch.setenv("HOME", str(tmp_path))

    open_backend("~/backups", create=True).close()

    assert (tmp_path / "backups").is_dir()


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("s3://bucket/prefix", "'s3': not in this version"),
        ("gs://bucket", "'gs': not in this version"),
        ("sftp://user:secret@host/x", "'sftp': unknown"),
        ("file://host/share", "names a machine"),
        ("", "is empty"),
    ],
)
def test_other_locations_are_refused_with_a_hint_and_without_secrets(location, says):
    """What is not a folder of this machine is a location error, which shows no user, password or path."""
    with pytest.raises(BackendLocationError, match=says) as caught:
        open_backend(location, create=True)

    assert caught.value.hint
    assert "secret" not in str(caught.value) + caught.value.hint


def test_opening_a_store_imports_no_more_than_it_needs(tmp_path):
    """The start of the command line pays for it: no ctypes, ssl, asyncio, random or http comes with a local store."""
    program = """if True:
        import sys
        before = set(sys.modules)
        from coffer.backends import open_backend
        store = open_backend(sys.argv[1], create=True)
        store.put("a/1", [b"x"])
        store.get("a/1")
        list(store.list())
        unwanted = {"ctypes", "ssl", "asyncio", "random", "http", "socket", "tempfile"}
        print(sorted(unwanted & (set(sys.modules) - before)))
    """

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "s")], capture_output=True, text=True, check=True, timeout=60
    )

    assert "[]\n" == done.stdout
