"""The walk lists folders in the order of a manifest, and only what the source asks for."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from coffer.errors import SourceMissingError, SourceReadError
from coffer.repository.blocks import DEV
from coffer.repository.entries import path_key
from coffer.sources.assembly.result import WarningLog
from coffer.sources.filesystem import walk as module
from coffer.sources.filesystem.filters import make_excludes
from coffer.sources.filesystem.spec import FilesystemSource
from coffer.sources.filesystem.walk import Walk, resolve_paths
from tests.harness.backups import needs_root, write_tree
from tests.harness.programs import run_program


def walk(source):
    """Return (groups, warnings) of one pass."""
    warnings = WarningLog()
    excludes = make_excludes(source.exclude, source.include)
    return list(Walk(source, resolve_paths(source), excludes, warnings).groups()), warnings


def paths_of(groups, below):
    """Paths relative to a folder, in the order of the walk."""
    start = len(os.fsencode(below).strip(b"/")) + 1
    paths = [group.folder + b"/" + name if group.folder else name for group in groups for name in group.names]
    return [path[start:] for path in paths if len(path) >= start]


def test_folders_come_depth_first_and_names_sorted_by_their_bytes(tmp_path):
    """A group for every folder with entries, in the order in which a manifest has them."""
    write_tree(tmp_path, {"b/z": b"", "b/a/x": b"", "a!/x": b"", "a/x": b"", "c": b"", "b!": b""})
    (tmp_path / "empty").mkdir()
    groups, _ = walk(FilesystemSource("s", (tmp_path,)))
    assert [b"a", b"a!", b"b", b"b!", b"c", b"empty", b"a/x", b"a!/x", b"b/a", b"b/z", b"b/a/x"] == paths_of(
        groups, tmp_path
    )
    keys = [(path_key(group.folder), group.names[0]) for group in groups]
    assert sorted(keys) == keys
    assert all(group.names == sorted(group.names) for group in groups)


def test_above_a_path_only_the_way_to_it_is_listed(tmp_path):
    """The folders above are saved for their attributes; what else is in them is not looked at."""
    write_tree(tmp_path, {"way/to/here/x": b"", "way/to/other": b"", "way/side": b""})
    groups, _ = walk(FilesystemSource("s", (tmp_path / "way" / "to" / "here",)))
    assert [b"way", b"way/to", b"way/to/here", b"way/to/here/x"] == paths_of(groups, tmp_path)


def test_paths_that_overlap_are_walked_once(tmp_path):
    """The same path twice, one below another, one through a link, one with dots: each is a root, once."""
    write_tree(tmp_path, {"a/b/x": b"", "ab/y": b""})
    (tmp_path / "link").symlink_to("a")
    paths = [tmp_path / name for name in ("a/b", "a", "link", "link/b", "a/../a", "ab", "a/b/x")]
    source = FilesystemSource("s", tuple(paths))
    expected = tuple(os.fsencode(tmp_path / name) for name in ("a", "a/b", "a/b/x", "ab"))
    assert expected == resolve_paths(source)
    groups, _ = walk(source)
    assert [b"a", b"ab", b"a/b", b"a/b/x", b"ab/y"] == paths_of(groups, tmp_path)


def test_a_link_that_is_a_path_is_resolved_and_links_inside_are_not(tmp_path):
    """What the link leads to is saved at its own place."""
    write_tree(tmp_path, {"real/x": b""})
    (tmp_path / "real" / "inner").symlink_to("/etc")
    (tmp_path / "link").symlink_to("real")
    groups, _ = walk(FilesystemSource("s", (tmp_path / "link",)))
    assert [b"real", b"real/inner", b"real/x"] == paths_of(groups, tmp_path)


@pytest.mark.parametrize("name", ["file", "link to nothing", "fifo"])
def test_a_path_may_be_a_file(tmp_path, name):
    """Of any kind but a link, which is resolved: one that leads nowhere is missing."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link to nothing").symlink_to("nothing")
    os.mkfifo(tmp_path / "fifo")
    source = FilesystemSource("s", (tmp_path / name,))
    if name == "link to nothing":
        with pytest.raises(SourceMissingError):
            walk(source)
    else:
        groups, _ = walk(source)
        assert [name.encode()] == paths_of(groups, tmp_path)


def test_a_file_and_a_folder_with_names_alike_are_both_walked(tmp_path):
    """A path is below another only where a slash follows."""
    write_tree(tmp_path, {"a": b"", "a.b/x": b"", "ab": b""})
    groups, _ = walk(FilesystemSource("s", (tmp_path / "a", tmp_path / "a.b", tmp_path / "ab")))
    assert [b"a", b"a.b", b"ab", b"a.b/x"] == paths_of(groups, tmp_path)


# Folder → (name, kind, device) of what is in it.
TREE = {
    b"/": [(b"bin", "d", 1), (b"proc", "d", 2), (b"srv", "d", 1), (b"vmlinuz", "f", 1)],
    b"/bin": [(b"sh", "f", 1)],
    b"/proc": [(b"1", "d", 2)],
    b"/proc/1": [(b"status", "f", 2)],
    b"/srv": [(b"data", "d", 3), (b"x", "f", 1)],
    b"/srv/data": [(b"y", "f", 3)],
}


class TestWholeSystem:
    """The root folder as a source, on a file system of a few scripted folders."""

    @pytest.fixture
    def system(self, monkeypatch):
        def status(kind, device):
            mode = 0o040755 if kind == "d" else 0o100644
            times = {"st_mtime_ns": 1, "st_ctime_ns": 1}
            numbers = {"st_uid": 0, "st_gid": 0, "st_size": 0, "st_ino": 1, "st_nlink": 1}
            return SimpleNamespace(st_mode=mode, st_dev=device, **numbers, **times)

        class Entry:
            def __init__(self, name, kind, device):
                self.name = os.fsdecode(name)
                self._status = status(kind, device)

            def stat(self, *, follow_symlinks):
                assert not follow_symlinks
                return self._status

            def is_symlink(self):
                return False

        class Listing(list):
            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

        opened = {}

        def open_folder(path, expected, flags):
            fd = os.open("/", flags)
            opened[fd] = path
            return fd, expected or (1, 1)

        def scandir(fd):
            return Listing([Entry(*entry) for entry in reversed(TREE[os.path.normpath(opened[fd])])])

        monkeypatch.setattr(module, "open_folder", open_folder)
        monkeypatch.setattr(os, "scandir", scandir)
        monkeypatch.setattr(os, "lstat", lambda path: status("d", 1))

    def test_everything_is_walked(self, system):
        """From the root down, its own entry aside: it has no name."""
        groups, warnings = walk(FilesystemSource("s", (Path("/"), Path("/proc"))))
        expected = [b"bin", b"proc", b"srv", b"vmlinuz", b"bin/sh", b"proc/1", b"proc/1/status"]
        assert [*expected, b"srv/data", b"srv/x", b"srv/data/y"] == [
            group.folder + b"/" + name if group.folder else name for group in groups for name in group.names
        ]
        assert 0 == warnings.total

    def test_patterns_hold_from_the_root(self, system):
        """An excluded folder is not listed at all."""
        groups, _ = walk(FilesystemSource("s", (Path("/"),), exclude=("/proc", "*linuz", "/data")))
        assert [b"bin", b"srv"] == groups[0].names
        assert [b"", b"bin", b"srv", b"srv/data"] == [group.folder for group in groups]

    def test_other_file_systems_are_left_out(self, system):
        """The mount points are saved, empty."""
        groups, _ = walk(FilesystemSource("s", (Path("/"),), one_file_system=True))
        assert [b"", b"bin", b"srv"] == [group.folder for group in groups]
        assert [b"bin", b"proc", b"srv", b"vmlinuz"] == groups[0].names
        assert [1, 2, 1, 1] == [row[DEV] for row in groups[0].rows]

    def test_another_file_system_that_is_named_is_walked(self, system):
        """It was asked for by its own path: the edge that holds for the other does not hold for it."""
        groups, _ = walk(FilesystemSource("s", (Path("/"), Path("/proc")), one_file_system=True))
        assert [b"", b"bin", b"proc", b"proc/1", b"srv"] == [group.folder for group in groups]
        assert (os.fsencode("/"), os.fsencode("/proc")) == resolve_paths(
            FilesystemSource("s", (Path("/proc"), Path("/")))
        )


class TestNamedBelowAnother:
    """A path that is named is saved, whatever leaves out the folder that it is in."""

    def saved(self, tmp_path, *names, **fields):
        groups, _ = walk(FilesystemSource("s", tuple(tmp_path / name for name in names), **fields))
        return [path.decode() for path in paths_of(groups, tmp_path)]

    @pytest.mark.parametrize("exclude", ["cache/", "cache", "/deep"])
    def test_a_pattern_does_not_leave_it_out(self, tmp_path, exclude):
        """Nor a folder on the way to it, of which nothing else is saved; and patterns hold anew from it."""
        write_tree(
            tmp_path, {"a/deep/cache/f": b"", "a/deep/cache/cache/x": b"", "a/deep/g": b"", "a/deep/deep/h": b""}
        )
        expected = {
            "cache/": {"a/deep/deep", "a/deep/deep/h", "a/deep/g"},
            "cache": {"a/deep/deep", "a/deep/deep/h", "a/deep/g"},
            "/deep": {"a/deep/cache/cache", "a/deep/cache/cache/x"},
        }[exclude]
        always = {"a", "a/deep", "a/deep/cache", "a/deep/cache/f"}
        assert sorted(always | expected) == sorted(self.saved(tmp_path, "a", "a/deep/cache", exclude=(exclude,)))

    def test_a_pattern_does_not_leave_out_a_file(self, tmp_path):
        """That was named by itself."""
        write_tree(tmp_path, {"a/x.o": b"", "a/y.o": b""})
        assert ["a", "a/x.o"] == self.saved(tmp_path, "a", "a/x.o", exclude=("*.o",))

    def test_a_tagged_cache_does_not_leave_it_out(self, tmp_path):
        """Of the cache's folders only the way to it is saved."""
        tag = b"Signature: 8a477f597d28d172789f06886806bc55"
        write_tree(tmp_path, {"a/CACHEDIR.TAG": tag, "a/b/c/x": b"", "a/b/y": b"", "a/z": b""})
        expected = ["a", "a/CACHEDIR.TAG", "a/b", "a/b/c", "a/b/c/x"]
        assert expected == self.saved(tmp_path, "a", "a/b/c", exclude_caches=True)


@pytest.mark.parametrize("name", ["root", "root/inner"])
@pytest.mark.parametrize("instead", ["a link", "nothing"])
def test_a_path_that_is_not_what_was_resolved_is_an_error(tmp_path, name, instead):
    """A mount point swapped, a version put in place: a snapshot of the link alone would be no backup."""
    write_tree(tmp_path, {"root/inner/x": b"", "next/inner/x": b""})
    source = FilesystemSource("s", (tmp_path / "root", tmp_path / "root" / "inner"))
    paths = resolve_paths(source)
    (tmp_path / name).rename(tmp_path / "was")
    if instead == "a link":
        (tmp_path / name).symlink_to(tmp_path / "next")
    with pytest.raises(SourceReadError, match=f"source path .*{name}: cannot be reached"):
        list(Walk(source, paths, None, WarningLog()).groups())


def test_a_path_that_becomes_a_link_while_it_is_opened_is_an_error(tmp_path, monkeypatch):
    """It was a folder when it was met."""
    write_tree(tmp_path, {"root/x": b"", "next/x": b""})
    source = FilesystemSource("s", (tmp_path / "root",))
    real = module.open_folder

    def swap(path, expected, flags):
        (tmp_path / "root").rename(tmp_path / "was")
        (tmp_path / "root").symlink_to(tmp_path / "next")
        return real(path, expected, flags)

    monkeypatch.setattr(module, "open_folder", swap)
    with pytest.raises(SourceReadError, match=r"root: cannot be listed \(another kind of file took its place\)"):
        walk(source)


@needs_root
def test_a_mounted_file_system_is_saved_as_an_empty_folder(tmp_path):
    """A real mount, seen by a process of its own only; without the option its content is saved."""
    program = """
        import os, subprocess, sys
        from pathlib import Path
        from tests.harness.backups import Workbench, write_tree

        bench = Workbench(Path(sys.argv[1]) / "source")
        write_tree(bench.root, {"here": b"1", "mounted/hidden": b"2"})
        subprocess.run(["mount", "-t", "tmpfs", "none", bench.root / "mounted"], check=True)
        write_tree(bench.root, {"mounted/there": b"3"})
        bench.assert_saved(bench.back_up())
        bench.change_source(one_file_system=True)
        names = {os.path.basename(path).decode() for path in bench.saved(bench.back_up())}
        print(sorted(names))
        bench.change_source(paths=(bench.root / "mounted",))
        names = {os.path.basename(path).decode() for path in bench.saved(bench.back_up())}
        print(sorted(names))
    """
    ended = run_program(program, str(tmp_path), wrapper=("unshare", "--mount"))
    assert (0, "") == (ended.returncode, ended.stderr)
    assert "['here', 'mounted', 'source']\n['mounted', 'source', 'there']\n" == ended.stdout
