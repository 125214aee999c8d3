"""Verification after a restore: whatever differs from the snapshot is a failure that says in what."""

import os
import stat

import pytest

from coffer.repository.entries import Extent
from coffer.restore import Overwrite
from tests.harness.backups import needs_root, write_tree
from tests.harness.forgery import Forger, false_content, forged_row
from tests.harness.restores import landed, set_times, write_plain_kinds, write_root_kinds


@pytest.fixture
def there(bench, target, give_back):
    """A restored tree, whose files of the same size and time are taken for right by a second run."""
    write_plain_kinds(bench.root)
    bench.back_up()
    give_back()
    return landed(target, bench.root)


def overwrite_in_place(path, at, data):
    """Change content behind everybody's back: size, time and mode stay."""
    status = os.lstat(path)
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("name", "at", "data"),
    [
        ("docs/004.txt", 0, b"\0\1\2\3"),
        ("large", 30_000, b"\0\1\2\3"),
        ("sparse", (1 << 20) + 100, b"\0\1\2\3"),
        ("sparse", 4096, b"data"),
        ("hole", (5 << 20) - 4, b"data"),
    ],
)
def test_content_that_changed_is_found(bench, there, give_back, name, at, data):
    """Content is compared by its keyed ids, holes with zeros: a file that only looks unchanged is a failure."""
    overwrite_in_place(there / name, at, data)
    assert 0 == give_back(overwrite=Overwrite.CHANGED).exit_code
    result = give_back(overwrite=Overwrite.CHANGED, verify=True)
    assert [(os.fsencode(bench.root / name)[1:], "differs")] == [(f.path, f.code) for f in result.failures]
    assert "content" in result.failures[0].message or "hole" in result.failures[0].message


def test_zeros_in_a_hole_are_no_difference(there, give_back):
    """A file system that fills holes with zeros keeps the content all the same."""
    overwrite_in_place(there / "hole", 1 << 20, bytes(3 << 20))
    assert 0 == give_back(overwrite=Overwrite.CHANGED, verify=True).exit_code


def test_everything_is_verified(bench, there, give_back):
    """Every regular file is read back, under each of its names."""
    result = give_back(overwrite=Overwrite.ALWAYS, verify=True)
    files = [name for top, _, names in os.walk(bench.root) for name in names if _is_file(os.path.join(top, name))]
    assert len(files) == result.stats["verified_files"]


def _is_file(path):
    return stat.S_ISREG(os.lstat(path).st_mode)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("docs/001.txt", lambda p: os.setxattr(p, "user.note", b"other"), "'user.note'"),
        ("docs/005.txt", lambda p: os.setxattr(p, "user.more", b"x"), "'user.more'"),
        ("docs", lambda p: os.removexattr(p, "user.note"), "'user.note'"),
        ("docs/006.txt", lambda p: os.chmod(p, 0o777), "mode is 0777"),
        ("docs/deep", lambda p: os.chmod(p, 0o777), "mode is 0777"),
        ("link", lambda p: (p.unlink(), p.symlink_to("other")), "leads elsewhere"),
        ("fifo", lambda p: (p.unlink(), p.write_bytes(b"")), "another kind"),
        ("docs/007.txt", lambda p: os.truncate(p, 2), "bytes, not"),
        ("docs/008.txt", lambda p: os.utime(p, ns=(5, 5)), "its time"),
        ("docs/009.txt", lambda p: p.unlink(), "no such file"),
        ("fifo", lambda p: os.chmod(p, 0o600), "mode is 0600"),
    ],
)
def test_what_changes_before_the_verification_is_found(bench, target, give_back, monkeypatch, name, change, message):
    """Kind, size, mode, time, link target and attributes are compared too, each failure named once."""
    write_plain_kinds(bench.root)
    bench.back_up()
    place = landed(target, bench.root) / name

    def change_then_verify(tree):
        real(tree)
        time_ns = os.lstat(place.parent).st_mtime_ns
        change(place)
        os.utime(place.parent, ns=(time_ns, time_ns))

    from coffer.restore.tree import Tree

    real = Tree.finish
    monkeypatch.setattr(Tree, "finish", change_then_verify)
    result = give_back(verify=True)
    assert [os.fsencode(bench.root / name)[1:]] == [failure.path for failure in result.failures]
    assert message in result.failures[0].message


@needs_root
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("file", lambda p: os.chown(p, 5, 5), "owner is 5:5"),
        ("null", lambda p: (p.unlink(), os.mknod(p, stat.S_IFCHR | 0o666, os.makedev(1, 5))), "another device"),
        ("link", lambda p: os.chown(p, 1, 1, follow_symlinks=False), "owner is 1:1"),
        ("listed", lambda p: os.removexattr(p, "system.posix_acl_access"), "posix_acl_access"),
        ("capable", lambda p: os.removexattr(p, "security.capability"), "security.capability"),
    ],
)
def test_what_only_root_sets_is_compared_too(bench, target, give_back, monkeypatch, name, change, message):
    """Owners, device numbers, ACLs and capabilities."""
    write_root_kinds(bench.root)
    bench.back_up()
    place = landed(target, bench.root) / "owned" / name

    def change_then_verify(tree):
        real(tree)
        time_ns = os.lstat(place.parent).st_mtime_ns
        change(place)
        os.utime(place.parent, ns=(time_ns, time_ns))

    from coffer.restore.tree import Tree

    real = Tree.finish
    monkeypatch.setattr(Tree, "finish", change_then_verify)
    result = give_back(verify=True)
    assert [os.fsencode(bench.root / "owned" / name)[1:]] == [failure.path for failure in result.failures]
    assert message in result.failures[0].message


def test_a_file_that_shrinks_under_the_reading_is_told(bench, target, give_back, monkeypatch):
    """A short read is a difference, not a hang."""
    write_tree(bench.root, {"a": os.urandom(500)})
    bench.back_up()
    monkeypatch.setattr(os, "pread", lambda fd, length, at: b"")
    result = give_back(verify=True)
    assert ["is not what was restored: it ends too early"] == [failure.message for failure in result.failures]


def test_a_part_of_a_chunk_is_compared_with_the_chunk(bench, target, give_back):
    """Where no id names a run of content by itself, the chunk is read again: right or wrong, it is told."""
    forger = Forger(bench.repo)
    chunk = forger.chunk(b"0123456789")
    ids = bench.repo.keyring.ids
    extents = (Extent(chunk, 2, 3), Extent(chunk, 0, 10))
    right = false_content(*extents)
    right.content_id = ids.extents_id([(chunk, 2, 3), (chunk, 0, 10)])
    alone = false_content(Extent(chunk, 4, 6))
    alone.content_id = ids.extents_id([(chunk, 4, 6)])
    entries = [
        (b"alone", (forged_row(size=6), None, alone)),
        (b"false id", (forged_row(size=13), None, false_content(*extents))),
        (b"right", (forged_row(size=13), None, right)),
    ]
    snapshot = forger.commit([forger.folder(b"", entries)])
    result = give_back(snapshot, verify=True)
    assert [(b"false id", "differs")] == [(failure.path, failure.code) for failure in result.failures]
    assert 2 == result.stats["verified_files"]
    assert b"2340123456789" == (target / "right").read_bytes()
    overwrite_in_place(target / "alone", 0, b"x")
    again = give_back(snapshot, overwrite=Overwrite.CHANGED, verify=True)
    assert {b"alone", b"false id"} == {failure.path for failure in again.failures}


def test_attributes_that_could_not_be_set_are_not_told_twice(bench, target, give_back, monkeypatch):
    """What was a warning when it was set is no failure of the verification."""
    write_tree(bench.root, {"a": b"1"})
    os.setxattr(bench.root / "a", "user.note", b"1")
    set_times(bench.root)
    bench.back_up()

    def refuse(*_, **__):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    result = give_back(verify=True)
    assert (["xattr"], 0) == ([warning.code for warning in result.warnings], result.failures_count)
    assert "extended attribute 'user.note' not set: operation not supported" == result.warnings[0].message
    assert (target / bench.root.relative_to("/") / "a").read_bytes() == b"1"


def test_a_file_system_without_attributes_verifies(bench, target, give_back, monkeypatch):
    """Where attributes cannot even be listed, those of the snapshot are missing, and nothing else."""
    write_tree(bench.root, {"a": b"1", "b": b"2"})
    os.setxattr(bench.root / "a", "user.note", b"1")
    bench.back_up()

    def refuse(*_, **__):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "listxattr", refuse)
    result = give_back(verify=True)
    assert [b"a"] == [os.path.basename(failure.path) for failure in result.failures]
