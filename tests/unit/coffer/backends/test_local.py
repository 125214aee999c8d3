"""What the local store does beyond the contract: modes, folders, foreign files, symbolic links, vanishing roots."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from coffer.backends.base import Backend
from coffer.backends.local import OPEN_PACKS, LocalBackend
from coffer.errors import (
    BackendLocationError,
    ObjectExistsError,
    ObjectNameInvalidError,
    ObjectNotFoundError,
    ShortReadError,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "store"


@pytest.fixture
def store(root: Path):
    backend = LocalBackend(root, create=True)
    yield backend
    backend.close()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _names(store: Backend, prefix: str = "") -> list[str]:
    return [info.name for info in store.list(prefix)]


class TestOpening:
    def test_a_missing_root_is_not_made_unasked(self, root):
        """Without `create` a missing folder is an error, and still missing afterwards: it may be an unmounted disk."""
        with pytest.raises(BackendLocationError, match="does not exist"):
            LocalBackend(root)

        assert not root.exists()
        assert not root.parent.exists()

    def test_create_makes_root_and_parents_private(self, root):
        """Root and missing parents get mode 0700."""
        LocalBackend(root, create=True).close()

        assert 0o700 == _mode(root)
        assert 0o700 == _mode(root.parent)

    def test_create_takes_a_root_that_is_there(self, store, root):
        """A second create opens the same store and changes nothing."""
        store.put("a/b", [b"x"])

        again = LocalBackend(root, create=True)

        assert b"x" == again.get("a/b")
        again.close()

    @pytest.mark.parametrize("create", [False, True])
    def test_a_file_is_no_root(self, tmp_path, create):
        """A file where the root should be, or above it, is reported as such and stays."""
        (tmp_path / "file").write_bytes(b"kept")

        for root in (tmp_path / "file", tmp_path / "file" / "store"):
            with pytest.raises(BackendLocationError, match="is not a folder"):
                LocalBackend(root, create=create)

        assert b"kept" == (tmp_path / "file").read_bytes()

    def test_the_root_may_be_reached_through_a_symbolic_link(self, store, root, tmp_path):
        """How the user names the place is the user's matter: links above and at the root are followed."""
        (tmp_path / "link").symlink_to(root)
        store.put("a/b", [b"x"])

        linked = LocalBackend(tmp_path / "link")

        assert b"x" == linked.get("a/b")
        linked.close()

    def test_a_relative_root_stays_where_it_was(self, tmp_path, monkeypatch):
        """The root is taken at opening; a later change of the working folder does not move the store."""
        monkeypatch.chdir(tmp_path)
        store = LocalBackend(Path("store"), create=True)

        monkeypatch.chdir("/")
        store.put("a/b", [b"x"])

        assert b"x" == (tmp_path / "store/a/b").read_bytes()
        assert (tmp_path / "store").as_uri() == store.url
        store.close()

    def test_a_closed_store_says_so(self, store):
        """Using it after close is the program's mistake, and never reaches some other file's descriptor."""
        store.close()

        with pytest.raises(ValueError, match="closed"):
            store.get("a/b")


class TestFiles:
    def test_objects_are_plain_read_only_files_below_the_root(self, store, root):
        """An object is the file of its name, mode 0400, in folders of mode 0700; no temporary is left."""
        store.put("packs/ab/abcd", [b"one", b"two"])

        assert b"onetwo" == (root / "packs/ab/abcd").read_bytes()
        assert 0o400 == _mode(root / "packs/ab/abcd")
        assert [0o700, 0o700, 0o700] == [_mode(root / name) for name in ("packs", "packs/ab", ".tmp")]
        assert [] == list((root / ".tmp").iterdir())
        assert 1 == (root / "packs/ab/abcd").stat().st_nlink

    def test_a_wide_umask_does_not_open_objects_to_others(self, store, root):
        """With umask 0 modes are still 0400 and 0700."""
        before = os.umask(0)
        try:
            store.put("packs/ab/1", [b"x"])
        finally:
            os.umask(before)

        assert [0o400, 0o700] == [_mode(root / "packs/ab/1"), _mode(root / "packs/ab")]

    def test_a_name_cannot_be_object_and_folder(self, store):
        """Such a put is refused either way round, and what was there stays."""
        store.put("a/b", [b"x"])

        with pytest.raises(ObjectNameInvalidError, match="not a folder"):
            store.put("a/b/c", [b"y"])
        with pytest.raises(ObjectNameInvalidError, match="a folder of that name"):
            store.put("a", [b"y"])

        assert ["a/b"] == _names(store)

    def test_a_put_onto_a_taken_name_writes_nothing(self, store, root, monkeypatch):
        """64 MB are not written to find out in the end that the name was taken all along."""
        store.put("a/b", [b"x"])
        monkeypatch.setattr(os, "writev", lambda *_: pytest.fail("data was written"))

        with pytest.raises(ObjectExistsError):
            store.put("a/b", [b"y"])

    def test_descriptors_are_given_back(self, store):
        """100 puts, reads, listings, look-ups and deletes, failing ones among them, leave none open but the cache's."""
        before = len(os.listdir("/proc/self/fd"))

        for number in range(100):
            store.put(f"packs/ab/{number}", [b"12345"])
            store.get(f"packs/ab/{number}")
            store.get(f"packs/ab/{number}", 1, 2)
            store.stat(f"packs/ab/{number}")
            next(store.list())
            for name in ("packs/ab/none", "none/none", "packs/ab"):
                with pytest.raises(ObjectNotFoundError):
                    store.get(name)
                with pytest.raises(ObjectNotFoundError):
                    store.get(name, 0, 1)
            with pytest.raises(ObjectExistsError):
                store.put(f"packs/ab/{number}", [b"y"])
            with pytest.raises(ShortReadError):
                store.get(f"packs/ab/{number}", 4, 2)
            if number % 2 == 0:
                store.delete(f"packs/ab/{number}")
        assert before + OPEN_PACKS == len(os.listdir("/proc/self/fd"))

        store.close()
        assert before - 1 == len(os.listdir("/proc/self/fd"))


class TestForeignFiles:
    def test_what_systems_make_themselves_is_passed_over(self, store, root):
        """Names with a dot, lost+found and the folders of file servers are neither listed nor in the way."""
        store.put("packs/ab/1", [b"x"])
        (root / "lost+found").mkdir(mode=0)
        (root / ".DS_Store").write_bytes(b"")
        (root / "packs/@eaDir").mkdir()
        (root / "packs/@eaDir/Thing").write_bytes(b"")
        (root / "packs/ab/.nfs0001").write_bytes(b"")

        assert ["packs/ab/1"] == _names(store)

    @pytest.mark.parametrize(
        ("stray", "named"),
        [
            ("Notes.txt", "'Notes.txt'"),
            ("packs/ab/1 (copy)", r"'packs/ab/1 \(copy\)'"),
            ("packs/AB/1", "'packs/AB'"),
            ("packs/a/b/c/d", "'packs/a/b/c/d'"),
            ("packs/é", "'packs/é'"),
        ],
    )
    def test_a_stray_name_is_reported_when_a_listing_comes_to_it(self, store, root, stray, named):
        """A file or folder outside the alphabet fails the listing, by name; a prefix that leaves it out works."""
        store.put("snapshots/1", [b"x"])
        (root / stray).parent.mkdir(parents=True, exist_ok=True)
        (root / stray).write_bytes(b"")

        with pytest.raises(ObjectNameInvalidError, match=named):
            list(store.list())

        assert ["snapshots/1"] == _names(store, "snapshots/")

    def test_a_name_that_is_not_utf8_is_reported(self, store, root):
        """Its bytes are shown escaped, so that the message can be printed anywhere."""
        with open(os.fsencode(root) + b"/bad\xff", "wb"):
            pass

        with pytest.raises(ObjectNameInvalidError, match=r"bad\\udcff"):
            list(store.list())

    def test_only_regular_files_are_objects(self, store, root, tmp_path):
        """Links, fifos and sockets under a valid name are not found, not listed, not followed and not deleted."""
        (tmp_path / "secret").write_bytes(b"secret")
        store.put("packs/ab/1", [b"x"])
        (root / "packs/ab/2").symlink_to(tmp_path / "secret")
        (root / "packs/ab/3").symlink_to("1")
        os.mkfifo(root / "packs/ab/4")

        for name in ("packs/ab/2", "packs/ab/3", "packs/ab/4"):
            for read in (store.get, store.stat, lambda name: store.get(name, 0, 1)):
                with pytest.raises(ObjectNotFoundError):
                    read(name)
            with pytest.raises(ObjectExistsError):
                store.put(name, [b"y"])
            store.delete(name)
        assert ["packs/ab/1"] == _names(store)
        assert {"1", "2", "3", "4"} == set(os.listdir(root / "packs/ab"))

    def test_a_level_that_is_a_symbolic_link_is_not_followed(self, store, root, tmp_path):
        """A link in a folder's place leads neither reads nor puts nor deletes out of the store."""
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "1").write_bytes(b"kept")
        (root / "packs").symlink_to(outside)
        (root / ".tmp").symlink_to(outside)

        with pytest.raises(ObjectNotFoundError):
            store.get("packs/1")
        with pytest.raises(ObjectNameInvalidError, match="not a folder"):
            store.put("packs/2", [b"x"])
        with pytest.raises(ObjectNameInvalidError, match="not a folder"):
            store.put("index/2", [b"x"])
        store.delete("packs/1")

        assert [] == _names(store)
        assert {"1": b"kept"} == {path.name: path.read_bytes() for path in outside.iterdir()}


class TestVanishedRoot:
    def test_a_removed_root_is_told_from_an_empty_store(self, store, root):
        """Every method says that the store is gone; none makes it anew; missing objects are not 'not found'."""
        store.put("packs/ab/1", [b"x"])
        shutil.rmtree(root)

        for call in (
            lambda: store.put("packs/ab/2", [b"x"]),
            lambda: store.get("packs/ab/1"),
            lambda: store.get("packs/ab/1", 0, 1),
            lambda: store.stat("packs/ab/1"),
            store.list,
            lambda: store.delete("packs/ab/1"),
        ):
            with pytest.raises(BackendLocationError, match="was removed"):
                call()
        assert not root.exists()

    def test_a_root_that_was_put_in_the_place_of_the_old_is_not_written(self, store, root):
        """What a disk leaves behind when it is unmounted is an empty folder of the same path: it stays empty."""
        root.rename(root.with_name("moved"))
        root.mkdir()

        store.put("packs/ab/1", [b"x"])

        assert [] == list(root.iterdir())
        assert b"x" == (root.with_name("moved") / "packs/ab/1").read_bytes()

    def test_a_file_system_that_counts_no_links_is_believed_by_its_path(self, store, monkeypatch):
        """Some FUSE file systems report no links for a folder that is there."""
        real = os.fstat

        def no_links(fd):
            status = list(real(fd))
            status[stat.ST_NLINK] = 0
            return os.stat_result(status)

        monkeypatch.setattr(os, "fstat", no_links)

        assert [] == _names(store)


class TestRangedReads:
    def test_an_object_replaced_behind_our_back_is_read_anew(self, store, root):
        """A pack that was replaced (brought back from another location) is not served from the old open file."""
        store.put("packs/ab/1", [b"broken"])
        assert b"brok" == store.get("packs/ab/1", 0, 4)
        (root / "new").write_bytes(b"mended")
        (root / "new").rename(root / "packs/ab/1")

        assert b"mend" == store.get("packs/ab/1", 0, 4)

    def test_an_object_cut_off_while_it_is_open_is_a_short_read(self, store, root):
        """The size is looked at with every read."""
        store.put("packs/ab/1", [b"123456"])
        assert b"456" == store.get("packs/ab/1", 3, 3)
        os.truncate(root / "packs/ab/1", 4)

        with pytest.raises(ShortReadError, match="has 4 bytes, 6 were expected"):
            store.get("packs/ab/1", 3, 3)

    def test_reads_that_come_in_pieces_are_put_together(self, store, monkeypatch):
        """The system may bring less than asked for; the store asks on."""
        store.put("packs/ab/1", [b"0123456789"])
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda fd, size, offset: real(fd, min(size, 3), offset))

        assert b"0123456789" == store.get("packs/ab/1")
        assert b"2345678" == store.get("packs/ab/1", 2, 7)

    def test_an_object_that_shrinks_during_a_read_is_a_short_read(self, store, monkeypatch):
        """Where the data ends before the size that was told, nothing is returned."""
        store.put("packs/ab/1", [b"0123456789"])
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda fd, size, offset: real(fd, min(size, 3), offset) if offset < 6 else b"")

        with pytest.raises(ShortReadError, match="has 6 bytes, 10 were expected"):
            store.get("packs/ab/1")


def test_a_file_deleted_during_a_listing_is_left_out(store, monkeypatch):
    """Between reading a folder and looking at its files one may go: it is not listed, and no error."""
    store.put("a/1", [b"x"])
    store.put("a/2", [b"x"])
    real = os.stat

    def vanish(path, **kwargs):
        if path == "1":
            raise FileNotFoundError(2, "planned", path)
        return real(path, **kwargs)

    monkeypatch.setattr(os, "stat", vanish)

    assert ["a/2"] == _names(store)


def test_two_threads_making_the_same_folders_do_not_fail(root):
    """16 first puts of as many backends into folders that nobody made yet all succeed."""
    backends = [LocalBackend(root, create=True) for _ in range(16)]
    start = threading.Barrier(16)
    failures = []

    def put(number):
        start.wait(timeout=60)
        try:
            backends[number].put(f"x/y/z/{number}", [b"x"])
        except Exception as error:  # noqa: BLE001 - to be shown by the main thread
            failures.append(error)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failures
    assert 16 == len(_names(backends[0]))
    for backend in backends:
        backend.close()


def test_it_is_a_backend(store):
    """The class has every method of the contract."""
    assert isinstance(store, Backend)
