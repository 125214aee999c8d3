"""Invariant I11 against a repository whose writer has the keys: no snapshot leads a restore out of its target."""

import os
import stat
import subprocess
import threading

import pytest

from coffer.ids import ChunkId
from coffer.repository.entries import Extent
from coffer.repository.manifest import encode_list
from coffer.repository.pack import TYPE_LIST
from coffer.restore import Overwrite, RestoreOptions, plan_restore
from tests.harness.backups import needs_root
from tests.harness.forgery import Forger, false_content, forged_row
from tests.harness.restores import names_below

FOLDER = stat.S_IFDIR | 0o755
UNSAFE = "restore-unsafe-path"


@pytest.fixture
def forger(bench):
    return Forger(bench.repo)


@pytest.fixture
def outside(tmp_path):
    """A folder beside the target, with a file that nobody may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "passwd").write_bytes(b"old")
    return folder


def codes(result):
    return {failure.path: failure.code for failure in result.failures}


def untouched(outside):
    return {"passwd"} == names_below(outside) and (outside / "passwd").read_bytes() == b"old"


@pytest.mark.parametrize("overwrite", [None, *Overwrite])
def test_no_snapshot_leads_a_restore_out_of_its_target(forger, target, outside, give_back, overwrite):
    """Names and folders that climb, absolute paths, links with files below them: nothing outside is written.

    Each is a failure of its own, and the honest files of the same snapshot are restored.
    """
    link = str(outside)
    snapshot = forger.commit(
        [
            forger.folder(
                b"",
                [
                    (b"", b"empty"),
                    (b".", b"dot"),
                    (b"..", b"dots"),
                    (b"../escaped", b"climbing"),
                    (os.fsencode(outside / "passwd"), b"absolute"),
                    (b"a/b", b"two levels"),
                    (b"good", b"honest"),
                    (b"inner", FOLDER),
                    (b"link", link),
                    (b"up", ".."),
                ],
            ),
            forger.folder(b"..", [(b"escaped", b"1")]),
            forger.folder(b"../outside", [(b"passwd", b"2")]),
            forger.folder(b".", [(b"x", b"3")]),
            forger.folder(os.fsencode(outside), [(b"passwd", b"4")]),
            forger.folder(b"a//b", [(b"x", b"5")]),
            forger.folder(b"inner", [(b"file", b"honest too")]),
            forger.folder(b"inner/../..", [(b"escaped", b"6")]),
            forger.folder(b"link", [(b"passwd", b"7"), (b"sub", FOLDER), (b"evil", "/")]),
            forger.folder(b"link/sub", [(b"file", b"8")]),
            forger.folder(b"up", [(b"escaped", b"9")]),
            forger.folder(b"zz/", [(b"x", b"10")]),
        ]
    )
    target.mkdir()
    result = give_back(snapshot, overwrite=overwrite)
    assert untouched(outside)
    assert {"outside", "source", "target"} == set(os.listdir(target.parent))
    assert (b"honest", b"honest too") == ((target / "good").read_bytes(), (target / "inner" / "file").read_bytes())
    assert 3 == result.exit_code
    unsafe = {path for path, code in codes(result).items() if code == UNSAFE}
    assert {b"", b".", b"..", b"../escaped", b"a/b", b"../outside/passwd", b"./x", b"a//b/x", b"zz//x"} <= unsafe
    for name in names_below(target):
        assert os.path.realpath(target / name).startswith(f"{target}/") or (target / name).is_symlink()


def test_a_plan_refuses_what_a_restore_refuses(bench, forger, target, outside):
    """A dry run calls unsafe names by their name, and lists the rest."""
    snapshot = forger.commit(
        [
            forger.folder(b"", [(b"..", b"dots"), (b"good", b"honest"), (b"link", str(outside))]),
            forger.folder(b"../outside", [(b"passwd", b"2")]),
        ]
    )
    plan = list(plan_restore(bench.reopen(), snapshot, target, RestoreOptions()))
    assert [(b"..", "refuse"), (b"good", "create"), (b"link", "create"), (b"../outside/passwd", "refuse")] == [
        (entry.path, entry.action) for entry in plan
    ]
    assert not target.exists()


def test_a_name_with_nul_spoils_its_block_only(forger, target, give_back):
    """NUL ends names: one that holds it makes its block corrupt, and the blocks beside it are restored."""
    snapshot = forger.commit(
        [forger.folder(b"", [(b"good", b"1"), (b"later", FOLDER)])],
        [forger.folder(b"bad", [(b"x\0y", b"2")])],
        [forger.folder(b"later", [(b"file", b"3")])],
    )
    result = give_back(snapshot)
    assert {b"bad/x\0y": "object-corrupt"} == codes(result)
    assert {"good", "later", "later/file"} == names_below(target)


@pytest.mark.parametrize("overwrite", list(Overwrite))
@pytest.mark.parametrize("large", [False, True])
def test_links_in_the_target_are_never_written_through(forger, target, outside, give_back, overwrite, large):
    """A folder's place that is a link is replaced or refused, a file's place that is a link is replaced or kept."""
    data = b"new"
    content = forger.content(data)
    if large:
        content = false_content(*content.extents, Extent(None, 0, 7))
    entry = forged_row(size=10 if large else 3), None, content
    snapshot = forger.commit(
        [
            forger.folder(b"", [(b"folder", FOLDER), (b"passwd", entry)]),
            forger.folder(b"folder", [(b"passwd", entry)]),
        ]
    )
    target.mkdir()
    (target / "folder").symlink_to(outside)
    (target / "passwd").symlink_to(outside / "passwd")
    result = give_back(snapshot, overwrite=overwrite)
    assert untouched(outside)
    if overwrite is Overwrite.NEVER:
        assert [True, True] == [(target / name).is_symlink() for name in ("folder", "passwd")]
        assert {b"folder", b"folder/passwd"} == set(codes(result))
    else:
        assert [False, False] == [(target / name).is_symlink() for name in ("folder", "passwd")]
        assert data == (target / "folder" / "passwd").read_bytes()[:3] == (target / "passwd").read_bytes()[:3]
        assert 0 == result.failures_count


@pytest.mark.parametrize("overwrite", [Overwrite.CHANGED, Overwrite.ALWAYS])
def test_a_hard_link_to_a_file_outside_is_replaced(forger, target, outside, give_back, overwrite):
    """A file that shares its inode with one outside gives up its name; the one outside keeps content and mode."""
    snapshot = forger.commit([forger.folder(b"", [(b"passwd", (forged_row(stat.S_IFREG | 0o777), None, None))])])
    target.mkdir()
    os.link(outside / "passwd", target / "passwd")
    before = os.lstat(outside / "passwd")
    give_back(snapshot, overwrite=overwrite)
    assert untouched(outside)
    assert (before.st_mode, 1) == ((after := os.lstat(outside / "passwd")).st_mode, after.st_nlink)
    assert b"" == (target / "passwd").read_bytes()


def test_a_path_is_not_reached_through_a_link(bench, forger, target, outside, give_back):
    """Restoring one path below folders that are links in the target replaces the links, as overwriting was allowed."""
    snapshot = forger.commit(
        [
            forger.folder(b"", [(b"a", FOLDER)]),
            forger.folder(b"a", [(b"b", FOLDER)]),
            forger.folder(b"a/b", [(b"passwd", b"new")]),
        ]
    )
    target.mkdir()
    (target / "a").symlink_to(outside)
    result = give_back(snapshot, overwrite=Overwrite.CHANGED, paths=(b"a/b/passwd",))
    assert (0, b"new") == (result.failures_count, (target / "a" / "b" / "passwd").read_bytes())
    assert untouched(outside)


def test_a_link_that_is_swapped_in_meanwhile_is_not_followed(forger, target, outside, give_back):
    """Somebody who replaces folders of the target by links while it is restored gains nothing but failures."""
    folders = [b"%02d" % number for number in range(40)]
    names = [b"passwd", *(b"%02d" % number for number in range(20))]
    groups = [forger.folder(b"", [(folder, FOLDER) for folder in folders])]
    groups += [forger.folder(folder, [(name, b"new" + folder + name) for name in names]) for folder in folders]
    snapshot = forger.commit(groups)
    target.mkdir()
    done = threading.Event()

    def swap():
        while not done.is_set():
            for folder in folders:
                place = target / os.fsdecode(folder)
                try:
                    if not place.is_symlink():
                        os.rename(place, target / f"moved-{folder.decode()}")
                        place.symlink_to(outside)
                except OSError:
                    continue

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        give_back(snapshot, overwrite=Overwrite.NEVER, workers=2)
    finally:
        done.set()
        swapper.join()
    assert untouched(outside)


def test_folders_swapped_at_every_moment_are_not_followed(forger, target, outside, give_back, monkeypatch):
    """The moment before each opening of a folder is as good as any other: a link put there then is not followed."""
    snapshot = forger.commit(
        [
            forger.folder(b"", [(b"folder", FOLDER)]),
            forger.folder(b"folder", [(b"passwd", b"new"), (b"sub", FOLDER)]),
            forger.folder(b"folder/sub", [(b"passwd", b"new")]),
        ]
    )
    real_open = os.open

    def swap_then_open(path, flags, mode=0o777, **kwargs):
        if path in (b"folder", b"sub") and kwargs.get("dir_fd") is not None:
            place = f"/proc/self/fd/{kwargs['dir_fd']}/{os.fsdecode(path)}"
            if not os.path.islink(place):
                os.rename(place, place + ".moved")
                os.symlink(outside, place)
        return real_open(path, flags, mode, **kwargs)

    monkeypatch.setattr(os, "open", swap_then_open)
    result = give_back(snapshot)
    assert untouched(outside)
    assert {b"folder/passwd", b"folder/sub", b"folder/sub/passwd"} == set(codes(result))


def test_a_node_that_is_swapped_for_a_link_keeps_its_mode(forger, target, outside, give_back, monkeypatch):
    """A mode is set through the node that was made: a link put in its place is left alone, and so is its target."""
    snapshot = forger.commit([forger.folder(b"", [(b"fifo", stat.S_IFIFO | 0o777)])])
    before = os.lstat(outside / "passwd").st_mode
    real = os.mkfifo

    def make_then_swap(path, mode=0o666, **kwargs):
        real(path, mode, **kwargs)
        os.unlink(path, dir_fd=kwargs["dir_fd"])
        os.symlink(outside / "passwd", path, dir_fd=kwargs["dir_fd"])

    monkeypatch.setattr(os, "mkfifo", make_then_swap)
    result = give_back(snapshot)
    assert before == os.lstat(outside / "passwd").st_mode
    assert [b"fifo"] == list(codes(result))


def test_two_entries_of_one_name_do_not_follow_each_other(forger, target, outside, give_back):
    """A link and a file, or a link and a folder, of one name: whichever comes second fails, and nothing is followed."""
    snapshot = forger.commit(
        [
            forger.folder(b"", [(b"x", str(outside)), (b"y", str(outside / "passwd"))]),
            forger.folder(b"", [(b"x", FOLDER), (b"y", b"new")]),
            forger.folder(b"x", [(b"passwd", b"new")]),
        ]
    )
    result = give_back(snapshot)
    assert untouched(outside)
    assert 3 == result.exit_code
    assert {"restore", "restore-target", UNSAFE} >= set(codes(result).values())


def test_hard_links_join_only_files_of_one_kind(forger, target, outside, give_back):
    """Entries that claim the inode of a link or a fifo are not linked to it."""
    fields = {"ino": 9, "nlink": 2}
    content = forger.content(b"data")
    snapshot = forger.commit(
        [
            forger.folder(
                b"",
                [
                    (b"1 link", (forged_row(stat.S_IFLNK | 0o777, **fields), (0, bytes(outside), ()), None)),
                    (b"2 file", (forged_row(size=4, **fields), None, content)),
                    (b"3 file", (forged_row(size=4, **fields), None, content)),
                    (b"4 fifo", (forged_row(stat.S_IFIFO | 0o600, **fields), None, None)),
                ],
            )
        ]
    )
    assert 0 == give_back(snapshot).failures_count
    assert [stat.S_IFLNK, stat.S_IFREG, stat.S_IFREG, stat.S_IFIFO] == [
        stat.S_IFMT(os.lstat(target / name).st_mode) for name in sorted(os.listdir(target))
    ]
    assert os.path.samefile(target / "2 file", target / "3 file")


def test_content_that_cannot_be_is_a_failure_of_its_file(forger, target, give_back):
    """Extents beyond their chunk, chunks that are missing or of another type, false lists: each costs its file only."""
    chunk = forger.chunk(b"0123456789")
    listed = forger.chunk(encode_list([Extent(chunk, 0, 10)]), TYPE_LIST)
    nested = forger.chunk(encode_list([Extent(listed, 0, 40)]), TYPE_LIST)
    missing = ChunkId(b"\7" * 32)
    cases = {
        b"beyond": false_content(Extent(chunk, 5, 6)),
        b"beyond in parts": false_content(Extent(chunk, 0, 10), Extent(chunk, 8, 3)),
        b"missing": false_content(Extent(missing, 0, 10)),
        b"missing in parts": false_content(Extent(chunk, 0, 10), Extent(missing, 0, 10)),
        b"missing list": false_content(Extent(missing, 0, 10, indirect=True)),
        b"of another type": false_content(Extent(listed, 0, 40)),
        b"list of content": false_content(Extent(chunk, 0, 10, indirect=True)),
        b"list of lists": false_content(Extent(nested, 0, 40, indirect=True)),
        b"list too short": false_content(Extent(listed, 0, 11, indirect=True)),
    }
    entries = [
        (name, (forged_row(size=sum(e.length for e in content.extents)), None, content))
        for name, content in cases.items()
    ]
    honest = false_content(Extent(chunk, 2, 3), Extent(None, 0, 5), Extent(listed, 0, 10, indirect=True))
    entries.append((b"honest", (forged_row(size=18), None, honest)))
    snapshot = forger.commit([forger.folder(b"", entries)])
    result = give_back(snapshot)
    assert {name: "chunk-missing" if name.startswith(b"missing") else "object-corrupt" for name in cases} == codes(
        result
    )
    assert {"honest"} == set(os.listdir(target))
    assert b"234" + bytes(5) + b"0123456789" == (target / "honest").read_bytes()


def test_a_size_that_no_disk_has_is_a_failure_of_its_file(forger, target, give_back):
    """A hole of 8 EiB cannot be made on any file system here: the file is a failure, and its place stays free."""
    size = (1 << 63) - 1
    entry = forged_row(size=size), None, false_content(Extent(None, 0, size))
    snapshot = forger.commit([forger.folder(b"", [(b"good", b"1"), (b"huge", entry)])])
    result = give_back(snapshot)
    assert {b"huge": "restore"} == codes(result)
    assert {"good"} == set(os.listdir(target))


def test_values_that_no_file_has_are_warnings(forger, target, give_back):
    """Owners, times, names of attributes and link targets that the system refuses leave the file, or its failure."""
    far = ((1 << 63) - 1) * 1_000_000_000
    snapshot = forger.commit(
        [
            forger.folder(
                b"",
                [
                    (b"attribute", (forged_row(), (0, b"", ((b"user.a\0b", b"1"), (b"nonsense", b""))), None)),
                    (b"device", (forged_row(stat.S_IFCHR | 0o666), ((1 << 64) - 1, b"", ()), None)),
                    (b"far", (forged_row(mtime=far), None, None)),
                    (b"link", (forged_row(stat.S_IFLNK | 0o777), (0, b"a\0b", ()), None)),
                    (b"no target", (forged_row(stat.S_IFLNK | 0o777), (0, b"", ()), None)),
                    (b"owner", (forged_row(stat.S_IFREG | 0o6755, uid=(1 << 32) - 1), None, None)),
                    (b"x" * 300, b"too long"),
                ],
            )
        ]
    )
    result = give_back(snapshot)
    assert {b"link", b"no target", b"x" * 300} <= set(codes(result))
    assert {"attribute", "far", "owner"} <= set(os.listdir(target))
    assert (b"attribute", "xattr") in {(warning.path, warning.code) for warning in result.warnings}
    assert 0o755 == stat.S_IMODE(os.lstat(target / "owner").st_mode)


def test_a_path_longer_than_the_system_takes_is_no_trouble(forger, target, give_back):
    """Folders are opened one below the other; with the target's before it, the path is over the system's longest."""
    deep = b"/".join([b"level"] * 680)
    snapshot = forger.commit([forger.folder(deep, [(b"file", b"found")])])
    result = give_back(snapshot)
    assert (1, 680, 0) == (result.stats["files"], result.stats["directories"], result.failures_count)
    fd = os.open(target, os.O_RDONLY)
    for _ in range(680):
        below = os.open("level", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    names = os.listdir(fd)
    os.close(fd)
    subprocess.run(["rm", "-rf", target], check=True)  # pytest's own removal recurses
    assert ["file"] == names


@needs_root
def test_a_hostile_snapshot_cannot_write_into_its_own_repository(tmp_path, forger, bench, give_back):
    """Restored over the folder that holds the repository, entries inside the repository are failures."""
    from coffer.backends.local import LocalBackend
    from tests.harness.backups import Workbench

    top = tmp_path / "top"
    bench = Workbench(tmp_path / "other", backend=LocalBackend(top / "repo", create=True))
    forger = Forger(bench.repo)
    snapshot = forger.commit(
        [forger.folder(b"", [(b"good", b"1"), (b"repo", FOLDER)]), forger.folder(b"repo", [(b"coffer.json", b"evil")])]
    )
    before = (top / "repo" / "coffer.json").read_bytes()
    result = give_back(snapshot, repo=bench.reopen(), to=top, overwrite=Overwrite.ALWAYS)
    assert {b"repo/coffer.json": "restore-target"} == codes(result)
    assert (before, b"1") == ((top / "repo" / "coffer.json").read_bytes(), (top / "good").read_bytes())
