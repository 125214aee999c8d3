"""What is wanted of a snapshot: paths, patterns, and errors that name what is near."""

import os
import stat

import pytest

from coffer.errors import PathNotInSnapshotError, UsageError
from coffer.restore import Overwrite
from tests.harness.backups import write_tree
from tests.harness.restores import landed, names_below, set_times


@pytest.fixture
def tree(bench):
    """A tree of some folders, and the path of a name in it as a snapshot has it."""
    write_tree(
        bench.root,
        {
            "docs/a.txt": b"1",
            "docs/b.md": b"2",
            "docs/img/c.png": b"3",
            "docs-old/a.txt": b"4",
            "src/main.py": b"5",
            "src/lib/util.py": b"6",
            "src/lib/data.bin": b"7" * 9000,
            "top.txt": b"8",
        },
    )
    (bench.root / "src" / "empty").mkdir()
    os.chmod(bench.root / "src", 0o751)
    set_times(bench.root)
    bench.back_up()
    return lambda name: os.fsencode(bench.root / name).strip(b"/")


def restored(target, bench):
    return names_below(landed(target, bench.root))


def test_a_path_is_the_entry_and_all_below_it(bench, tree, target, give_back):
    """A folder comes with its contents; a folder whose name only begins alike does not."""
    result = give_back(paths=(tree("docs"),))
    assert {"docs", "docs/a.txt", "docs/b.md", "docs/img", "docs/img/c.png"} == restored(target, bench)
    assert (3, 0) == (result.stats["files"], result.exit_code)


def test_a_path_may_be_one_file(bench, tree, target, give_back):
    """A single file comes with the folders above it, which get their attributes too."""
    give_back(paths=(b"/" + tree("src/lib/util.py"),))
    assert {"src", "src/lib", "src/lib/util.py"} == restored(target, bench)
    there, here = landed(target, bench.root) / "src", bench.root / "src"
    assert (0o751, here.stat().st_mtime_ns) == (stat.S_IMODE(there.stat().st_mode), there.stat().st_mtime_ns)


def test_several_paths_may_overlap(bench, tree, target, give_back):
    """Each is restored once."""
    result = give_back(paths=(tree("docs/img"), tree("docs"), tree("top.txt"), tree("docs/a.txt")))
    expected = {"docs", "docs/a.txt", "docs/b.md", "docs/img", "docs/img/c.png", "top.txt"}
    assert (expected, 4) == (restored(target, bench), result.stats["files"])


@pytest.mark.parametrize("paths", [(), (b"/",), (b"", b"tmp")])
def test_no_path_and_the_root_mean_everything(bench, tree, target, give_back, paths):
    """Whoever names the root wants all of it."""
    assert 8 == give_back(paths=paths).stats["files"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*.py",), (), {"src", "src/main.py", "src/lib", "src/lib/util.py"}),
        (("*.py",), ("lib/",), {"src", "src/main.py"}),
        (("docs/",), (), {"docs", "docs/a.txt", "docs/b.md", "docs/img", "docs/img/c.png"}),
        (("empty/",), (), {"src", "src/empty"}),
        ((), ("*.txt", "src"), {"docs", "docs/b.md", "docs/img", "docs/img/c.png", "docs-old"}),
        (("*.txt", "!**/docs/**"), (), {"docs-old", "docs-old/a.txt", "top.txt"}),
    ],
)
def test_patterns_choose_files_and_the_folders_above_them(bench, tree, target, give_back, include, exclude, expected):
    """Patterns are gitignore's; folders come only where a file below them does, or where they match themselves."""
    result = give_back(include=include, exclude=exclude, verify=True)
    got = restored(target, bench) if landed(target, bench.root).exists() else set()
    assert (expected, 0) == (got, result.exit_code)


@pytest.mark.parametrize(
    "options",
    [
        {"include": ("nothing like it",)},
        {"include": ("*.py",), "exclude": ("src",)},
        {"include": ("*.png",), "exclude": ("*.png",), "dry_run": True},
    ],
)
def test_patterns_that_nothing_fits_are_refused(bench, tree, target, give_back, options):
    """A typing mistake must not end as a success with nothing restored: a usage error, and no file."""
    with pytest.raises(UsageError, match=r"^include '.*': nothing in snapshot [0-9a-f]{16} matches") as caught:
        give_back(**options)
    assert "coffer find" in caught.value.hint
    assert not target.exists() or [] == list(target.iterdir())


def test_excluding_everything_is_no_mistake(bench, tree, target, give_back):
    """Without include patterns nothing was named that could be missing."""
    assert (0, 0) == ((result := give_back(exclude=("*",))).exit_code, result.stats["files"])


def test_patterns_narrow_a_path(bench, tree, target, give_back):
    """A path and a pattern together mean what fits both; the folder of the path is made only if something is in it."""
    result = give_back(paths=(tree("src"), tree("docs-old")), include=("*.py",))
    assert {"src", "src/main.py", "src/lib", "src/lib/util.py"} == restored(target, bench)
    assert 0 == result.exit_code


def test_a_pattern_over_an_old_tree_touches_nothing_else(bench, tree, target, give_back):
    """Files that do not fit stay as they are, changed or not."""
    give_back()
    there = landed(target, bench.root)
    (there / "top.txt").write_bytes(b"changed")
    (there / "src" / "main.py").write_bytes(b"changed")
    give_back(include=("*.py",), overwrite=Overwrite.CHANGED)
    assert (b"changed", b"5") == ((there / "top.txt").read_bytes(), (there / "src" / "main.py").read_bytes())


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("docs/a.text", "docs/a.txt"),
        ("dosc/a.txt", "docs"),
        ("src/lib/util.py/below", None),
        ("qqqq", None),
    ],
)
def test_a_path_that_is_not_there_names_what_is_near(tree, target, give_back, asked, near):
    """The error says which names are like the first part that is missing; nothing is written."""
    with pytest.raises(PathNotInSnapshotError, match="not in snapshot") as caught:
        give_back(paths=(tree("top.txt"), tree(asked)))
    nearest = caught.value.details["nearest"]
    assert ([os.fsdecode(tree(near))] if near else []) == nearest[:1]
    assert ("Did you mean" in caught.value.hint) == bool(near)
    assert not target.exists()


def test_a_path_in_an_empty_snapshot_is_not_there(bench, target, give_back):
    """A snapshot of an empty folder holds that folder, and nothing in it."""
    bench.back_up()
    with pytest.raises(PathNotInSnapshotError):
        give_back(paths=(os.fsencode(bench.root / "x"),))


def test_a_pattern_that_is_none_is_the_users_mistake(tree, target, give_back):
    """A pattern that gitignore does not know is an error before anything is written."""
    for field in ("include", "exclude"):
        with pytest.raises(UsageError, match=f"{field} patterns"):
            give_back(**{field: ("!",)})
    assert not target.exists()


def test_a_path_in_a_very_large_folder_is_found(bench, target, give_back):
    """A folder of more entries than a block holds is cut in pieces: each of its names is found, first and last too."""
    names = [f"{number:05d}" for number in range(13_000)]
    for name in names:
        (bench.root / name).touch()
    bench.back_up()
    chosen = (names[0], names[6_000], names[-1])
    result = give_back(paths=tuple(os.fsencode(bench.root / name) for name in chosen))
    assert (set(chosen), 3) == (restored(target, bench), result.stats["files"])
