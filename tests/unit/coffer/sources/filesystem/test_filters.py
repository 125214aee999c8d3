"""What is left out: gitignore patterns, and cache folders with their tag."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from coffer.errors import UsageError
from coffer.sources.filesystem.filters import is_tagged_cache, make_excludes
from tests.harness.backups import write_tree

TAG = b"Signature: 8a477f597d28d172789f06886806bc55"


def saved_names(bench, result):
    """Paths relative to the source, of everything in it."""
    start = len(os.fsencode(bench.root).strip(b"/")) + 1
    return {path[start:].decode() for path in bench.saved(result)} - {""}


def is_tagged(folder):
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return is_tagged_cache(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("exclude", "include", "path", "is_folder", "expected"),
    [
        (("*.o",), (), b"a/b.o", False, True),
        (("*.o",), (), b"a/b.c", False, False),
        (("/top",), (), b"top", False, True),
        (("/top",), (), b"a/top", False, False),
        (("build/",), (), b"a/build", True, True),
        (("build/",), (), b"a/build", False, False),
        (("a/**/z",), (), b"a/b/c/z", False, True),
        (("a/*/z",), (), b"a/b/c/z", False, False),
        (("*.log",), ("keep.log",), b"x/keep.log", False, False),
        (("*.log", "!keep.log"), (), b"x/keep.log", False, False),
        (("[0-9]?",), (), b"7x", False, True),
        (("\\#a",), (), b"#a", False, True),
        (("#a",), (), b"#a", False, False),
        (("*\udcff*",), (), b"x\xffy", False, True),
        (("*",), (), b"\xff", False, True),
        (("new\\\nline",), (), b"other", False, False),
    ],
)
def test_patterns_mean_what_they_mean_in_a_gitignore_file(exclude, include, path, is_folder, expected):
    """Anchored, for folders only, with stars, brought back, escaped, and for names that are no UTF-8."""
    excluded = make_excludes(exclude, include)
    assert expected == excluded(path, is_folder=is_folder)


def test_without_patterns_nothing_is_asked():
    """Neither for none, nor for includes alone: there is nothing to bring back."""
    assert make_excludes((), ()) is None
    assert make_excludes((), ("*",)) is None


@pytest.mark.parametrize("pattern", ["!", "\\", "[z-a]"])
def test_what_is_no_pattern_is_the_users_mistake(pattern):
    """Whatever the library raises becomes one error with a hint."""
    with pytest.raises(UsageError, match=r"exclude patterns: ") as caught:
        make_excludes(("fine", pattern), ())
    assert ".gitignore" in caught.value.hint


def test_excluded_files_and_folders_are_not_saved(bench):
    """Nor is anything below an excluded folder, even where a later pattern would bring it back, as in git."""
    write_tree(
        bench.root,
        {
            "keep": b"1",
            "drop.tmp": b"2",
            "cache/x": b"3",
            "sub/cache/y": b"4",
            "sub/keep.tmp": b"5",
            "sub/a.tmp": b"6",
            "only/top": b"7",
            "sub/only/top": b"8",
        },
    )
    bench.change_source(exclude=("*.tmp", "cache/", "/only"), include=("keep.tmp", "cache/x"))
    result = bench.back_up()
    assert {"keep", "sub", "sub/keep.tmp", "sub/only", "sub/only/top"} == saved_names(bench, result)
    assert 0 == result.exit_code


def test_include_is_what_the_policy_says_of_it(bench):
    """It takes in again what `exclude` leaves out; alone it leaves out nothing."""
    page = Path(__file__).parents[5] / "docs" / "configuration.md"
    (said,) = [row for row in page.read_text(encoding="utf-8").splitlines() if row.startswith("| `sources[].include`")]
    assert "What is taken although `exclude` leaves it out" in said
    write_tree(bench.root, {"a.txt": b"1", "b.txt": b"2", "c": b"3"})
    bench.change_source(include=("a.txt",))
    bench.assert_saved(bench.back_up())
    bench.change_source(exclude=("*.txt",))
    assert {"a.txt", "c"} == saved_names(bench, bench.back_up())


def test_patterns_are_relative_to_each_path(bench, tmp_path):
    """An anchored pattern holds at the top of every path of the source, and not above it."""
    write_tree(bench.root, {"a/secret": b"1", "a/b/secret": b"2", "c/secret": b"3"})
    bench.change_source(paths=(bench.root / "a", bench.root / "c"), exclude=("/secret", "source"))
    assert {"a", "a/b", "a/b/secret", "c"} == saved_names(bench, bench.back_up())


def test_a_changed_pattern_takes_effect_with_the_next_run(bench):
    """What was saved and is excluded now is not in the next snapshot; what is included again comes back."""
    write_tree(bench.root, {"a": b"1", "b": b"2"})
    bench.back_up()
    bench.change_source(exclude=("b",))
    assert {"a"} == saved_names(bench, bench.back_up())
    bench.change_source(exclude=())
    bench.assert_saved(bench.back_up())


def test_patterns_do_not_leave_out_the_path_itself(bench):
    """A path that was named is saved whatever the patterns say: they hold for what is in it."""
    write_tree(bench.root, {"file": b"1"})
    bench.change_source(paths=(bench.root / "file",), exclude=("file", "*"))
    assert {"file"} == saved_names(bench, bench.back_up())


class TestCaches:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [(TAG, True), (TAG + b"\n# made by a test", True), (TAG[:-1], False), (b"", False), (b"x" + TAG, False)],
    )
    def test_a_tag_is_valid_by_its_first_bytes(self, tmp_path, content, expected):
        """As the Cache Directory Tagging Specification says."""
        (tmp_path / "CACHEDIR.TAG").write_bytes(content)
        assert expected == is_tagged(tmp_path)

    @pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "link"])
    def test_a_tag_is_a_regular_file(self, tmp_path, kind):
        """Whatever else has its name is none, and a fifo is not waited for."""
        tag = tmp_path / "CACHEDIR.TAG"
        if kind == "folder":
            tag.mkdir()
        elif kind == "fifo":
            os.mkfifo(tag)
        elif kind == "link":
            (tmp_path / "real").write_bytes(TAG)
            tag.symlink_to("real")
        assert not is_tagged(tmp_path)

    def test_a_tag_that_the_disk_cannot_give_is_none(self, tmp_path, monkeypatch):
        """The folder is saved whole then: too much rather than too little."""
        (tmp_path / "CACHEDIR.TAG").write_bytes(TAG)

        def read(*_):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "read", read)
        assert not is_tagged(tmp_path)

    def test_a_backup_does_not_wait_for_a_fifo_that_is_named_like_a_tag(self, bench):
        """Anybody who may write in the tree could hang every backup of it."""
        write_tree(bench.root, {"cache/data": b"1"})
        os.mkfifo(bench.root / "cache" / "CACHEDIR.TAG")
        bench.change_source(exclude_caches=True)
        bench.assert_saved(bench.back_up())

    def test_of_a_tagged_folder_only_the_tag_is_saved(self, bench):
        """Where that is asked for; a folder with a false tag is saved whole."""
        write_tree(
            bench.root,
            {
                "real/CACHEDIR.TAG": TAG,
                "real/data": b"1",
                "real/deep/data": b"2",
                "false/CACHEDIR.TAG": b"no",
                "false/data": b"3",
            },
        )
        bench.assert_saved(bench.back_up())
        bench.change_source(exclude_caches=True)
        expected = {"real", "real/CACHEDIR.TAG", "false", "false/CACHEDIR.TAG", "false/data"}
        assert expected == saved_names(bench, bench.back_up())
