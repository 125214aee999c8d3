"""coffer.json: read before any key is there, so every value in it is checked."""

import json
from dataclasses import asdict, replace

import pytest

from coffer.backends.memory import MemoryBackend
from coffer.chunking.cutter import KIB, MIB, ChunkParams, Cutter
from coffer.crypto.kdf import Argon2Params
from coffer.errors import FormatVersionError, NotARepositoryError, SizeLimitError
from coffer.repository.settings import NAME, new_settings, read_settings
from tests.harness.manual_clock import EPOCH_NS, ManualClock

DELETE = object()


def _new(chunking=None, argon2=None):
    return new_settings("key-file", chunking or ChunkParams(), argon2 or Argon2Params(), ManualClock())


def test_a_clock_before_1970_makes_a_repository_that_opens():
    """As of the first moment that a reader takes."""
    clock = ManualClock()
    clock.set_wall(-5)
    settings = new_settings("key-file", ChunkParams(), Argon2Params(), clock)
    assert settings == _read(settings.raw)
    assert 0 == settings.created_ns


def _read(raw):
    store = MemoryBackend()
    store.put(NAME, [raw])
    return read_settings(store)


def _changed(**changes):
    """coffer.json with some values replaced, by dotted path; `DELETE` takes one out."""
    document = json.loads(_new().raw)
    for path, value in changes.items():
        *folders, name = path.split("__")
        part = document
        for folder in folders:
            part = part[folder]
        if value is DELETE:
            del part[name]
        else:
            part[name] = value
    return json.dumps(document).encode()


def test_settings_come_back_as_they_were_written():
    """With the exact bytes, to which the wrapped keys are bound."""
    made = _new(ChunkParams(avg_bytes=512 * KIB), Argon2Params(iterations=5))
    assert made == _read(made.raw)
    assert (EPOCH_NS, 16, 32) == (made.created_ns, len(made.repository_id), len(made.unlock_salt))


def test_every_new_repository_has_its_own_id_and_salt():
    """Two made in the same instant differ."""
    assert _new().repository_id != _new().repository_id
    assert _new().unlock_salt != _new().unlock_salt


def test_the_document_is_the_one_of_the_format():
    """docs/format.md §1: these names, and none else."""
    document = json.loads(_new().raw)
    assert {"object", "format", "id", "created_ns", "unlock", "chunking"} == set(document)
    assert {"kind", "salt", "argon2id"} == set(document["unlock"])
    assert (asdict(ChunkParams()), asdict(Argon2Params())) == (document["chunking"], document["unlock"]["argon2id"])


def test_a_place_without_settings_is_no_repository():
    """The message says where it looked."""
    with pytest.raises(NotARepositoryError, match="memory:: holds no coffer repository"):
        read_settings(MemoryBackend())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"7",
        b"\xff\xfe\xfd",
        b"[" * 5000,
        b"9" * 6000,
        b'{"object": "coffer-repository"}',
        b'{"object": "coffer-repository", "format": 1}',
        b" " * 70_000 + b"{}",
    ],
)
def test_what_is_no_settings_object_is_no_repository(raw):
    """Whatever the bytes are, the answer is a typed error."""
    with pytest.raises(NotARepositoryError, match="damaged"):
        _read(raw)


@pytest.mark.parametrize(
    "changes",
    [
        {"object": "other"},
        {"id": "00"},
        {"id": "zz" * 16},
        {"id": 5},
        {"created_ns": "now"},
        {"created_ns": -1},
        {"created_ns": True},
        {"created_ns": 1 << 63},
        {"created_ns": 1.5},
        {"unlock": []},
        {"unlock": DELETE},
        {"unlock__kind": 5},
        {"unlock__kind": DELETE},
        {"unlock__salt": "00"},
        {"unlock__argon2id": []},
        {"unlock__argon2id__lanes": DELETE},
        {"unlock__argon2id__lanes": "4"},
        {"unlock__argon2id__more": 4},
        {"chunking": []},
        {"chunking": None},
        {"chunking__method": ["cdc"]},
        {"chunking__min_bytes": DELETE},
        {"chunking__min_bytes": 1e3},
        {"chunking__more": 1},
    ],
    ids=lambda changes: "-".join(f"{name}={value!r:.12}" for name, value in changes.items()),
)
def test_a_value_of_another_kind_is_no_repository(changes):
    """A missing, additional or mistyped value."""
    with pytest.raises(NotARepositoryError, match="damaged"):
        _read(_changed(**changes))


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_format_is_refused_by_name(version):
    """Before anything else is looked at: a newer Coffer may have other fields."""
    with pytest.raises(FormatVersionError, match="repository format"):
        _read(_changed(format=version, chunking=DELETE))


@pytest.mark.parametrize(
    "changes",
    [
        {"unlock__argon2id__memory_kib": 1 << 40},
        {"unlock__argon2id__iterations": 1 << 40},
        {"chunking__method": "other"},
        {"chunking__min_bytes": 63},
        {"chunking__min_bytes": MIB + 1},
        {"chunking__avg_bytes": 255, "chunking__min_bytes": 64},
        {"chunking__avg_bytes": 4 * MIB + 1, "chunking__max_bytes": 8 * MIB},
        {"chunking__min_bytes": 512 * KIB, "chunking__avg_bytes": 256 * KIB},
        {"chunking__max_bytes": 512 * KIB},
        {"chunking__min_bytes": 64, "chunking__avg_bytes": 256, "chunking__max_bytes": 1023},
        {"chunking__max_bytes": 16 * MIB + 1},
        {"chunking__bundle_below_bytes": 0},
        {"chunking__bundle_below_bytes": 4 * MIB},
        {"chunking__bundle_max_bytes": 8 * MIB + 1},
        {"chunking__bundle_avg_bytes": 0},
    ],
    ids=lambda changes: "-".join(f"{name}={value!r:.12}" for name, value in changes.items()),
)
def test_a_size_out_of_its_bounds_is_refused(changes):
    """Before memory is taken for it (I7)."""
    with pytest.raises(SizeLimitError):
        _read(_changed(**changes))


@pytest.mark.parametrize(
    "chunking",
    [
        ChunkParams(min_bytes=2 * MIB, avg_bytes=2 * MIB),
        ChunkParams(max_bytes=32 * MIB),
        ChunkParams(method="other"),
        ChunkParams(bundle_max_bytes=9 * MIB),
    ],
)
def test_no_repository_is_made_that_could_not_be_opened(chunking):
    """The bounds of reading hold for writing too."""
    with pytest.raises(SizeLimitError):
        _new(chunking)


@pytest.mark.parametrize(
    "chunking",
    [
        ChunkParams(min_bytes=64, avg_bytes=256, max_bytes=1024),
        ChunkParams(min_bytes=MIB, avg_bytes=4 * MIB, max_bytes=16 * MIB),
        ChunkParams(method="fixed", min_bytes=1, avg_bytes=1000, max_bytes=1000),
        ChunkParams(method="fixed", min_bytes=8 * MIB, avg_bytes=8 * MIB, max_bytes=8 * MIB),
    ],
)
def test_sizes_at_the_bounds_can_be_cut_with(chunking):
    """What is accepted here, the chunker accepts too."""
    settings = _read(_new(chunking).raw)
    data = bytes(2_000)
    parts = iter([data])

    def readinto(view):
        part = next(parts, b"")
        view[: len(part)] = part
        return len(part)

    if chunking.max_bytes < 2_000:
        data = data[: chunking.max_bytes]
        parts = iter([data])
    assert data == b"".join(Cutter(settings.chunking, 5).cut(readinto))
    assert settings.chunking == replace(chunking)
