"""Snapshots: signed, sealed, bound to their name, and every field checked."""

import hashlib
import json

import pytest
from blake3 import blake3

from coffer.crypto.seal import KIND_LEASE, KIND_REVOKED, KIND_SNAPSHOT, open_single, seal_single
from coffer.errors import (
    CryptoError,
    FormatVersionError,
    ObjectCorruptError,
    SignatureError,
    SizeLimitError,
    UsageError,
    WrongKeyError,
)
from coffer.repository.snapshot import (
    MAX_OBJECT_BYTES,
    decode_snapshot,
    encode_revoked,
    encode_snapshot,
    is_revoked,
    object_name,
    parse_name,
    refuse_many_words,
    snapshot_id,
    storable_ns,
)
from tests.harness.keyrings import REPOSITORY_ID, make_keyring
from tests.harness.repositories import make_snapshot

KEYRING = make_keyring()
SNAPSHOT = make_snapshot(KEYRING)
NAME = SNAPSHOT.name
DELETE = object()


def _signed(body, name=NAME):
    """A snapshot object of any body, with a true signature and seal."""
    signature = KEYRING.sign(b"coffer/1/snapshot\0" + REPOSITORY_ID + name.encode() + b"\0" + body)
    return seal_single(KEYRING, KIND_SNAPSHOT, signature + body)


def _changed(**changes):
    fields = SNAPSHOT.body() | changes
    return _signed(json.dumps({name: value for name, value in fields.items() if value is not DELETE}).encode())


def test_a_snapshot_comes_back():
    """Every field, and the SHA-256 of the object that the next one in the chain names."""
    data = encode_snapshot(KEYRING, SNAPSHOT)
    found = decode_snapshot(KEYRING, NAME, data)
    assert hashlib.sha256(data).hexdigest() == found.sha256
    assert SNAPSHOT.body() == found.body()
    assert (SNAPSHOT.id, SNAPSHOT.name) == (found.id, found.name)


def test_paths_of_any_bytes_come_back():
    """Names that are not UTF-8 are kept as the system's own escapes."""
    odd = make_snapshot(KEYRING, paths=("/srv/\udcff", "/ä\n"), tags=())
    assert odd.paths == decode_snapshot(KEYRING, NAME, encode_snapshot(KEYRING, odd)).paths


def test_the_object_is_the_one_of_the_format():
    """docs/format.md §7: signature, then the body as JSON with sorted keys."""
    plain = open_single(KEYRING, KIND_SNAPSHOT, encode_snapshot(KEYRING, SNAPSHOT), "x")
    body = json.dumps(SNAPSHOT.body(), sort_keys=True, separators=(",", ":")).encode()
    assert body == plain[64:]
    assert KEYRING.sign(b"coffer/1/snapshot\0" + REPOSITORY_ID + NAME.encode() + b"\0" + body) == plain[:64]


def test_what_is_shown_has_id_name_and_digest_too():
    """For people and programs; the stored body has them not, they follow from it."""
    shown = decode_snapshot(KEYRING, NAME, encode_snapshot(KEYRING, SNAPSHOT)).to_json()
    assert {"id", "name", "sha256"} == set(shown) - set(SNAPSHOT.body())
    assert shown == json.loads(json.dumps(shown))


def test_names_and_ids_follow_from_source_and_number():
    """The id is a hash of repository and name: nobody has to store it."""
    assert "snapshots/0123abcd-00000042" == object_name("0123abcd", 42)
    assert ("0123abcd", 42) == parse_name("snapshots/0123abcd-00000042")
    expected = blake3(REPOSITORY_ID + NAME.encode()).hexdigest(8)
    assert expected == snapshot_id(REPOSITORY_ID, NAME)


@pytest.mark.parametrize(
    "name",
    [
        "snapshots/0123abcd-0000042",
        "snapshots/0123abcd-000000042",
        "snapshots/0123ABCD-00000042",
        "snapshots/0123abcd",
        "leases/0123abcd-00000042",
        "snapshots/0123abcd-00000042\n",
        "",
    ],
)
def test_a_name_that_no_writer_makes_is_corrupt(name):
    """A stray object among the snapshots is named."""
    with pytest.raises(ObjectCorruptError, match="not the name of a snapshot"):
        parse_name(name)
    with pytest.raises(ObjectCorruptError):
        decode_snapshot(KEYRING, name, b"")


def test_a_snapshot_does_not_open_under_another_name():
    """Swapped with another of the same source, or of another: the signature covers the name."""
    data = encode_snapshot(KEYRING, SNAPSHOT)
    for other in (object_name(KEYRING.ids.source_tag("home"), 2), object_name("00000000", 1)):
        with pytest.raises(SignatureError):
            decode_snapshot(KEYRING, other, data)


@pytest.mark.parametrize("changes", [{"source": "other"}, {"sequence": 2}])
def test_a_snapshot_signed_for_a_name_that_is_not_its_own_is_corrupt(changes):
    """Name and body must say the same source and number."""
    with pytest.raises(ObjectCorruptError, match="belongs under another name"):
        decode_snapshot(KEYRING, NAME, _changed(**changes))


def test_a_snapshot_of_another_repository_does_not_open():
    """Its commitment differs."""
    other = make_keyring(bytes(16))
    with pytest.raises(WrongKeyError):
        decode_snapshot(KEYRING, NAME, encode_snapshot(other, SNAPSHOT))


def test_sealing_alone_does_not_make_a_snapshot():
    """Whoever can seal but not sign cannot forge one."""
    stranger = make_keyring(signing=b"x" * 32)
    with pytest.raises(SignatureError):
        decode_snapshot(KEYRING, NAME, encode_snapshot(stranger, SNAPSHOT))


def test_any_flipped_bit_is_noticed():
    """Wherever it is."""
    data = encode_snapshot(KEYRING, SNAPSHOT)
    for bit in range(0, 8 * len(data), 37):
        harmed = bytearray(data)
        harmed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((ObjectCorruptError, FormatVersionError, CryptoError)):
            decode_snapshot(KEYRING, NAME, bytes(harmed))


def test_an_oversized_snapshot_is_refused_before_it_is_opened():
    """A snapshot has some KiB (I7)."""
    with pytest.raises(SizeLimitError):
        decode_snapshot(KEYRING, NAME, bytes(MAX_OBJECT_BYTES + 1))


@pytest.mark.parametrize("version", [2, "1", None, DELETE])
def test_another_format_of_the_body_is_refused(version):
    """By name where it is newer; a body without a format is damaged."""
    with pytest.raises((FormatVersionError, ObjectCorruptError)):
        decode_snapshot(KEYRING, NAME, _changed(format=version))
    with pytest.raises(FormatVersionError, match="snapshot format 2, this version reads 1"):
        decode_snapshot(KEYRING, NAME, _changed(format=2))


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"\xff", b"{", b"[" * 5000, b"9" * 5000])
def test_a_signed_body_that_is_no_snapshot_is_corrupt(body):
    """The key does not make it true."""
    with pytest.raises(ObjectCorruptError):
        decode_snapshot(KEYRING, NAME, _signed(body))


@pytest.mark.parametrize(
    ("field", "value"),
    [(name, DELETE) for name in SNAPSHOT.body()]
    + [
        ("manifest_root", "00"),
        ("manifest_root", "zz" * 32),
        ("manifest_root", 5),
        ("source", 5),
        ("source", "\ud800"),
        ("sequence", "1"),
        ("sequence", True),
        ("host", None),
        ("started_ns", 1.5),
        ("started_ns", float("inf")),
        ("started_ns", float("nan")),
        ("started_ns", -1),
        ("finished_ns", 1 << 63),
        ("previous_sequence", []),
        ("previous_sha256", 0),
        ("parent_id", {}),
        ("paths", "/srv"),
        ("paths", [5]),
        ("paths", {"/srv": 1}),
        ("tags", None),
        ("complete", 1),
        ("warnings_count", "0"),
        ("stats", []),
        ("stats", {"files": "0"}),
        ("stats", {"files": 1.0}),
        ("stats", {"files": None}),
        ("stats", {"files": -1}),
        ("stats", {"files": 1 << 127}),
    ],
    ids=lambda value: "missing" if value is DELETE else repr(value)[:24],
)
def test_a_field_of_another_type_or_range_is_corrupt(field, value):
    """Or one that is missing: each is a typed error, whatever Python makes of the value."""
    with pytest.raises(ObjectCorruptError):
        decode_snapshot(KEYRING, NAME, _changed(**{field: value}))


def test_sums_may_be_larger_than_any_file():
    """Two sparse files of 7 EiB together have more than 2^63 bytes; such a snapshot was written and never read."""
    stats = {"size_bytes": (1 << 127) - 1}
    assert stats == decode_snapshot(KEYRING, NAME, _changed(stats=stats)).stats


@pytest.mark.parametrize(("time_ns", "expected"), [(-1, 0), (0, 0), (5, 5), (1 << 63, (1 << 63) - 1)])
def test_a_time_is_stored_as_the_nearest_that_is_read(time_ns, expected):
    """A clock without a battery may stand before 1970."""
    assert expected == storable_ns(time_ns)


@pytest.mark.parametrize(("paths", "tags"), [(7000, 0), (0, 7000)])
def test_more_words_than_a_snapshot_holds_are_refused(paths, tags):
    """Before any work, with what to do instead; in one of just under the limit they are read back."""
    word = "n" * 150
    with pytest.raises(UsageError, match=f"{paths} paths and {tags} tags: .* a snapshot holds"):
        refuse_many_words("home", "host", [word] * paths, [word] * tags)
    paths, tags = ["\xe9" * 25] * (paths * 9 // 10), [word] * (tags * 9 // 10)
    refuse_many_words("home", "host", paths, tags)
    snapshot = make_snapshot(KEYRING, paths=tuple(paths), tags=tuple(tags))
    assert snapshot.paths == decode_snapshot(KEYRING, NAME, encode_snapshot(KEYRING, snapshot)).paths


# ------------------------------------------------------------------------------------------------ the revoked mark


def test_the_mark_of_a_revoked_writer_is_told_from_a_snapshot():
    """By the kind in the header, once it has opened."""
    assert is_revoked(KEYRING, NAME, encode_revoked(KEYRING, NAME))
    assert not is_revoked(KEYRING, NAME, encode_snapshot(KEYRING, SNAPSHOT))
    assert not is_revoked(KEYRING, NAME, seal_single(KEYRING, KIND_LEASE, b"x"))
    assert not is_revoked(KEYRING, NAME, b"")
    assert not is_revoked(KEYRING, NAME, b"coffer\0\x1a\0\1\6")


def test_a_false_mark_does_not_hide_a_snapshot():
    """Forged by one who has no key, or taken from another name: an error, not an absence."""
    forged = bytearray(encode_snapshot(KEYRING, SNAPSHOT))
    forged[10] = KIND_REVOKED
    with pytest.raises(WrongKeyError):
        is_revoked(KEYRING, NAME, bytes(forged))
    other = object_name(KEYRING.ids.source_tag("home"), 2)
    with pytest.raises(ObjectCorruptError, match="mark of another writer"):
        is_revoked(KEYRING, NAME, encode_revoked(KEYRING, other))


def test_a_mark_is_no_snapshot():
    """Whoever decodes one gets a typed error."""
    with pytest.raises(ObjectCorruptError, match="object of kind 6, expected 3"):
        decode_snapshot(KEYRING, NAME, encode_revoked(KEYRING, NAME))
