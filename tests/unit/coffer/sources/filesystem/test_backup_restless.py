"""Files that change, vanish, or cannot be read while they are read: a warning each, and the rest is saved."""

from __future__ import annotations

import errno
import os
import random

import pytest

from coffer.sources.assembly import blockcut
from tests.harness.backups import Workbench, folder_for_everybody, unprivileged, write_tree
from tests.harness.snapshots import disk_tree

LARGE = 50_000
DATA = random.Random(9).randbytes(LARGE)


def stored(path):
    return os.fsencode(path).strip(b"/")


def path_of(name, dir_fd=None):
    """The path that a call is about, whether it names a path or a name in an open folder."""
    return name if dir_fd is None else os.path.join(os.readlink(b"/proc/self/fd/%d" % dir_fd), name)


class Meddler:
    """Does something to a file at a moment of its reading: at its opening, or at the nth read of it.

    Attributes:
        times: How often it has acted.
    """

    def __init__(self, monkeypatch, path, act, *, at, nth=0, after=True, always=False):
        self._path, self._act, self._nth, self._after, self._always = os.fsencode(path), act, nth, after, always
        self._fds: set[int] = set()
        self._seen = 0
        self.times = 0
        self._real = {name: getattr(os, name) for name in ("open", "close", "read", "pread", "preadv")}
        monkeypatch.setattr(os, "open", self._open)
        monkeypatch.setattr(os, "close", self._close)
        for name in ("read", "pread", "preadv"):
            monkeypatch.setattr(os, name, self._wrap(name))
        self._at = at

    def _open(self, path, flags, *args, dir_fd=None, **kwargs):
        kwargs |= {} if dir_fd is None else {"dir_fd": dir_fd}
        if path_of(path, dir_fd) != self._path:
            return self._real["open"](path, flags, *args, **kwargs)
        if self._at == "open" and (self._always or not self.times):
            self.times += 1
            self._act()
        fd = self._real["open"](path, flags, *args, **kwargs)
        self._fds.add(fd)
        return fd

    def _close(self, fd):
        self._fds.discard(fd)  # the number is another file's from now on
        self._real["close"](fd)

    def _wrap(self, name):
        def call(fd, *args):
            if fd not in self._fds or self._at != "read":
                return self._real[name](fd, *args)
            is_hit = self._always or self._seen == self._nth
            self._seen += 1
            if is_hit and not self._after:
                self.times += 1
                self._act()
            result = self._real[name](fd, *args)
            if is_hit and self._after:
                self.times += 1
                self._act()
            return result

        return call


@pytest.fixture
def tree(bench):
    """A file of each size among others that nothing happens to."""
    write_tree(bench.root, {"a": b"before", "small": b"s" * 500, "large": DATA, "z/after": b"after"})
    return bench


def append(path, data=b"grown"):
    with open(path, "ab") as file:
        file.write(data)


def assert_rest_is_saved(bench, result, path):
    """Everything else is saved as it is on the disk; the root's own times aside, which the test changed."""
    expected, actual = disk_tree(bench.root), bench.saved(result)
    for name in {*expected, *actual} - {stored(path), stored(bench.root)}:
        assert expected[name] == actual[name]


class TestGone:
    """What vanished between the listing and the reading is a warning `vanished`, and no entry."""

    @pytest.mark.parametrize("name", ["small", "large"])
    @pytest.mark.parametrize("instead", ["nothing", "a folder"])
    def test_a_file_that_is_gone(self, tree, monkeypatch, name, instead):
        """What is in a folder that took its place was not listed: there is no entry of it."""
        path = tree.root / name

        def replace():
            path.unlink()
            if instead == "a folder":
                path.mkdir()

        meddler = Meddler(monkeypatch, path, replace, at="open")
        result = tree.back_up()
        assert 1 == meddler.times
        assert [(os.fsencode(path), "vanished")] == [(w.path, w.code) for w in result.warnings]
        assert (3, False, 1) == (result.exit_code, result.snapshot.complete, result.snapshot.warnings_count)
        assert stored(path) not in tree.saved(result)
        monkeypatch.undo()
        second = tree.back_up()
        tree.assert_saved(second)

    @pytest.mark.parametrize("name", ["small", "large"])
    @pytest.mark.parametrize("instead", ["another file", "a fifo", "a link"])
    def test_a_file_that_another_took_the_place_of_is_saved_as_the_other(self, tree, monkeypatch, name, instead):
        """As by a rename: a whole file stood there at every moment, so one is saved, with its own row."""
        path, root_times = tree.root / name, (0, 10**18)
        os.utime(tree.root, ns=root_times)

        def replace():
            if instead == "another file":
                other = tree.root.parent / "other"
                other.write_bytes(b"o" * (path.stat().st_size + 1))
                other.replace(path)
            else:
                path.unlink()
                path.symlink_to("a") if instead == "a link" else os.mkfifo(path)
            os.utime(tree.root, ns=root_times)

        meddler = Meddler(monkeypatch, path, replace, at="open")
        result = tree.back_up()
        monkeypatch.undo()
        assert 1 == meddler.times
        tree.assert_saved(result)
        tree.assert_saved(tree.back_up())

    def test_a_file_that_is_replaced_on_and_on_has_vanished(self, tree, monkeypatch):
        """A few times it is looked for, and then it is a warning."""
        path = tree.root / "small"

        def replace():
            other = tree.root.parent / "other"
            other.write_bytes(b"o")
            other.replace(path)

        meddler = Meddler(monkeypatch, path, replace, at="open", always=True)
        result = tree.back_up()
        monkeypatch.undo()
        assert 4 == meddler.times
        assert [(os.fsencode(path), "vanished")] == [(w.path, w.code) for w in result.warnings]
        tree.assert_saved(tree.back_up())

    def test_a_file_below_a_folder_that_is_moved_is_read_where_it_is(self, tree, monkeypatch):
        """The folder is held open: its file is the one that was listed, whatever its path leads to by now."""
        write_tree(tree.root, {"folder/secret": b"1" * 10, "trap/secret": b"2" * 10})

        def swap():
            (tree.root / "folder").rename(tree.root / "was folder")
            (tree.root / "folder").symlink_to("trap")

        path = tree.root / "folder" / "secret"
        meddler = Meddler(monkeypatch, path, swap, at="open")
        result = tree.back_up()
        assert (1, 0) == (meddler.times, result.exit_code)
        assert b"1" * 10 == tree.saved(result)[stored(path)].content

    def test_a_folder_that_is_gone(self, tree, monkeypatch):
        """It was listed in its parent, and then it is not there: one warning for its listing, one for itself."""
        real = os.open

        def gone(path, *args, **kwargs):
            if path == os.fsencode(tree.root / "z"):
                (tree.root / "z" / "after").unlink(missing_ok=True)
                (tree.root / "z").rmdir()
                monkeypatch.undo()
            return real(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", gone)
        result = tree.back_up()
        assert {(os.fsencode(tree.root / "z"), "vanished")} == {(w.path, w.code) for w in result.warnings}
        assert 3 == result.stats["files"]

    def test_an_entry_that_vanishes_between_listing_and_stat(self, tree, monkeypatch):
        """The name was there, its stat fails: a warning, and the other names of the folder are saved."""
        real = os.scandir

        class Listing:
            def __init__(self, path):
                self._entries = real(path)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self._entries.close()

            def __iter__(self):
                entries = list(self._entries)
                (tree.root / "small").unlink(missing_ok=True)
                return iter(entries)

        monkeypatch.setattr(os, "scandir", Listing)
        result = tree.back_up()
        assert [(os.fsencode(tree.root / "small"), "vanished")] == [(w.path, w.code) for w in result.warnings]
        assert_rest_is_saved(tree, result, tree.root / "small")

    @pytest.mark.parametrize("kind", ["link", "fifo"])
    def test_another_kind_of_file_that_is_gone(self, tree, monkeypatch, kind):
        """A link whose target is asked for, a fifo whose attributes are: gone before that."""
        path = tree.root / "special"
        path.symlink_to("a") if kind == "link" else os.mkfifo(path)
        real = {"link": os.readlink, "fifo": os.listxattr}[kind]
        name = {"link": "readlink", "fifo": "listxattr"}[kind]

        def gone(target, *args, **kwargs):
            if path_of(target, kwargs.get("dir_fd")) == os.fsencode(path):
                path.unlink()
            return real(target, *args, **kwargs)

        monkeypatch.setattr(os, name, gone)
        result = tree.back_up()
        assert [(os.fsencode(path), "vanished")] == [(w.path, w.code) for w in result.warnings]
        assert_rest_is_saved(tree, result, path)


class TestChanged:
    @pytest.mark.parametrize("change", ["grown", "shrunk", "emptied", "rewritten"])
    def test_a_small_file_that_changed_once_is_read_again(self, tree, monkeypatch, change):
        """One change during the reading: a second reading finds it calm, and no warning is due."""
        path = tree.root / "small"
        act = {
            "grown": lambda: append(path),
            "shrunk": lambda: os.truncate(path, 100),
            "emptied": lambda: os.truncate(path, 0),
            "rewritten": lambda: path.write_bytes(b"r" * 500),
        }[change]
        meddler = Meddler(monkeypatch, path, act, at="read")
        result = tree.back_up()
        assert 1 == meddler.times
        monkeypatch.undo()
        tree.assert_saved(result)

    def test_a_small_file_that_changes_on_and_on_is_saved_with_a_warning(self, tree, monkeypatch):
        """After three readings it is saved as it was found, said to be, and read again by the next run."""
        path = tree.root / "small"
        meddler = Meddler(monkeypatch, path, lambda: append(path, b"+"), at="read", always=True)
        result = tree.back_up()
        monkeypatch.undo()
        assert 4 == meddler.times
        assert [(os.fsencode(path), "changed")] == [(w.path, w.code) for w in result.warnings]
        assert (3, False) == (result.exit_code, result.snapshot.complete)
        content = tree.saved(result)[stored(path)].content
        assert path.read_bytes().startswith(content)
        assert len(content) >= 500
        assert_rest_is_saved(tree, result, path)
        second = tree.back_up()
        assert (1, 504) == (second.stats["files_changed"], second.stats["read_bytes"])
        tree.assert_saved(second)

    def test_the_second_name_of_a_file_that_changed_since_is_read_too(self, bench, monkeypatch):
        """The content that was read under the first name is taken for the second only while the file is the same."""
        monkeypatch.setattr(blockcut, "MIN_ENTRIES", 1)
        monkeypatch.setattr(blockcut, "_MEAN_BEYOND", 1)
        write_tree(bench.root, {"a/x": b"s" * 500})
        (bench.root / "b").mkdir()
        os.link(bench.root / "a" / "x", bench.root / "b" / "x")
        real = os.scandir

        def scandir(fd):
            if path_of(b"", fd) == os.path.join(os.fsencode(bench.root / "b"), b""):
                append(bench.root / "a" / "x")
            return real(fd)

        monkeypatch.setattr(os, "scandir", scandir)
        result = bench.back_up()
        saved = bench.saved(result)
        assert b"s" * 500 == saved[stored(bench.root / "a" / "x")].content
        assert b"s" * 500 + b"grown" == saved[stored(bench.root / "b" / "x")].content

    def test_a_small_file_that_grows_large_is_saved_as_a_large_one(self, tree, monkeypatch):
        """It grew beyond what is bundled before it was read again."""
        path = tree.root / "small"
        Meddler(monkeypatch, path, lambda: path.write_bytes(DATA), at="open")
        result = tree.back_up()
        monkeypatch.undo()
        tree.assert_saved(result)

    def test_a_small_file_that_becomes_sparse_keeps_its_holes(self, bench, monkeypatch):
        """It was listed small and is read sparse."""
        bench = Workbench(bench.root.parent / "with usual chunks", chunking=None)
        path = bench.root / "file"
        path.write_bytes(b"x" * 100)

        def punch():
            with path.open("wb") as file:
                file.write(b"y" * 100)
                file.truncate(200_000)

        Meddler(monkeypatch, path, punch, at="open")
        result = bench.back_up()
        monkeypatch.undo()
        bench.assert_saved(result)

    @pytest.mark.parametrize("change", ["grown", "shrunk", "rewritten", "touched"])
    def test_a_large_file_that_changed_is_saved_with_a_warning(self, tree, monkeypatch, change):
        """It is too long to be read again: it is saved as it was found, and read again by the next run."""
        path = tree.root / "large"
        act = {
            "grown": lambda: append(path, DATA[:7000]),
            "shrunk": lambda: os.truncate(path, 20_000),
            "rewritten": lambda: path.write_bytes(DATA[::-1]),
            "touched": lambda: os.utime(path, ns=(0, 1)),
        }[change]
        meddler = Meddler(monkeypatch, path, act, at="read")
        result = tree.back_up()
        monkeypatch.undo()
        assert 1 == meddler.times
        assert [(os.fsencode(path), "changed")] == [(w.path, w.code) for w in result.warnings]
        saved = tree.saved(result)[stored(path)]
        if change == "grown":
            assert path.read_bytes() == saved.content
        assert_rest_is_saved(tree, result, path)
        second = tree.back_up()
        assert (0, path.stat().st_size) == (second.exit_code, second.stats["read_bytes"])
        assert int(path.read_bytes() != saved.content) == second.stats["files_changed"]
        tree.assert_saved(second)

    def test_a_file_that_changed_is_read_again_even_where_the_clocks_disagree(self, tree, monkeypatch):
        """The file server's clock is a day behind: the mark of the reading does not depend on it."""
        path = tree.root / "large"
        Meddler(monkeypatch, path, lambda: path.write_bytes(DATA[::-1]), at="read")
        tree.clock.advance(86_400)
        tree.back_up()
        monkeypatch.undo()
        second = tree.back_up()
        assert 1 == second.stats["files_changed"]
        tree.assert_saved(second)

    def test_a_sparse_file_that_is_cut_while_it_is_read(self, tree, monkeypatch):
        """Data ranges that were asked for are not there any more: a warning, and extents that add up."""
        path = tree.root / "sparse"
        with path.open("wb") as file:
            for at in range(0, 1 << 20, 1 << 18):
                file.seek(at)
                file.write(b"d" * 5000)
            file.truncate(1 << 20)
        Meddler(monkeypatch, path, lambda: os.truncate(path, 3000), at="read", after=False)
        result = tree.back_up()
        monkeypatch.undo()
        assert [(os.fsencode(path), "changed")] == [(w.path, w.code) for w in result.warnings]
        assert len(tree.saved(result)[stored(path)].content) >= 3000
        tree.assert_saved(tree.back_up())


class TestUnreadable:
    @pytest.mark.parametrize("name", ["small", "large"])
    @pytest.mark.parametrize("at", ["open", "read"])
    def test_a_file_that_cannot_be_read(self, tree, monkeypatch, name, at):
        """The disk says EIO, at the opening or in the middle: one warning, no entry, the rest is saved."""
        path = tree.root / name

        def fail():
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        Meddler(monkeypatch, path, fail, at=at)
        result = tree.back_up()
        monkeypatch.undo()
        assert [(os.fsencode(path), "unreadable", "unreadable: Input/output error")] == [
            (w.path, w.code, w.message) for w in result.warnings
        ]
        assert 3 == result.exit_code
        assert stored(path) not in tree.saved(result)
        second = tree.back_up()
        tree.assert_saved(second)

    def test_what_the_user_may_not_read_is_said_and_passed_over(self):
        """A closed file, a closed folder, an attribute: a warning each. The folder's own entry is there."""
        with folder_for_everybody() as base:
            bench = Workbench(base / "source")
            write_tree(bench.root, {"open": b"o", "closed": b"c", "folder/inside": b"i", "marked/inside": b"i"})
            os.setxattr(bench.root / "marked", "user.mark", b"m")
            (bench.root / "closed").chmod(0)
            (bench.root / "folder").chmod(0)
            (bench.root / "marked").chmod(0o111)
            with unprivileged():
                result = bench.back_up()
            assert [
                (b"closed", "unreadable"),
                (b"folder", "unreadable"),
                (b"marked", "unreadable"),
                (b"marked", "xattr"),
            ] == sorted((os.path.basename(w.path), w.code) for w in result.warnings)
            saved = {os.path.basename(path) for path in bench.saved(result)}
            assert {b"source", b"open", b"folder", b"marked"} == saved
            for name in ("folder", "marked"):
                (bench.root / name).chmod(0o755)
            (bench.root / "closed").chmod(0o644)
            bench.assert_saved(bench.back_up())

    def test_a_file_of_another_owner_is_read_without_asking_for_its_time(self):
        """O_NOATIME is for the owner and root; whoever may only read reads all the same."""
        with folder_for_everybody() as base:
            bench = Workbench(base / "source")
            write_tree(bench.root, {"theirs": b"t" * 10})
            with unprivileged():
                result = bench.back_up()
            bench.assert_saved(result)

    def test_unreadable_attributes_cost_only_themselves(self, tree, monkeypatch):
        """One attribute of several cannot be read: the file is saved with the others, and looked at again next time."""
        path = tree.root / "small"
        for name in ("user.a", "user.b", "user.c", "user.gone"):
            os.setxattr(path, name, b"v")
        real = os.getxattr

        def getxattr(target, name, **kwargs):
            if name == "user.b":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if name == "user.gone":
                raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
            return real(target, name, **kwargs)

        monkeypatch.setattr(os, "getxattr", getxattr)
        result = tree.back_up()
        monkeypatch.undo()
        assert [(os.fsencode(path), "xattr", "extended attribute 'user.b': Input/output error")] == [
            (w.path, w.code, w.message) for w in result.warnings
        ]
        saved = tree.saved(result)[stored(path)]
        assert ((b"user.a", b"v"), (b"user.c", b"v")) == saved.xattrs
        assert b"s" * 500 == saved.content
        second = tree.back_up()
        tree.assert_saved(second)

    @pytest.mark.parametrize(
        ("number", "warnings"), [(errno.ENOTSUP, 0), (errno.EPERM, 0), (errno.EIO, 1), (errno.EACCES, 1)]
    )
    def test_attributes_that_cannot_be_listed(self, tree, monkeypatch, number, warnings):
        """A file system without attributes has none; any other failure is a warning, and the content is saved."""
        path = os.fsencode(tree.root / "z")
        real = os.listxattr

        def listxattr(target, **kwargs):
            if target == path:
                raise OSError(number, os.strerror(number))
            return real(target, **kwargs)

        monkeypatch.setattr(os, "listxattr", listxattr)
        result = tree.back_up()
        monkeypatch.undo()
        assert warnings == len(result.warnings)
        assert {"xattr"} >= {w.code for w in result.warnings}
        assert disk_tree(tree.root) == tree.saved(result)

    def test_warnings_beyond_a_thousand_are_counted_and_not_kept(self, bench, monkeypatch):
        """The count is exact, the memory bounded."""
        write_tree(bench.root, {f"{n}": b"x" for n in range(1100)})
        real = os.open

        def closed(path, *args, dir_fd=None, **kwargs):
            if dir_fd is not None:
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", closed)
        result = bench.back_up()
        assert (1000, 1100, 3) == (len(result.warnings), result.snapshot.warnings_count, result.exit_code)
        monkeypatch.undo()
        bench.assert_saved(bench.back_up())
