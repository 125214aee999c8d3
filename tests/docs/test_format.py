"""docs/format.md says what the code does: offsets, sizes, types, numbers, names, fields and caps."""

import importlib
import inspect
import json
import pkgutil
import re
import struct

import pytest

import coffer
from coffer.chunking.cutter import ChunkParams
from coffer.crypto.kdf import Argon2Params
from coffer.crypto.kek import Kek
from coffer.crypto.keyring import ROOT, WrapContext, key_object_name, wrap_key
from coffer.crypto.seal import KIND_WAL_HISTORY, open_single
from coffer.ids import pack_name
from coffer.postgres.lsn import Lsn
from coffer.postgres.wal_object import WalHead, encode_history, history_object_name, range_name
from coffer.repository import checkpoint, lease
from coffer.repository.settings import new_settings
from coffer.repository.snapshot import object_name
from tests.architecture.sources import ROOT as PROJECT
from tests.architecture.sources import python_files
from tests.harness.keyrings import make_keyring
from tests.harness.manual_clock import ManualClock
from tests.harness.repositories import make_snapshot

PAGE = (PROJECT / "docs" / "format.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\d+)\. [^\n]*\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
TYPES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "bytes": "s", "zero": "x"}
ORDERS = {"BE": ">", "LE": "<"}


def _rows(text):
    """The cells of the first table of a text, without its two head lines."""
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE).group()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def _marked(kind):
    """Every (name, rows) of a table behind a comment `<!-- kind: name -->`."""
    return [(found[1], _rows(PAGE[found.end() :])) for found in re.finditer(rf"<!-- {kind}: (\S+) -->\n", PAGE)]


def _code(dotted):
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _fields(form):
    """(code, size) of each field of a struct's format."""
    return [(code, int(count or 1)) for count, code in re.findall(r"(\d*)([a-zA-Z])", form)]


@pytest.mark.parametrize(("name", "rows"), _marked("struct"), ids=[name for name, _ in _marked("struct")])
def test_every_offset_table_is_the_struct_of_the_code(name, rows):
    """Offsets follow from sizes without a gap; types, sizes and byte order are the struct's; the sum is its size."""
    packed = _code(name)
    at = 0
    told = []
    orders = set()
    for offset, size, type_, _ in rows:
        assert at == int(offset), f"{name}: offset {offset} should be {at}"
        word, _, order = type_.partition(" ")
        orders |= {ORDERS[order]} if order else set()
        told.append((TYPES[word], int(size) if word == "bytes" else 1))
        assert struct.calcsize("<" + "".join(f"{told[-1][1]}{told[-1][0]}")) == int(size)
        at += int(size)
    assert packed.size == at
    assert _fields(packed.format) == told
    assert len(orders) <= 1
    if orders:  # bytes alone have none
        assert {packed.format[0]} == orders


def test_every_struct_of_the_repository_has_its_table():
    """A struct that is added to the format is written down."""
    described = {name for name, _ in _marked("struct")}
    found = set()
    modules = ["coffer.postgres.wal_object"]  # the others of its package are about forms of PostgreSQL
    for package in ("coffer.crypto", "coffer.repository"):
        modules += [m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__, package + ".")]
    for module in modules:
        members = inspect.getmembers(importlib.import_module(module), lambda m: isinstance(m, struct.Struct))
        found |= {(member.format, member.size) for _, member in members}
    assert {(_code(name).format, _code(name).size) for name in described} == found


@pytest.mark.parametrize(("prefix", "rows"), _marked("constants"), ids=[prefix for prefix, _ in _marked("constants")])
def test_every_number_is_the_one_of_the_code(prefix, rows):
    """Kinds, types and codecs: each of the code's in the table, and the reverse."""
    module, _, start = prefix.rpartition(".")
    members = vars(importlib.import_module(module))
    expected = {
        name.removeprefix(start): value
        for name, value in members.items()
        if name.startswith(start) and name != "KIND_OFFSET"
    }
    assert expected == {row[0].strip("`"): int(row[1]) for row in rows}


def test_the_kind_of_an_object_stands_where_the_header_says():
    """`KIND_OFFSET` is for a look at the kind alone."""
    rows = dict(_marked("struct"))["coffer.crypto.seal._HEADER"]
    assert _code("coffer.crypto.seal.KIND_OFFSET") == int(next(row[0] for row in rows if row[3] == "kind"))


def test_every_cap_is_the_one_of_the_code():
    """Each in the table with its value; each `MAX_` of the format's modules in the table."""
    told = {row[0].strip("`"): int(row[1].replace(",", "")) for row in _rows(SECTIONS["12"])}
    assert told == {name: _code(name) for name in told}
    modules = {name.rpartition(".")[0] for name in told}
    own = {
        f"{module}.{name}"
        for module in modules
        for name, line in re.findall(r"^(MAX_\w+) = (.*)$", inspect.getsource(importlib.import_module(module)), re.M)
    }
    assert own == set(told)


def _flat(document, above=""):
    for name, value in document.items():
        if isinstance(value, dict) and above + name not in ("stats", "facts"):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name


def _told_fields(text):
    return {name for row in _rows(text) for name in re.findall(r"`([\w.]+)`", row[0])}


def test_every_field_of_a_json_object_is_in_its_table():
    """coffer.json, wrapped keys and snapshots: the same names, no more and no less."""
    settings = new_settings("key-file", ChunkParams(), Argon2Params(), ManualClock())
    assert set(_flat(json.loads(settings.raw))) == _told_fields(SECTIONS["1"])
    wrapped = wrap_key(Kek(bytes(32), bytes(32)), WrapContext.of(bytes(16), b""), ROOT, 1, bytes(32))
    second_table = SECTIONS["2"][SECTIONS["2"].index("| JSON field |") :]
    assert set(json.loads(wrapped)) == _told_fields(second_table)
    snapshot = make_snapshot(make_keyring(), facts={"kind": "one"})
    assert set(_flat(snapshot.body())) == _told_fields(SECTIONS["7"])


def test_every_field_of_saved_wal_is_in_its_table():
    """The head of a range, and a history."""
    head = WalHead("0123abcd", 7, 1, Lsn(0), Lsn(1), 1 << 24, 0, bytes(32))
    of_head, of_history = SECTIONS["17"].split("| JSON field |")[1:]
    assert set(json.loads(head.to_json())) == _told_fields("| JSON field |" + of_head)
    history = encode_history(make_keyring(), "0123abcd", 2, b"", system_id=7, saved_ns=0)
    plain = open_single(make_keyring(), KIND_WAL_HISTORY, history, "x")
    assert set(json.loads(plain)) == _told_fields("| JSON field |" + of_history)


def test_the_names_of_objects_are_those_of_the_code():
    """Each example of the first table, made anew by the code."""
    rows = _rows(PAGE)
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]
    made = [
        "coffer.json",
        key_object_name("root", 1, 1),
        key_object_name("chunk-id", 0, 1),
        key_object_name("signing", 0, 1),
        pack_name(b"\xab" * 32),
        "index/" + "cd" * 32,
        object_name("0123abcd", 1),
        lease.Lease("0123abcd", 1, 1, 0).object_names[0],
        f"{checkpoint.PREFIX}0123abcd-{ManualClock().now_ns():020d}",
        range_name("0123abcd", 1, Lsn.parse("0/15D4F10"), Lsn.parse("0/2000000")),
        history_object_name("0123abcd", 2),
    ]
    assert made == [name.replace("ab…", "ab" * 32).replace("cd…", "cd" * 32) for name in names]


REFERENCE = re.compile(r"docs/format\.md §(\d+)")


def test_every_reference_leads_to_the_section_that_names_the_module():
    """A docstring's "docs/format.md §4" and the section's "Code:" line point at each other."""
    found = 0
    for path in python_files("include", "plugins"):
        text = path.read_text(encoding="utf-8")
        name = str(path.relative_to(PROJECT))
        module_docstring = text.split('"""')[1] if text.startswith('"""') else ""
        for number in REFERENCE.findall(text):
            assert number in SECTIONS, f"{name}: there is no section {number}"
            found += 1
        for number in REFERENCE.findall(module_docstring):
            assert f"`{name}`" in SECTIONS[number], f"section {number} does not name {name}"
    assert found > 5


def test_every_file_that_is_named_exists():
    """The "Code:" lines, and the tests."""
    named = re.findall(r"`((?:include|tests)/[\w/]+(?:\.py)?)`", PAGE)
    assert len(named) > 15
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_the_sections_are_numbered_without_a_gap():
    """Code refers to them by number."""
    assert [str(number) for number in range(1, len(SECTIONS) + 1)] == list(SECTIONS)


def test_the_engine_has_the_version_of_the_page():
    """One number for all four places that carry it."""
    numbers = {
        _code("coffer.repository.settings.FORMAT"),
        _code("coffer.crypto.keyring._VERSION"),
        _code("coffer.crypto.seal.FORMAT_VERSION"),
        _code("coffer.repository.snapshot.FORMAT"),
    }
    latest = max(int(number) for number in re.findall(r"^- \*\*(\d+)\*\* \(", SECTIONS["15"], re.M))
    assert {latest} == numbers
    assert coffer.__version__
