"""What a store holds is listed by kind, past names that no object can have."""

import pytest

from coffer.backends.base import ObjectInfo
from coffer.backends.local import LocalBackend
from coffer.backends.memory import MemoryBackend
from coffer.errors import BackendUnavailableError, ObjectNameInvalidError
from coffer.verification.findings import FindingLog
from coffer.verification.inventory import take_inventory
from tests.harness.faulty_backend import Fault, FaultKind, FaultyBackend

DIGEST = "ab" + "0" * 62
OBJECTS = {
    "coffer.json": 1,
    "keys/0001-1": 2,
    "keys/chunk-id-1": 3,
    "keys/signing-12": 4,
    f"index/{DIGEST}": 5,
    f"packs/ab/{DIGEST}": 6,
    "snapshots/0123abcd-00000001": 7,
    "leases/0123abcd-00000001-0001": 8,
    "checkpoints/0123abcd-00000000000000000001": 9,
    "wal/0123abcd/00000001-0000000000000001-0000000000000002": 10,
    "wal/0123abcd/00000002.history": 11,
}
STRAYS = [
    "other",
    "keys/0001",
    "index/short",
    f"packs/cd/{DIGEST}",
    f"packs/{DIGEST}",
    "snapshots/0123abcd-1",
    "a/b",
    "wal/x",
]
NO_NAMES = [
    "README",
    "packs/NOTE",
    "packs/ab/NOTE",
    "index/NOTE",
    "snapshots/NOTE",
    "keys/NOTE",
    "leases/x y",
    "wal/NOTE",
    "wal/0123abcd/NOTE",
    "UP/below",
]


def put_all(backend, names):
    for name in names:
        backend.put(name, [bytes(OBJECTS.get(name, 1))])


def take(backend):
    """The inventory and the findings as (code, object)."""
    notes = FindingLog()
    inventory = take_inventory(backend, notes)
    return inventory, [(found.severity.value, found.code, found.object) for found in notes.close()[0]]


def assert_complete(inventory):
    assert {"snapshots/0123abcd-00000001": 7} == inventory.snapshots
    assert {f"index/{DIGEST}": 5} == inventory.segments
    assert {bytes.fromhex(DIGEST): 6} == inventory.packs
    assert {"keys/0001-1": 2, "keys/chunk-id-1": 3, "keys/signing-12": 4} == inventory.keys
    assert {"leases/0123abcd-00000001-0001": 8} == inventory.leases
    assert {"checkpoints/0123abcd-00000000000000000001": 9} == inventory.checkpoints
    wal = {name: size for name, size in OBJECTS.items() if name.startswith("wal/")}
    assert wal == inventory.wal


def test_every_kind_of_object_is_told_by_its_name():
    """With its size; nothing is found wrong."""
    backend = MemoryBackend()
    put_all(backend, OBJECTS)
    inventory, findings = take(backend)
    assert_complete(inventory)
    assert (len(OBJECTS), sum(OBJECTS.values())) == (inventory.count, inventory.size_bytes)
    assert [] == findings


def test_a_stray_object_is_a_hint_that_names_it():
    """A valid name that no object of a repository bears; also a pack in the wrong fan-out."""
    backend = MemoryBackend()
    put_all(backend, [*OBJECTS, *STRAYS])
    inventory, findings = take(backend)
    assert_complete(inventory)
    assert [("hint", "stray-object", name) for name in sorted(STRAYS)] == findings


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_no_object_can_have_hides_no_object(tmp_path, name):
    """The store's listing fails at it; all others are found by listing its parts, and it is one error."""
    backend = LocalBackend(tmp_path)
    put_all(backend, OBJECTS)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"put here by hand")
    inventory, findings = take(backend)
    assert_complete(inventory)
    top = name.partition("/")[0] if name.startswith("UP") else name
    assert [("error", "object-name-invalid", top)] == findings


def test_two_false_names_are_two_errors(tmp_path):
    """Each in its own folder."""
    backend = LocalBackend(tmp_path)
    put_all(backend, OBJECTS)
    (tmp_path / "index" / "NOTE").write_bytes(b"")
    (tmp_path / "snapshots" / "NOTE").write_bytes(b"")
    inventory, findings = take(backend)
    assert_complete(inventory)
    assert ["index/NOTE", "snapshots/NOTE"] == [name for _, _, name in findings]


def test_a_false_name_in_the_smallest_part_costs_that_part_only(tmp_path):
    """It begins as the others do; what cannot be listed beside it is missed, and the error says why."""
    backend = LocalBackend(tmp_path)
    put_all(backend, OBJECTS)
    (tmp_path / "index" / "aXe").write_bytes(b"")
    inventory, findings = take(backend)
    assert {} == inventory.segments
    assert [("error", "object-name-invalid", "index/aXe")] == findings


def test_snapshots_are_listed_before_what_they_need():
    """A backup that commits between the listings is either not seen, or seen whole."""
    counting = FaultyBackend(MemoryBackend())
    take(counting)
    assert ["snapshots/", "index/", ""] == [name for method, name in counting.calls if method == "list"]


def test_a_store_that_does_not_answer_ends_it():
    """Nothing can be said of what was not seen."""
    with pytest.raises(BackendUnavailableError):
        take(FaultyBackend(MemoryBackend(), [Fault(FaultKind.FAIL_BEFORE, method="list", prefix="index")]))


def test_an_error_without_a_name_is_told_by_its_place():
    """Another store may not say which name it was."""

    class Silent(MemoryBackend):
        def list(self, prefix=""):
            if prefix in ("", "keys/", "keys/c"):
                raise ObjectNameInvalidError("a name")
            return iter([ObjectInfo(n, OBJECTS[n], 0) for n in sorted(OBJECTS) if n.startswith(prefix)])

    inventory, findings = take(Silent())
    assert {"keys/0001-1": 2, "keys/signing-12": 4} == inventory.keys
    assert [("error", "object-name-invalid", "keys/c")] == findings
