"""Content reaches its place whatever the kernel knows of the page cache, and only whole pages are left uncached."""

import errno
import mmap
import os
import random

import pytest

from coffer.restore import pagecache
from coffer.restore.pagecache import (
    RWF_DONTCACHE,
    UNCACHED_FROM_BYTES,
    WRITE_BYTES,
    flags_for,
    is_sound,
    make_room,
    write_at,
)

PAGE = mmap.PAGESIZE
PLACES = [
    (0, 0),
    (0, 1),
    (0, PAGE),
    (1, PAGE - 2),  # inside one page
    (1, PAGE - 1),  # up to the end of one
    (PAGE - 1, 2),  # across an edge, no whole page
    (PAGE - 1, PAGE + 2),  # one whole page between two edges
    (7, 2 * WRITE_BYTES + 5 * PAGE + 11),
]


@pytest.fixture
def opened(tmp_path):
    """The descriptor of an empty file."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.fixture
def asked(monkeypatch):
    """The (offset, length) of each uncached write; the writes are done without the flag, on any kernel."""
    calls = []

    def pwritev(fd, buffers, offset, flags):
        assert RWF_DONTCACHE == flags
        calls.append((offset, len(buffers[0])))
        return os.pwrite(fd, buffers[0], offset)

    monkeypatch.setattr(pagecache.os, "pwritev", pwritev)
    return calls


def _content(length):
    return random.Random(length).randbytes(length)


@pytest.mark.parametrize("flags", [0, RWF_DONTCACHE])
@pytest.mark.parametrize(("at", "length"), PLACES)
def test_content_lands_at_its_place(opened, at, length, flags):
    """On this kernel and file system, with and without the flag, exactly the bytes given are there."""
    data = _content(length)
    write_at(opened, memoryview(data), at, flags)
    assert (data, at + length if length else 0) == (os.pread(opened, length, at), os.fstat(opened).st_size)


@pytest.mark.parametrize(("at", "length"), PLACES)
def test_only_whole_pages_are_left_uncached(opened, asked, at, length):
    """Each uncached write begins and ends at a page's edge, and together they are all whole pages of the range."""
    data = _content(length)
    assert RWF_DONTCACHE == write_at(opened, memoryview(data), at, RWF_DONTCACHE)
    assert data == os.pread(opened, length, at)
    pages = {page for offset, size in asked for page in range(offset, offset + size, PAGE)}
    assert set(range(-(-at // PAGE) * PAGE, (at + length) // PAGE * PAGE, PAGE)) == pages
    assert [] == [call for call in asked if call[0] % PAGE or call[1] % PAGE or call[1] > WRITE_BYTES]


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_a_flag_that_is_not_known_is_asked_for_once(opened, monkeypatch, code):
    """Where the system refuses the flag the same bytes are written without it, and the next call is told."""
    asked = []

    def pwritev(fd, buffers, offset, flags):
        asked.append(offset)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(pagecache.os, "pwritev", pwritev)
    data = _content(3 * WRITE_BYTES)
    flags = write_at(opened, memoryview(data), 5, RWF_DONTCACHE)
    assert (0, data) == (flags, os.pread(opened, len(data), 5))
    write_at(opened, memoryview(data), 5, flags)
    assert 1 == len(asked)


def test_a_full_disk_is_not_taken_for_a_flag_that_is_not_known(opened, monkeypatch):
    """Any other error of an uncached write is raised as it is."""

    def pwritev(fd, buffers, offset, flags):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pagecache.os, "pwritev", pwritev)
    with pytest.raises(OSError, match="No space left"):
        write_at(opened, memoryview(_content(PAGE)), 0, RWF_DONTCACHE)


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.18.44-amd64", True),
        ("6.16", True),
        ("7.0.0-rc1", True),
        ("6.15.11-arch1", False),
        ("6.14.0-37-generic", False),
        ("5.15.0", False),
        ("custom", False),
    ],
)
def test_only_kernels_without_the_known_defect_are_asked(release, expected):
    """From 6.16 on the flag is asked for; before, and where the release cannot be read, it is not."""
    assert expected == is_sound(release)


def test_no_flag_on_a_kernel_that_is_not_sound(monkeypatch):
    """However large the file, an old kernel is not asked."""
    monkeypatch.setattr(pagecache, "_IS_SOUND", False)
    assert 0 == flags_for(1 << 40)


def test_small_files_stay_in_the_page_cache(opened, asked, monkeypatch):
    """Below the limit no flag is asked for, and no block is reserved."""
    monkeypatch.setattr(pagecache, "_IS_SOUND", True)
    assert (0, RWF_DONTCACHE) == (flags_for(UNCACHED_FROM_BYTES - 1), flags_for(UNCACHED_FROM_BYTES))
    make_room(opened, 0, PAGE, 0)
    assert 0 == os.fstat(opened).st_size
    write_at(opened, memoryview(_content(2 * PAGE)), 0, 0)
    assert [] == asked


def test_blocks_that_cannot_be_reserved_are_no_error(opened, monkeypatch):
    """A file system that reserves nothing leaves it to the write to say what is wrong."""
    asked = []

    def refuse(fd, at, length):
        asked.append((at, length))
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(pagecache.os, "posix_fallocate", refuse)
    make_room(opened, 3, PAGE, RWF_DONTCACHE)
    assert [(3, PAGE)] == asked


@pytest.mark.parametrize(("at", "length"), [(0, 1 << 40), (1 << 64, PAGE)])
def test_nothing_is_reserved_of_a_part_that_no_file_has(opened, at, length):
    """A length or a place that only a hostile snapshot has takes no room, and is no error here."""
    make_room(opened, at, length, RWF_DONTCACHE)
    assert (0, 0) == (os.fstat(opened).st_size, os.fstat(opened).st_blocks)
