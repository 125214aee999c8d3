"""I6: a chunk's id is a keyed hash of its plaintext; it is computed again on every read."""

import pytest

from coffer.errors import ObjectCorruptError
from coffer.ids import pack_name
from coffer.repository.index import write_segments
from coffer.repository.pack import TYPE_DATA, PackBuilder
from coffer.verification import check, verify
from tests.harness.corrupt import errors_of, hints_of
from tests.harness.keyrings import make_keyring


def put_pack(store, keyring, chunks):
    """Put a pack of (id, plaintext) pairs as a faulty or hostile writer would, and its segment."""
    builder = PackBuilder(keyring)
    for chunk_id, data in chunks:
        builder.add(chunk_id, TYPE_DATA, 0, data, len(data))
    pack = builder.finish()
    store.put(pack_name(pack.pack_id), pack.parts)
    write_segments(store, keyring, [(pack.pack_id, pack.table)])
    return pack


def test_a_frame_that_holds_another_chunk_is_one_error_of_its_pack(history, store):
    """Sealed by the right key at the right place, and still not what its id says: no reader takes it."""
    keyring = history.open(store).keyring
    ids = keyring.ids
    pack = put_pack(store, keyring, [(ids.chunk_id(b"right"), b"right"), (ids.chunk_id(b"claimed"), b"another")])
    repo = history.open(store)
    assert b"right" == repo.reader().read(ids.chunk_id(b"right"), TYPE_DATA)
    with pytest.raises(ObjectCorruptError, match="frame 1 holds another chunk"):
        repo.reader().read(ids.chunk_id(b"claimed"), TYPE_DATA)
    (found,) = errors_of(verify(repo))
    assert (ObjectCorruptError.code, pack_name(pack.pack_id)) == (found.code, found.object)
    assert "frame 1 holds another chunk" in found.message


def test_a_chunk_of_one_file_cannot_stand_in_for_anothers(history, store):
    """The table swapped by whoever holds the keys: each chunk that it misplaces is noticed by its id."""
    repo = history.open(store)
    ids = repo.keyring.ids
    one, two = b"the salary list", b"the shopping list"
    pack = put_pack(store, repo.keyring, [(ids.chunk_id(one), two), (ids.chunk_id(two), one)])
    (found,) = errors_of(verify(history.open(store)))
    assert pack_name(pack.pack_id) == found.object
    assert "frame 0 holds another chunk" in found.message
    assert "frame 1 holds another chunk" in found.message


def test_ids_are_keyed():
    """Who sees ids cannot test whether the repository holds a file: the same bytes have other ids under another key."""
    one, two = make_keyring(), make_keyring(chunk_id=bytes(32))
    assert one.ids.chunk_id(b"known file") != two.ids.chunk_id(b"known file")


def test_ids_outlive_the_epoch():
    """A new root changes no id, or deduplication would end with each epoch."""
    one, two = make_keyring(), make_keyring(root=bytes(32))
    assert one.ids.chunk_id(b"known file") == two.ids.chunk_id(b"known file")


def test_a_chunk_that_nobody_needs_is_no_error(history, store):
    """A pack that is whole and named, of which no snapshot needs a thing."""
    repo = history.open(store)
    put_pack(store, repo.keyring, [(repo.keyring.ids.chunk_id(b"spare"), b"spare")])
    for report in (check(repo), verify(repo)):
        assert ([], []) == (errors_of(report), hints_of(report))
