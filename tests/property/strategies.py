"""What the property tests draw: names, rows, groups and contents that a file system could hold, however odd."""

from __future__ import annotations

import stat

from hypothesis import strategies as st

from coffer.ids import ChunkId, ContentId
from coffer.repository.blocks import Group
from coffer.repository.entries import Content, Extent
from coffer.repository.pack import MAX_RAW_BYTES

KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK)

# Any byte but NUL and slash, 1 to 255 of them: line ends, quotes, control characters, halves of UTF-8 characters.
odd_names = st.one_of(
    st.sampled_from(
        [b"-rf", b" ", b"\n", b"a\nb", b"\xff\xfe", b"'\"\\", b"%s{0}$(x)", b"con", b"~", b"\x1b[31m", b"x" * 255]
    ),
    st.binary(min_size=1, max_size=20).map(lambda name: name.replace(b"\0", b"0").replace(b"/", b"-")),
).filter(lambda name: name not in (b".", b".."))

folders = st.lists(odd_names, max_size=4).map(b"/".join)
times_ns = st.one_of(
    st.integers(-(1 << 62), (1 << 62) - 1),
    st.integers(-(1 << 63) * 1_000_000_000, (1 << 63) * 1_000_000_000 - 1),
    st.sampled_from([0, -1, 1 << 63, (1 << 63) - 1, -(1 << 63), 1_800_000_000_123_456_789]),
)
unsigned_32 = st.one_of(st.integers(0, 70_000), st.integers(0, (1 << 32) - 1))
unsigned_64 = st.one_of(st.integers(0, 70_000), st.integers(0, (1 << 64) - 1))
chunk_ids = st.integers(1, 8).map(lambda number: ChunkId(bytes((number,)) * 32))
content_ids = st.binary(min_size=16, max_size=16).map(ContentId)
xattrs = st.lists(st.tuples(odd_names, st.binary(max_size=30)), max_size=3, unique_by=lambda pair: pair[0]).map(
    lambda pairs: tuple(sorted(pairs))
)


@st.composite
def extents(draw, *, indirect=True):
    """One extent: a hole, a run of a chunk, or (where it may be) a list."""
    kind = draw(st.sampled_from(["hole", "data", "data", "list"] if indirect else ["hole", "data", "data"]))
    if kind == "hole":
        return Extent(None, 0, draw(st.integers(1, 1 << 40)))
    if kind == "list":
        return Extent(draw(chunk_ids), 0, draw(st.integers(1, 1 << 40)), indirect=True)
    offset = draw(st.integers(0, MAX_RAW_BYTES - 1))
    return Extent(draw(chunk_ids), offset, draw(st.integers(1, MAX_RAW_BYTES - offset)))


@st.composite
def groups(draw):
    """One group of a block, with rows, extras and contents that fit together."""
    names = sorted(draw(st.sets(odd_names, min_size=1, max_size=8)))
    group = Group(draw(folders), names, [])
    for at in range(len(names)):
        mode = draw(st.sampled_from(KINDS)) | draw(st.integers(0, 0o7777))
        size = draw(st.integers(0, (1 << 63) - 1))
        if stat.S_ISREG(mode):
            runs = draw(st.lists(extents(), max_size=4))
            size = sum(extent.length for extent in runs)
            if runs:
                group.contents[at] = Content(draw(content_ids), tuple(runs))
        owner = draw(unsigned_32), draw(unsigned_32)
        identity = draw(unsigned_64), draw(unsigned_64), draw(unsigned_64)
        group.rows.append((mode, *owner, size, *identity, draw(times_ns), draw(times_ns)))
        if draw(st.booleans()):
            group.extras[at] = (draw(unsigned_64), draw(st.binary(max_size=20)), draw(xattrs))
    return group
