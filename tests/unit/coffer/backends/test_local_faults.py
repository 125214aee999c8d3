"""The local store when the system fails at any of its calls, or the process is killed there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from coffer.backends.local import LocalBackend
from coffer.errors import (
    BackendAccessError,
    BackendFullError,
    BackendLocationError,
    BackendUnavailableError,
    CofferError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from tests.harness.syscalls import ScriptedCalls, fail_with, scripted

PROJECT = Path(__file__).resolve().parents[4]
PARTS = [b"one", b"two" * 3000, b"three"]
WHOLE = b"".join(PARTS)

ERROR_OF = {
    errno.ENOSPC: BackendFullError,
    errno.EDQUOT: BackendFullError,
    errno.EFBIG: BackendFullError,
    errno.EROFS: BackendAccessError,
    errno.EACCES: BackendAccessError,
    errno.EPERM: BackendAccessError,
    errno.EXDEV: BackendLocationError,
    errno.EIO: BackendUnavailableError,
    errno.ESTALE: BackendUnavailableError,
    errno.ENOTCONN: BackendUnavailableError,
    errno.ETIMEDOUT: BackendUnavailableError,
    errno.EMFILE: BackendUnavailableError,
}


@pytest.fixture
def store(tmp_path):
    backend = LocalBackend(tmp_path / "store", create=True)
    yield backend
    backend.close()


class _AllStale(ScriptedCalls):
    def wrap(self, name, real):
        return lambda *_, **__: fail_with(errno.ESTALE)(name)


def _check_whole_or_absent(store: LocalBackend, name: str) -> bool:
    """Assert that the object is there whole, listed and read-only, or not at all; return whether it is there."""
    listed = [info.name for info in store.list()]
    try:
        data = store.get(name)
    except ObjectNotFoundError:
        assert [] == listed
        return False
    assert WHOLE == data
    assert [name] == listed
    return True


class TestEveryCallFails:
    @pytest.mark.parametrize("number", ERROR_OF, ids=errno.errorcode.get)
    @pytest.mark.parametrize("after", [False, True], ids=["without effect", "after its effect"])
    def test_a_put_fails_cleanly_whichever_call_fails(self, tmp_path, number, after):
        """At every system call of a put: a typed error or success, never half an object, and the next put works."""
        counting = LocalBackend(tmp_path / "count", create=True)
        with scripted(ScriptedCalls()) as counted:
            counting.put("packs/ab/1", PARTS)
        counting.close()
        assert {"open", "mkdir", "writev", "fsync", "link", "unlink"} <= set(counted.made)

        for at in range(len(counted.made)):
            store = LocalBackend(tmp_path / f"at{at}", create=True)
            failure = None
            with scripted(ScriptedCalls(fail_with(number), at, after=after)):
                try:
                    store.put("packs/ab/1", PARTS)
                except CofferError as error:
                    failure = error
            is_there = _check_whole_or_absent(store, "packs/ab/1")
            if failure is None or isinstance(failure, ObjectExistsError):
                assert is_there
            elif not isinstance(failure, BackendUnavailableError) and not after:
                assert not is_there, f"{failure} at {counted.made[at]}, yet the object is there"
            if is_there:
                with pytest.raises(ObjectExistsError):
                    store.put("packs/ab/1", PARTS)
            else:
                store.put("packs/ab/1", PARTS)
            assert _check_whole_or_absent(store, "packs/ab/1")
            store.close()

    @pytest.mark.parametrize(("number", "kind"), ERROR_OF.items(), ids=[errno.errorcode[key] for key in ERROR_OF])
    @pytest.mark.parametrize("name", ["writev", "fsync"])
    def test_each_errno_of_writing_has_its_error(self, store, number, kind, name):
        """Full, refused and unanswered are told apart, the message names object and errno, nothing is stored."""
        store.put("packs/ab/0", [])
        with (
            scripted(ScriptedCalls(fail_with(number), 0), (name,)),
            pytest.raises(kind, match=rf"'packs/ab/1'.*{errno.errorcode[number]}") as caught,
        ):
            store.put("packs/ab/1", PARTS)

        assert number == caught.value.details["errno"]
        assert caught.value.hint
        assert ["packs/ab/0"] == [info.name for info in store.list()]
        assert [] == os.listdir(store._root / ".tmp")

    @pytest.mark.parametrize(
        ("act", "what"),
        [
            (lambda store: store.get("packs/ab/1"), "read"),
            (lambda store: store.get("packs/ab/1", 1, 2), "read"),
            (lambda store: store.stat("packs/ab/1"), "looked up"),
            (lambda store: list(store.list("packs/ab/")), "listed"),
            (lambda store: store.delete("packs/ab/1"), "deleted"),
        ],
        ids=["get", "ranged get", "stat", "list", "delete"],
    )
    def test_reads_and_deletes_fail_cleanly_whichever_call_fails(self, store, act, what):
        """EIO at any call of a read, listing or delete is 'unavailable' (and never 'not found'); the next try works."""
        store.put("packs/ab/1", PARTS)
        with scripted(ScriptedCalls()) as counted:
            act(store)
        assert counted.made
        messages = []

        for at in range(len(counted.made)):
            store._handles.clear()
            store.delete("packs/ab/1")
            store.put("packs/ab/1", PARTS)
            with scripted(ScriptedCalls(fail_with(errno.EIO), at)):
                try:
                    act(store)
                except BackendUnavailableError as error:
                    messages.append(str(error))
            act(store)
        assert messages
        assert all(f"cannot be {what}" in message for message in messages)

    def test_a_put_is_durable_before_it_is_seen_and_before_it_returns(self, store):
        """The order of calls: new folder, its parent synced; data, file synced; name given, folder synced."""
        with scripted(ScriptedCalls()) as first:
            store.put("packs/ab/1", PARTS)
        with scripted(ScriptedCalls()) as second:
            store.put("packs/ab/2", PARTS)

        lasting = ("mkdir", "writev", "fsync", "link")
        made, found = ["mkdir", "fsync"], ["writev", "fsync", "link", "fsync"]
        assert made * 3 + found == [call for call in first.made if call in lasting]
        assert found == [call for call in second.made if call in lasting]

    def test_a_folder_made_by_another_is_synced_once(self, store):
        """Its maker may have been killed before it came to that."""
        store.put("packs/ab/1", PARTS)
        other = LocalBackend(store._root)

        synced = []
        for number in (2, 3):
            with scripted(ScriptedCalls(), ("fsync",)) as calls:
                other.put(f"packs/ab/{number}", PARTS)
            synced.append(len(calls.made))

        assert [2 + 3, 2] == synced
        other.close()

    def test_who_is_told_that_a_name_is_taken_may_rely_on_it(self, store):
        """The folder is synced before 'exists' is said: the winner may not have come to it yet."""
        store.put("packs/ab/1", PARTS)
        with scripted(ScriptedCalls(), ("fsync", "writev")) as calls, pytest.raises(ObjectExistsError):
            store.put("packs/ab/1", PARTS)

        assert ["fsync"] == calls.made

    def test_a_folder_that_could_not_be_synced_leaves_it_open(self, store):
        """After the name was given, a failed fsync of the folder is 'unavailable', whatever its errno says."""
        store.put("packs/ab/0", [])
        with (
            scripted(ScriptedCalls(fail_with(errno.ENOSPC), 1), ("fsync",)),
            pytest.raises(BackendUnavailableError, match="could not be synced"),
        ):
            store.put("packs/ab/1", PARTS)

        assert WHOLE == store.get("packs/ab/1")

    def test_a_file_of_another_length_is_not_published(self, store, monkeypatch):
        """Where the system says it wrote what the file does not have, the object is not given its name."""
        monkeypatch.setattr(os, "writev", lambda fd, views: sum(view.nbytes for view in views))

        with pytest.raises(BackendUnavailableError, match=f"{len(WHOLE)} bytes were written, the file has 0"):
            store.put("packs/ab/1", PARTS)

        assert [] == list(store.list())

    def test_a_root_that_does_not_answer_is_unavailable(self, store):
        """A stale network mount (ESTALE everywhere) is neither 'removed' nor 'not found'."""
        for call in (lambda: store.put("a/b", []), lambda: store.get("a/b"), lambda: list(store.list())):
            with scripted(_AllStale(), ("open", "fstat")), pytest.raises(BackendUnavailableError, match="ESTALE"):
                call()
