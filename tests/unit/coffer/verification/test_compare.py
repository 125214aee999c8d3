"""Two trees are alike, or each difference is named with its path and its aspect."""

import inspect
import os
import shutil
import socket
import stat
import struct
import sys
import tracemalloc

import pytest

from coffer.verification import compare
from coffer.verification.compare import MAX_DIFFERENCES_KEPT, Comparison, Difference, compare_trees

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make device nodes and give files away")
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, perm, qualifier)
    for tag, perm, qualifier in (
        (1, 6, 0xFFFFFFFF),
        (2, 4, 12345),
        (4, 4, 0xFFFFFFFF),
        (16, 4, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    )
)


@pytest.fixture
def trees(tmp_path):
    """Two like trees with something of every kind that any user can make."""
    one = tmp_path / "one"
    (one / "sub" / "deep").mkdir(parents=True)
    (one / "a.txt").write_bytes(b"alpha")
    (one / "sub" / "b.bin").write_bytes(bytes(range(256)) * 5000)
    (one / "sub" / "deep" / "c").write_bytes(b"")
    (one / os.fsdecode(b"n\xff\n")).write_bytes(b"strange name")
    (one / "link").symlink_to("sub/b.bin")
    (one / "broken").symlink_to("nowhere")
    os.mkfifo(one / "pipe")
    os.link(one / "a.txt", one / "sub" / "a-again")
    with (one / "holes").open("wb") as out:
        out.truncate(8 << 20)
        out.seek(4 << 20)
        out.write(b"data")
    two = tmp_path / "two"
    copy(one, two)
    return one, two


def copy(one, two):
    shutil.copytree(one, two, symlinks=True, copy_function=copy_file, ignore=lambda *_: ["pipe"])
    os.mkfifo(two / "pipe")
    (two / "sub" / "a-again").unlink()
    os.link(two / "a.txt", two / "sub" / "a-again")
    for folder, _, names in os.walk(one, topdown=False):
        for path in [os.path.join(folder, name) for name in names] + [folder]:
            other = str(two) + path[len(str(one)) :]
            status = os.lstat(path)
            os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def copy_file(source, target, *, follow_symlinks=True):
    """Copy a file with its holes."""
    with open(source, "rb") as reader, open(target, "wb") as writer:
        data = reader.read()
        writer.truncate(len(data))
        for start in range(0, len(data), 4096):
            if data[start : start + 4096].strip(b"\0"):
                writer.seek(start)
                writer.write(data[start : start + 4096])
    shutil.copystat(source, target, follow_symlinks=follow_symlinks)


def keep_times(path):
    """Return a function that gives a path its present mtime back."""
    status = os.lstat(path)
    return lambda: os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def test_like_trees_are_alike(trees):
    """No difference, and the counts are those of the expected tree."""
    one, two = trees
    found = compare_trees(one, two)
    assert () == found.differences
    assert found.ok
    size = 5 + 5 + 256 * 5000 + 12 + (8 << 20)
    assert Comparison((), 6, 11, size, 0) == found


@pytest.mark.parametrize(
    ("place", "offset"),
    [("a.txt", 0), ("a.txt", 4), ("sub/b.bin", 1_048_575), ("sub/b.bin", 1_048_576), ("sub/b.bin", 1_279_999)],
)
def test_one_flipped_bit_is_found_at_its_offset(trees, place, offset):
    """The first and the last byte of a file and of each read; the offset and both bytes are told."""
    one, two = trees
    path = two / place
    restore_times = keep_times(path)
    data = bytearray(path.read_bytes())
    was = data[offset]
    data[offset] ^= 1
    with path.open("r+b") as out:
        out.write(data)
    restore_times()
    expected = Difference(
        place.encode(), "content", f"byte {offset}: {was:#04x}", f"byte {offset}: {data[offset]:#04x}"
    )
    assert (expected,) == compare_trees(one, two).differences


def test_a_flipped_bit_in_a_sparse_file_is_found(trees):
    """Holes on both sides are passed over; data that stands in a hole of the other is not."""
    one, two = trees
    restore_times = keep_times(two / "holes")
    with (two / "holes").open("r+b") as out:
        out.seek(6 << 20)
        out.write(b"\1")
    restore_times()
    (found,) = compare_trees(one, two).differences
    assert (b"holes", "content", f"byte {6 << 20}: 0x00") == (found.path, found.what, found.expected)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("mode", lambda path: path.chmod(path.stat().st_mode ^ stat.S_ISUID)),
        ("mtime_ns", lambda path: os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))),
        ("size", lambda path: os.truncate(path, 3)),
        ("xattrs", lambda path: os.setxattr(path, "user.note", b"x")),
    ],
)
@pytest.mark.parametrize("ignored", [False, True], ids=["seen", "ignored"])
def test_each_attribute_of_a_file_is_one_difference(trees, what, change, ignored):
    """It is named by its aspect, and is none where that aspect is ignored."""
    one, two = trees
    path = two / "sub" / "b.bin"
    restore_times = keep_times(path)
    change(path)
    if what != "mtime_ns":
        restore_times()
    found = compare_trees(one, two, ignore={what} if ignored else ())
    assert ([] if ignored else [(b"sub/b.bin", what)]) == [(d.path, d.what) for d in found.differences]
    assert found.ok is ignored


def test_a_lost_and_an_altered_attribute_are_told_by_name_and_value(trees):
    """An ACL is compared like any extended attribute."""
    one, two = trees
    os.setxattr(one / "a.txt", "user.gone", b"was here")
    os.setxattr(one / "a.txt", "user.other", b"\1" * 40)
    os.setxattr(two / "a.txt", "user.other", b"\2")
    found = {(d.expected, d.actual) for d in compare_trees(one, two, ignore={"mode"}).differences}
    gone = ("user.gone=7761732068657265 (8 bytes)", "no user.gone")
    other = (f"user.other={'01' * 32}... (40 bytes)", "user.other=02 (1 bytes)")
    assert {gone, other} == found


def test_an_acl_that_was_lost_is_a_difference(trees):
    """POSIX ACLs are extended attributes of the system; the mode alone would not show it."""
    one, two = trees
    os.setxattr(one / "link", "system.posix_acl_access", ACL)
    found = compare_trees(one, two, ignore={"mode"}).differences
    assert [(b"sub/b.bin", "xattrs", "no system.posix_acl_access")] == [(d.path, d.what, d.actual) for d in found]


def test_a_folder_has_attributes_too(trees):
    """Mode and mtime of a folder are compared, before what is in it."""
    one, two = trees
    (two / "sub" / "deep" / "c").chmod(0o600)
    (one / "sub" / "deep" / "c").chmod(0o640)
    os.utime(two / "sub", ns=(0, 5))
    (two / "sub").chmod(0o711)
    found = [(d.path, d.what) for d in compare_trees(one, two).differences]
    assert [(b"sub", "mode"), (b"sub", "mtime_ns"), (b"sub/deep/c", "mode")] == found


def test_link_targets_are_compared_as_text(trees):
    """A link is never followed, so a broken one is compared like any other."""
    one, two = trees
    restore_times = keep_times(two / "broken")
    (two / "broken").unlink()
    (two / "broken").symlink_to(os.fsdecode(b"else\xffwhere"))
    restore_times()
    os.utime(two, ns=(0, os.stat(one).st_mtime_ns))
    (found,) = compare_trees(one, two, ignore={"mtime_ns"}).differences
    assert Difference(b"broken", "link_target", "nowhere", r"else\xffwhere") == found


def test_another_kind_is_one_difference_and_is_not_descended_into(trees):
    """A folder where a file should be, and the reverse."""
    one, two = trees
    shutil.rmtree(two / "sub")
    (two / "sub").write_bytes(b"")
    (two / "a.txt").unlink()
    (two / "a.txt").mkdir()
    found = compare_trees(one, two, ignore={"mtime_ns", "mode"}).differences
    assert [("a.txt", "file", "directory"), ("sub", "directory", "file")] == [
        (d.path.decode(), d.expected, d.actual) for d in found if d.what == "kind"
    ]
    assert 2 == len(found)


def test_missing_and_extra_entries_are_one_difference_each_in_order(trees):
    """A missing folder is told once, whatever it held; names that are not UTF-8 are told as they are."""
    one, two = trees
    shutil.rmtree(two / "sub")
    (two / os.fsdecode(b"n\xff\n")).unlink()
    (two / "b").mkdir()
    (two / "b" / "below").write_bytes(b"")
    found = compare_trees(one, two, ignore={"root", "mtime_ns", "hardlinks"}).differences
    assert (
        Difference(b"b", "extra", "", "directory"),
        Difference(b"n\xff\n", "missing", "file", ""),
        Difference(b"sub", "missing", "directory", ""),
    ) == found


def test_hard_links_that_became_copies_are_a_difference(trees):
    """The content is the same, the room it takes is not."""
    one, two = trees
    restore_times, restore_folder = keep_times(two / "sub" / "a-again"), keep_times(two / "sub")
    (two / "sub" / "a-again").unlink()
    shutil.copy2(two / "a.txt", two / "sub" / "a-again")
    restore_times()
    restore_folder()
    (found,) = compare_trees(one, two).differences
    assert (b"sub/a-again", "hardlinks") == (found.path, found.what)
    assert compare_trees(one, two, ignore={"hardlinks"}).ok


def test_holes_that_were_filled_are_a_difference(trees):
    """Same bytes, but the zeros are written out: the file takes the room that its source did not."""
    one, two = trees
    restore_times = keep_times(two / "holes")
    data = (two / "holes").read_bytes()
    (two / "holes").write_bytes(data)
    restore_times()
    (found,) = compare_trees(one, two).differences
    assert (b"holes", "holes", f"{len(data)} bytes of data") == (found.path, found.what, found.actual)
    assert compare_trees(one, two, ignore={"holes"}).ok
    assert compare_trees(two, one).ok, "more holes than expected are no loss"
    assert not compare_trees(one, two, ignore={"content"}).ok, "holes are compared without the content too"


def test_a_hole_of_a_terabyte_is_compared_at_once(tmp_path):
    """What is a hole on both sides is not read."""
    for name in ("one", "two"):
        with (tmp_path / name).open("wb") as out:
            out.truncate(1 << 40)
            out.seek(1 << 39)
            out.write(b"x")
    found = compare_trees(tmp_path / "one", tmp_path / "two", ignore={"mtime_ns"})
    assert Comparison((), 1, 1, 1 << 40, 0) == found


def test_a_file_system_that_knows_no_holes_is_read_whole(trees, monkeypatch):
    """Where lseek cannot tell data from holes, all of it counts as data on both sides."""

    def refuse(fd, at, whence):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(compare.os, "lseek", refuse)
    one, two = trees
    assert compare_trees(one, two).ok


def test_data_that_cannot_be_told_to_end_counts_to_the_end(trees, monkeypatch):
    """A file system that knows SEEK_DATA but fails at SEEK_HOLE."""
    real = os.lseek

    def refuse(fd, at, whence):
        if whence == os.SEEK_HOLE:
            raise OSError(22, "Invalid argument")
        return real(fd, at, whence)

    monkeypatch.setattr(compare.os, "lseek", refuse)
    one, two = trees
    assert compare_trees(one, two).ok


def test_the_roots_count_unless_they_are_ignored(trees):
    """Their names may differ, their attributes not."""
    one, two = trees
    two.chmod(0o700)
    one.chmod(0o755)
    assert [(b".", "mode")] == [(d.path, d.what) for d in compare_trees(one, two).differences]
    assert compare_trees(one, two, ignore={"root"}).ok


def test_two_files_can_be_the_roots(tmp_path):
    """A single file that was restored is compared with its source."""
    (tmp_path / "one").write_bytes(b"same")
    shutil.copy2(tmp_path / "one", tmp_path / "two")
    assert Comparison((), 1, 1, 4, 0) == compare_trees(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two").write_bytes(b"sane")
    (found,) = compare_trees(tmp_path / "one", tmp_path / "two", ignore={"mtime_ns"}).differences
    assert Difference(b".", "content", "byte 2: 0x6d", "byte 2: 0x6e") == found


def test_a_folder_and_a_file_as_roots_differ_in_kind(tmp_path):
    """It is a finding and no error."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").write_bytes(b"")
    found = compare_trees(tmp_path / "one", tmp_path / "two")
    assert (Difference(b".", "kind", "directory", "file"),) == found.differences


def test_what_cannot_be_read_is_a_finding_and_the_rest_goes_on(trees, monkeypatch):
    """A folder that cannot be listed, a file that cannot be opened, a file that vanishes, a disk that fails."""
    one, two = trees
    real_list, real_open, real_lstat = os.listdir, os.open, os.lstat
    fifth = {
        "listdir": lambda path: fail(path) if path.endswith(b"two/sub/deep") else real_list(path),
        "open": lambda path, flags: fail(path) if path.endswith(b"one/a.txt") else real_open(path, flags),
        "lstat": lambda path: fail(path) if path.endswith(b"one/pipe") else real_lstat(path),
        "pread": lambda fd, length, at: fail(None),
    }
    for name, function in fifth.items():
        monkeypatch.setattr(compare.os, name, function)
    found = compare_trees(one, two)
    there, here, both = ("gone bad", ""), ("", "gone bad"), ("gone bad", "gone bad")
    expected = {
        (b"a.txt", *there),
        (b"holes", *both),
        (b"n\xff\n", *both),
        (b"pipe", *there),
        (b"sub/deep", *here),
        (b"sub/b.bin", *both),
    }
    assert expected == {(d.path, d.expected, d.actual) for d in found.differences}
    assert {"unreadable"} == {d.what for d in found.differences}


def test_a_file_that_is_cut_off_while_it_is_read_differs_at_its_end(trees, monkeypatch):
    """The size was looked at before; the read tells the truth."""
    one, two = trees
    real = os.pread

    def cut(fd, length, at):
        path = os.readlink(f"/proc/self/fd/{fd}")
        return real(fd, length, at)[:3] if path.endswith("two/a.txt") else real(fd, length, at)

    monkeypatch.setattr(compare.os, "pread", cut)
    found = compare_trees(one, two).differences
    assert (Difference(b"a.txt", "content", "byte 3: 0x68", "byte 3: end"),) == found


def test_content_can_be_left_unread(trees, monkeypatch):
    """With content and holes ignored no file is opened."""
    monkeypatch.setattr(compare.os, "open", lambda path, flags: fail(path))
    one, two = trees
    assert compare_trees(one, two, ignore={"content", "holes"}).ok


def fail(path):
    raise OSError(5, "gone bad", path) if path else OSError(5, "gone bad")


def test_what_vanishes_before_it_is_described_is_described_by_the_error(trees, monkeypatch):
    """A missing entry whose other side vanishes meanwhile."""
    one, two = trees
    (two / "pipe").unlink()
    monkeypatch.setattr(compare.os, "lstat", lambda path: fail(path) if path.endswith(b"pipe") else os.stat(path))
    found = [d for d in compare_trees(one, two, ignore={"root"}).differences if d.path == b"pipe"]
    assert [Difference(b"pipe", "missing", "gone bad", "")] == found


@pytest.mark.parametrize(("code", "alike"), [(95, True), (1, True), (5, False)], ids=["ENOTSUP", "EPERM", "EIO"])
def test_a_file_system_without_attributes_has_none(trees, monkeypatch, code, alike):
    """Only a true failure is a finding."""

    def refuse(path, *, follow_symlinks):
        raise OSError(code, "no")

    monkeypatch.setattr(compare.os, "listxattr", refuse)
    assert alike is compare_trees(*trees).ok


def test_many_differences_are_counted_and_a_thousand_kept(tmp_path):
    """The count is exact, the list is cut."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    for number in range(MAX_DIFFERENCES_KEPT + 5):
        (tmp_path / "one" / f"{number:05d}").symlink_to("x")
    found = compare_trees(tmp_path / "one", tmp_path / "two", ignore={"root"})
    assert (MAX_DIFFERENCES_KEPT, MAX_DIFFERENCES_KEPT + 5) == (len(found.differences), found.differences_count)
    assert sorted(found.differences, key=lambda d: d.path) == list(found.differences)
    assert not found.ok


def test_a_tree_deeper_than_the_stack_is_compared(tmp_path):
    """Depth costs no recursion. The stack is made small, not the tree deep: nobody could remove that afterwards."""
    for root in ("one", "two"):
        tmp_path.joinpath(root, *["d"] * 200).mkdir(parents=True)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 60)
    try:
        found = compare_trees(tmp_path / "one", tmp_path / "two", ignore={"mtime_ns"})
    finally:
        sys.setrecursionlimit(limit)
    assert (200, 0) == (found.entries, found.differences_count)


def test_large_files_take_little_memory(tmp_path):
    """A file is read in pieces of 1 MiB, of which four are held at most."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"x" * (32 << 20))
    tracemalloc.start()
    assert compare_trees(tmp_path / "one", tmp_path / "two", ignore={"mtime_ns"}).ok
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20


@needs_root
def test_owners_and_device_numbers_are_compared(tmp_path):
    """What only root can make."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"")
        os.mknod(tmp_path / name / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3 if name == "one" else 5))
    os.chown(tmp_path / "two" / "file", 12, 34)
    found = compare_trees(tmp_path / "one", tmp_path / "two", ignore={"mtime_ns"}).differences
    assert (
        Difference(b"file", "uid", "0", "12"),
        Difference(b"file", "gid", "0", "34"),
        Difference(b"null", "rdev", "1:3", "1:5"),
    ) == found


def test_a_socket_is_an_entry_like_any_other(tmp_path):
    """It is neither opened nor followed."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.open(tmp_path / name, os.O_RDONLY)
            listener.bind(f"/proc/self/fd/{here}/s")
            os.close(here)
    found = compare_trees(tmp_path / "one", tmp_path / "two", ignore={"mtime_ns"})
    assert (1, 0) == (found.entries, found.differences_count)


def test_an_unknown_aspect_is_refused(tmp_path):
    """A misspelt aspect would silently compare more than was meant."""
    with pytest.raises(ValueError, match="owner"):
        compare_trees(tmp_path, tmp_path, ignore={"owner"})


def test_a_root_that_does_not_exist_is_an_error(tmp_path):
    """Nothing can be said of it."""
    with pytest.raises(FileNotFoundError):
        compare_trees(tmp_path, tmp_path / "none")
