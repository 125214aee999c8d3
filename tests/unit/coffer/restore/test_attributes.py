"""Attributes that the system refuses are warnings: the file is restored, and the result says what it lacks."""

import errno
import os
import stat

import pytest

from coffer.restore import Overwrite
from tests.harness.backups import needs_root, write_tree
from tests.harness.restores import assert_restored, landed, names_below, set_times, write_plain_kinds, write_root_kinds


def refuse(number=errno.EPERM):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("call", ["fchmod", "utime"])
def test_what_cannot_be_set_is_warned_of(bench, target, give_back, monkeypatch, call):
    """A file system that refuses modes or times keeps the content; each entry is named."""
    write_tree(bench.root, {"a": b"1", "b/c": b"2"})
    os.symlink("a", bench.root / "link")
    os.mkfifo(bench.root / "fifo")
    bench.back_up()
    monkeypatch.setattr(os, call, refuse())
    result = give_back()
    assert (0, 3) == (result.failures_count, result.exit_code)
    assert {"attributes"} == {warning.code for warning in result.warnings}
    assert "attributes not set: operation not permitted" in {warning.message for warning in result.warnings}
    assert names_below(bench.root) == names_below(landed(target, bench.root))


@needs_root
def test_owners_that_are_refused_take_setuid_bits_along(bench, target, give_back, monkeypatch):
    """Where root itself may not give files away, a setuid program of another user must not become root's."""
    write_root_kinds(bench.root)
    bench.back_up()
    monkeypatch.setattr(os, "chown", refuse())
    result = give_back()
    there = landed(target, bench.root) / "owned"
    assert 0o751 == stat.S_IMODE((there / "setuid").stat().st_mode)
    codes = {(os.path.basename(warning.path), warning.code) for warning in result.warnings}
    assert {(b"setuid", "mode"), (b"file", "owner"), (b"link", "owner"), (b"owned", "owner")} <= codes
    assert 0 == result.failures_count


def test_inherited_acls_that_stay_are_warned_of(bench, target, give_back, monkeypatch):
    """If an ACL of the target's cannot be taken off a file, the file is more open than it was, and that is said."""
    write_tree(bench.root, {"a": b"1"})
    bench.back_up()
    there = landed(target, bench.root)
    there.mkdir(parents=True)
    acl = bytes.fromhex("02000000 01000700ffffffff 04000500ffffffff 20000500ffffffff".replace(" ", ""))
    os.setxattr(there, "system.posix_acl_default", acl)
    monkeypatch.setattr("coffer.restore.attributes.drop_xattr", refuse())
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: ["system.posix_acl_default", "system.posix_acl_access"])
    result = give_back(overwrite=Overwrite.NEVER)
    assert {"xattr"} == {warning.code for warning in result.warnings}
    assert 0 == result.failures_count


def test_names_of_the_systems_own_are_left_alone(bench, target, give_back, monkeypatch):
    """Labels that the system gives to every file (SELinux) are not taken off."""
    write_tree(bench.root, {"a/b": b"1"})
    set_times(bench.root)
    bench.back_up()
    give_back()
    real = os.listxattr
    dropped = []
    monkeypatch.setattr(os, "listxattr", lambda *a, **k: [*real(*a, **k), "security.selinux"])
    monkeypatch.setattr("coffer.restore.attributes.drop_xattr", lambda _, name: dropped.append(name))
    assert 0 == give_back(overwrite=Overwrite.CHANGED).exit_code
    assert [] == dropped
    monkeypatch.undo()
    assert_restored(bench.root, target)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_few_large_files_at_a_time_are_enough(bench, target, give_back, monkeypatch, limit):
    """However many large files there are, few are open at a time, and all are restored."""
    monkeypatch.setattr("coffer.restore.execute._LARGE_FILES", limit)
    for number in range(30):
        write_tree(bench.root, {f"{number % 3}/{number}": os.urandom(9000)})
    set_times(bench.root)
    bench.back_up()
    assert 0 == give_back(verify=True).exit_code
    assert_restored(bench.root, target)


def test_large_files_are_kept_or_refused_like_small_ones(bench, target, give_back):
    """A large file that is right is not opened again; one whose place is a folder is a failure."""
    for name in ("a", "b", "c"):
        write_tree(bench.root, {name: os.urandom(9000)})
    set_times(bench.root)
    bench.back_up()
    give_back()
    there = landed(target, bench.root)
    (there / "b").unlink()
    (there / "b").mkdir()
    (there / "c").write_bytes(b"changed")
    result = give_back(overwrite=Overwrite.CHANGED)
    assert (1, 1, 1) == (result.stats["kept"], result.stats["files"], result.failures_count)
    assert (bench.root / "c").read_bytes() == (there / "c").read_bytes()


def test_a_large_file_whose_folder_is_gone_is_a_failure(bench, target, give_back, monkeypatch):
    """Somebody who moves the folder away while its file is written gets a failure, and the rest is restored."""
    from coffer.restore.files import FileWriter

    write_tree(bench.root, {"x/large": os.urandom(9000), "y/small": b"1"})
    bench.back_up()
    real = FileWriter.finish_large

    def move_then_finish(writer, file):
        writer.folders.forget(file.folder)
        place = landed(target, bench.root)
        os.rename(place / "x", place / "moved")
        real(writer, file)

    monkeypatch.setattr(FileWriter, "finish_large", move_then_finish)
    result = give_back()
    assert [b"large"] == [os.path.basename(failure.path) for failure in result.failures]
    assert b"1" == (landed(target, bench.root) / "y" / "small").read_bytes()


def test_a_node_that_cannot_be_made_is_a_failure(bench, target, give_back, monkeypatch):
    """A file system without fifos: a failure each, and nothing is left under another name."""
    write_plain_kinds(bench.root)
    bench.back_up()
    monkeypatch.setattr(os, "mkfifo", refuse())
    for overwrite in (None, Overwrite.ALWAYS):
        result = give_back(overwrite=overwrite)
        assert [(b"fifo", "restore")] == [(os.path.basename(f.path), f.code) for f in result.failures]
    assert names_below(bench.root) - names_below(landed(target, bench.root)) == {"fifo"}
    assert not [name for name in names_below(target) if ".coffer" in name]


def test_links_that_are_right_are_kept(bench, target, give_back, monkeypatch):
    """A symbolic link that leads where it should and has its time is not made anew; one that cannot be read is."""
    os.symlink("somewhere", bench.root / "link")
    set_times(bench.root)
    bench.back_up()
    give_back()
    assert (1, 0) == tuple(give_back(overwrite=Overwrite.CHANGED).stats[name] for name in ("kept", "symlinks"))
    monkeypatch.setattr(os, "readlink", refuse(errno.EIO))
    assert 1 == give_back(overwrite=Overwrite.CHANGED).stats["symlinks"]


@needs_root
def test_devices_that_are_right_are_kept(bench, target, give_back):
    """A device node of the same number is not made anew; one of another number is."""
    write_root_kinds(bench.root)
    bench.back_up()
    give_back()
    assert 0 == give_back(overwrite=Overwrite.CHANGED).stats["others"]
    there = landed(target, bench.root) / "owned" / "null"
    status = there.stat()
    there.unlink()
    os.mknod(there, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.chmod(there, 0o666)
    os.utime(there, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert 1 == give_back(overwrite=Overwrite.CHANGED).stats["others"]
    assert_restored(bench.root, target)


def test_a_file_in_the_place_of_a_new_link_gets_nothing_of_it(bench, target, give_back, monkeypatch):
    """Whoever may write to the folder puts another file at the link's name: that file stays as it is."""
    from coffer.restore.attributes import Attributes

    (bench.root / "link").symlink_to("nowhere")
    bench.back_up()
    real = Attributes.set_link

    def swap(self, folder, name, *rest):
        os.unlink(name, dir_fd=folder.fd)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=folder.fd)
        os.utime(fd, ns=(5, 5))
        os.close(fd)
        found.append(os.lstat(b"/proc/self/fd/%d/%b" % (folder.fd, name)))
        return real(self, folder, name, *rest)

    found = []
    monkeypatch.setattr(Attributes, "set_link", swap)
    result = give_back()
    assert (3, 1) == (result.exit_code, result.failures_count)
    assert (5, 0o640) == (found[0].st_mtime_ns, found[0].st_mode & 0o777)
