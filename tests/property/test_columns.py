"""Columns and blobs come back for every list of integers and every byte string."""

from hypothesis import example, given
from hypothesis import strategies as st

from coffer.errors import CofferError
from coffer.repository.columns import pack_blob, pack_ints, unpack_blob, unpack_ints

anywhere = st.one_of(
    st.integers(-(1 << 127), (1 << 127) - 1),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.integers(-300, 300),
    st.sampled_from(
        [sign * (1 << bits) + more for sign in (1, -1) for bits in (8, 16, 61, 62, 63, 64) for more in (-1, 0, 1)]
    ),
)


@given(
    st.one_of(st.lists(anywhere), st.lists(st.integers(-300, 300)), st.lists(st.just(-(1 << 62)))),
    st.binary(max_size=9),
)
@example([(1 << 62) - 1, -(1 << 62)], b"")
def test_a_column_comes_back_over_the_whole_range(values, before):
    """Exactly, wherever it stands, with the offset behind it; the same values give the same bytes."""
    packed = pack_ints(values)
    assert (values, len(before) + len(packed)) == unpack_ints(before + packed + b"behind", len(before), "x")
    assert packed == pack_ints(tuple(values))


@given(st.lists(st.lists(anywhere, max_size=5), max_size=5))
def test_columns_stand_end_to_end(columns):
    """Each says itself where it ends."""
    data, at, found = b"".join(map(pack_ints, columns)), 0, []
    for _ in columns:
        values, at = unpack_ints(data, at, "x")
        found.append(values)
    assert (columns, len(data)) == (found, at)


@given(st.lists(st.integers(-(1 << 62), (1 << 62) - 1), min_size=1))
def test_a_column_is_never_larger_than_its_values(values):
    """Head and eight bytes for each value: what is stored is bounded by what is kept."""
    assert len(pack_ints(values)) <= 5 + 8 * max(len(values), 1)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_column_or_a_typed_error(data):
    """Whatever is read back is packed to something that reads the same."""
    try:
        values, at = unpack_ints(data, 0, "x", 1000)
    except CofferError:
        return
    assert at <= len(data)
    assert values == unpack_ints(pack_ints(values), 0, "x")[0]


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_blobs_stand_end_to_end(blobs):
    """Each with its length before it."""
    data, at, found = b"".join(map(pack_blob, blobs)), 0, []
    for _ in blobs:
        blob, at = unpack_blob(data, at, "x")
        found.append(blob)
    assert (blobs, len(data)) == (found, at)
