"""Blocks of a manifest: three sections out, the same groups back, and nothing hostile in between."""

import stat
import tracemalloc

import pytest

from coffer.errors import ObjectCorruptError, SizeLimitError
from coffer.repository import blocks
from coffer.repository.blocks import (
    MAX_BLOCK_ENTRIES,
    MAX_BLOCK_EXTENTS,
    MAX_PATH_BYTES,
    Group,
    decode_block,
    decode_names,
    encode_content,
    encode_stable,
    encode_times,
)
from coffer.repository.columns import pack_blob, pack_ints
from coffer.repository.entries import Extent
from coffer.repository.pack import MAX_RAW_BYTES
from tests.harness.manifests import FILE, FOLDER, chunk_id, content, row, sample_groups


def _decode(groups):
    return decode_block(encode_stable(groups), encode_times(groups), encode_content(groups), "x")


def test_a_block_comes_back():
    """Names, rows, extras and contents of every kind."""
    assert sample_groups() == _decode(sample_groups())


def test_a_block_is_encoded_the_same_way_every_time():
    """Deterministic, so that an unchanged section is an unchanged chunk."""
    first, second = sample_groups(), sample_groups()
    assert encode_stable(first) == encode_stable(second)
    assert encode_times(first) == encode_times(second)
    assert encode_content(first) == encode_content(second)


def test_touching_every_file_changes_the_times_and_nothing_else():
    """The sections change at different paces: that is why there are three."""
    touched = sample_groups()
    for group in touched:
        group.rows = [(*old[:7], old[7] + 1, old[8] + 1) for old in group.rows]
    assert encode_stable(sample_groups()) == encode_stable(touched)
    assert encode_content(sample_groups()) == encode_content(touched)
    assert encode_times(sample_groups()) != encode_times(touched)


def test_a_block_without_content_has_two_sections():
    """Folders, links and empty files need no content section."""
    groups = [Group(b"", [b"a", b"b"], [row(FOLDER, 4096), row()])]
    assert b"" == encode_content(groups)
    assert groups == _decode(groups)


@pytest.mark.parametrize(("folder", "name"), [(0, 1), (1, 0), (1, 1)])
def test_paths_are_as_long_as_the_system_takes(monkeypatch, folder, name):
    """Up to 4,096 bytes each; a writer refuses more, and so does whoever reads what a hostile one wrote."""
    most = [Group(b"f" * MAX_PATH_BYTES, [b"n" * MAX_PATH_BYTES], [row()])]
    assert most == _decode(most)
    over = [Group(b"f" * (MAX_PATH_BYTES + folder), [b"n" * (MAX_PATH_BYTES + name)], [row()])]
    with pytest.raises(ValueError, match="over the cap"):
        encode_stable(over)
    monkeypatch.setattr(blocks, "MAX_PATH_BYTES", 5000)
    stable = encode_stable(over)
    monkeypatch.undo()
    for decode in (lambda: decode_block(stable, encode_times(over), b"", "x"), lambda: decode_names(stable, "x")):
        with pytest.raises(SizeLimitError, match="name or folder of 4097 bytes is over the cap of 4096"):
            decode()


def test_entries_have_their_whole_path():
    """At the top without a slash before it."""
    paths = [entry.path for group in _decode(sample_groups()) for entry in group.entries()]
    assert [
        b"etc",
        b"srv",
        b"etc/empty",
        b"etc/hosts",
        b"etc/link",
        b"etc/tty",
        b"srv/a",
        b"srv/b\xff\n",
        b"srv/c",
    ] == paths


def test_an_entry_has_all_that_the_block_says_of_it():
    """Each column lands in its own field."""
    wide = (stat.S_IFCHR | 0o620, 1, 2, 3, 4, 5, 6, 7, 8)
    group = Group(b"dev", [b"tty"], [wide], extras={0: (1281, b"target", ((b"user.x", b"y"),))})
    (entry,) = _decode([group])[0].entries()
    stat_part = (entry.mode, entry.uid, entry.gid, entry.size_bytes, entry.ino, entry.dev, entry.nlink)
    assert wide == (*stat_part, entry.mtime_ns, entry.ctime_ns)
    assert (1281, b"target", ((b"user.x", b"y"),), None) == (
        entry.rdev,
        entry.link_target,
        entry.xattrs,
        entry.content,
    )


def test_names_can_be_read_without_the_rest():
    """From the stable section alone."""
    expected = [(group.folder, group.names) for group in sample_groups()]
    assert expected == decode_names(encode_stable(sample_groups()), "x")


@pytest.mark.parametrize("mtime", [-(1 << 63) - 1, -1, 0, 1 << 62, 1 << 63, (1 << 63) * 1_000_000_000 - 1])
def test_times_of_any_year_come_back(mtime):
    """A file system may hold times from long before 1970 to long after 2262: none is cut off."""
    groups = [Group(b"", [b"a", b"b"], [(*row()[:7], mtime, mtime), row()])]
    assert groups == _decode(groups)


@pytest.mark.parametrize("ino", [(1 << 62) - 1, 1 << 62, (1 << 64) - 1])
def test_inode_numbers_of_64_bits_come_back(ino):
    """Network and overlay file systems use the upper bits."""
    groups = [Group(b"", [b"a", b"b"], [row(ino=ino), row(ino=0)])]
    assert groups == _decode(groups)


def test_extras_that_are_alike_are_stored_once():
    """One access control list on a whole tree costs little more than on one file."""
    extras = (0, b"", ((b"system.posix_acl_access", b"v" * 500),))

    def size(count):
        names = [b"%04d" % n for n in range(count)]
        return len(encode_stable([Group(b"", names, [row()] * count, extras=dict.fromkeys(range(count), extras))]))

    assert size(1000) - size(1) < 1000 * 8


def test_a_piece_of_a_group_takes_its_extras_and_contents_along():
    """Cut anywhere, the two pieces together say what the whole said."""
    srv = sample_groups()[2]
    for at in range(1, len(srv.names)):
        pieces = [srv.piece(0, at), srv.piece(at, len(srv.names))]
        assert list(srv.entries()) == [entry for piece in pieces for entry in piece.entries()]
        assert list(srv.entries()) == [entry for piece in _decode(pieces) for entry in piece.entries()]


# ------------------------------------------------------------------------------------------------ hostile blocks


def _sections(**changes):
    """The sections of a block of one file of 5 bytes, column by column, with some of them replaced."""
    parts = {
        "folders": pack_blob(b""),
        "counts": pack_ints([1]),
        "names": pack_blob(b"f"),
        "mode": pack_ints([FILE]),
        "uid": pack_ints([0]),
        "gid": pack_ints([0]),
        "size": pack_ints([5]),
        "ino": pack_ints([1]),
        "dev": pack_ints([1]),
        "nlink": pack_ints([1]),
        "extra_places": pack_ints([]),
        "extra_which": pack_ints([]),
        "rdevs": pack_ints([]),
        "extras": b"",
        "mtime": pack_ints([0]),
        "ctime": pack_ints([0]),
        "places": pack_ints([0]),
        "ids": pack_blob(bytes(16)),
        "extent_counts": pack_ints([1]),
        "refs": pack_ints([2]),
        "offsets": pack_ints([0]),
        "lengths": pack_ints([]),
        "chunks": pack_blob(bytes(32)),
    } | changes
    names = list(parts)
    first, second = names.index("mtime"), names.index("places")
    joined = [b"".join(parts[n] for n in part) for part in (names[:first], names[first:second], names[second:])]
    return decode_block(*joined, "x")


def test_the_block_of_one_file_is_taken_when_nothing_is_changed():
    """So that each refusal below is the answer to its one change."""
    (group,) = _sections()
    assert {0: content(0, Extent(chunk_id(0), 0, 5))} == group.contents


@pytest.mark.parametrize(
    "changes",
    [
        {"folders": pack_blob(b"a\0b")},
        {"counts": pack_ints([])},
        {"counts": pack_ints([0])},
        {"counts": pack_ints([2])},
        {"counts": pack_ints([1, 0])},
        {"counts": pack_ints([-1])},
        {"names": pack_blob(b"f\0g")},
        {"mode": pack_ints([0o644])},
        {"mode": pack_ints([-1])},
        {"mode": pack_ints([1 << 32])},
        {"mode": pack_ints([1 << 100])},
        {"mode": pack_ints([])},
        {"uid": pack_ints([-1])},
        {"uid": pack_ints([1 << 32])},
        {"gid": pack_ints([1 << 64])},
        {"size": pack_ints([-5])},
        {"size": pack_ints([1 << 63])},
        {"ino": pack_ints([-1])},
        {"dev": pack_ints([1 << 64])},
        {"nlink": pack_ints([-1])},
        {"mtime": pack_ints([1 << 100])},
        {"ctime": pack_ints([-(1 << 100)])},
        {"ctime": pack_ints([])},
        {"ctime": pack_ints([0]) + b"tail"},
        {"extras": b"tail"},
        {"extra_places": pack_ints([0])},
        {"extra_places": pack_ints([0]), "extra_which": pack_ints([0])},
        {"extra_which": pack_ints([0])},
        {"rdevs": pack_ints([0])},
        {"rdevs": pack_ints([-1]), "extras": pack_blob(b"") + pack_ints([0])},
        {"rdevs": pack_ints([1 << 64]), "extras": pack_blob(b"") + pack_ints([0])},
        {"rdevs": pack_ints([0]), "extras": pack_blob(b"") + pack_ints([1 << 60])},
        {
            "extra_places": pack_ints([0]),
            "extra_which": pack_ints([-1]),
            "rdevs": pack_ints([0]),
            "extras": pack_blob(b"") + pack_ints([0]),
        },
        {
            "extra_places": pack_ints([-1]),
            "extra_which": pack_ints([0]),
            "rdevs": pack_ints([0]),
            "extras": pack_blob(b"") + pack_ints([0]),
        },
        {
            "extra_places": pack_ints([1]),
            "extra_which": pack_ints([0]),
            "rdevs": pack_ints([0]),
            "extras": pack_blob(b"") + pack_ints([0]),
        },
        {"places": pack_ints([1])},
        {"places": pack_ints([-1])},
        {"places": pack_ints([])},
        {"ids": pack_blob(bytes(15))},
        {"extent_counts": pack_ints([0])},
        {"extent_counts": pack_ints([2])},
        {"extent_counts": pack_ints([])},
        {"refs": pack_ints([1])},
        {"refs": pack_ints([4])},
        {"refs": pack_ints([-1])},
        {"refs": pack_ints([2, 2])},
        {"offsets": pack_ints([-1])},
        {"offsets": pack_ints([MAX_RAW_BYTES - 4])},
        {"offsets": pack_ints([])},
        {"lengths": pack_ints([4])},
        {"lengths": pack_ints([0])},
        {"lengths": pack_ints([5, 0])},
        {"chunks": pack_blob(b"")},
        {"chunks": pack_blob(bytes(33))},
        {"chunks": pack_blob(bytes(32)) + b"tail"},
        {"mode": pack_ints([FOLDER])},
    ],
    ids=lambda changes: "-".join(f"{name}={value.hex()[:14]}" for name, value in changes.items()),
)
def test_a_block_that_no_writer_writes_is_refused(changes):
    """One thing wrong at a time, each sealed and signed as it may be: a typed error, never a crash."""
    with pytest.raises((ObjectCorruptError, SizeLimitError)):
        _sections(**changes)


def test_a_file_without_its_content_is_refused():
    """A restore would write an empty file in its place."""
    groups = [Group(b"", [b"f"], [row(size=5)])]
    with pytest.raises(ObjectCorruptError, match="1 files without their content"):
        decode_block(encode_stable(groups), encode_times(groups), b"", "x")


def test_several_extents_need_their_lengths():
    """Lengths are left out only where every file has one extent."""
    two = [Group(b"", [b"f"], [row(size=5)], contents={0: content(1, Extent(chunk_id(1), 0, 3), Extent(None, 0, 2))})]
    encoded = encode_content(two)
    assert two == decode_block(encode_stable(two), encode_times(two), encoded, "x")
    without = encoded.replace(pack_ints([3, 2]), pack_ints([]))
    assert without != encoded
    with pytest.raises(ObjectCorruptError, match="does not fit together"):
        decode_block(encode_stable(two), encode_times(two), without, "x")


def test_places_rise():
    """Two contents for one file, or in another order, are refused."""
    groups = [Group(b"", [b"f", b"g"], [row(size=5), row(size=5)])]
    body = [pack_blob(bytes(32)), pack_ints([1, 1]), pack_ints([2, 2]), pack_ints([0, 0]), pack_ints([])]
    for places in ([0, 0], [1, 0]):
        section = b"".join([pack_ints(places), *body, pack_blob(bytes(32))])
        with pytest.raises(ObjectCorruptError, match="places do not rise"):
            decode_block(encode_stable(groups), encode_times(groups), section, "x")


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": pack_ints([MAX_BLOCK_ENTRIES + 1])},
        {"counts": pack_ints([1] * (MAX_BLOCK_ENTRIES + 1))},
        {"mode": pack_ints([FILE] * 100_000)},
        {"rdevs": pack_ints([0] * 100_000)},
        {"places": pack_ints([0] * 100_000)},
        {"refs": pack_ints([0] * (MAX_BLOCK_EXTENTS + 1))},
        {"lengths": pack_ints([1] * (MAX_BLOCK_EXTENTS + 1))},
        {"rdevs": pack_ints([0]), "extras": pack_blob(b"") + pack_ints([0, 0])},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_counts_over_their_caps_take_no_memory(changes):
    """A constant column of a million values has 13 bytes: what is not needed is not made (I7)."""
    tracemalloc.start()
    try:
        with pytest.raises(SizeLimitError):
            _sections(**changes)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20
