"""Entries: kinds, names, and the order of folders."""

import stat

import pytest

from coffer.repository.entries import Entry, Kind, known_kind, path_key


def _entry(path=b"a/b", mode=stat.S_IFREG | 0o644):
    return Entry(path, mode, 0, 0, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("bits", "kind"),
    [
        (stat.S_IFREG, Kind.FILE),
        (stat.S_IFDIR, Kind.DIRECTORY),
        (stat.S_IFLNK, Kind.SYMLINK),
        (stat.S_IFIFO, Kind.FIFO),
        (stat.S_IFCHR, Kind.CHARACTER_DEVICE),
        (stat.S_IFBLK, Kind.BLOCK_DEVICE),
        (stat.S_IFSOCK, Kind.SOCKET),
    ],
)
def test_every_kind_of_file_has_its_word(bits, kind):
    """The seven kinds that a Linux file system has, whatever the permissions."""
    assert known_kind(bits | 0o7777)
    assert kind is _entry(mode=bits | 0o4755).kind


@pytest.mark.parametrize("mode", [0, 0o644, 0o130000, 0o170000])
def test_other_modes_are_of_no_kind(mode):
    """A stored mode may be hostile."""
    assert not known_kind(mode)


@pytest.mark.parametrize(("path", "name"), [(b"a/b", b"b"), (b"a", b"a"), (b"a/b\n\xff", b"b\n\xff")])
def test_the_name_is_the_last_component(path, name):
    """Any bytes but NUL and slash."""
    assert name == _entry(path).name


def test_folders_are_sorted_by_components():
    """A folder comes before what is in it, and all that is in it before the next: not as plain bytes would have it."""
    folders = [b"", b"a", b"a/b", b"a/b/c", b"a-b", b"a-b/x", b"a0"]
    plain = sorted(folders)
    assert folders == sorted(plain, key=path_key)
    assert folders != plain
