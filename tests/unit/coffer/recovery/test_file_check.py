"""Files of a restored folder against the manifest of the server: by size, by checksum, page by page."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace

import google_crc32c
import pytest

from coffer.clock import SYSTEM_CLOCK
from coffer.errors import InterruptedRunError
from coffer.postgres.backup_manifest import ManifestFile, ManifestWriter, WalRange
from coffer.postgres.facts import MANIFEST_PATH, Method
from coffer.postgres.lsn import Lsn
from coffer.recovery.drill_report import DrillLog
from coffer.recovery.file_check import check_files
from tests.harness.cluster_backups import new_repository
from tests.harness.clusters import FACTS, keep_snapshot

FACTS = replace(FACTS, has_checksums=False)
FILES = {
    b"PG_VERSION": b"15\n",
    b"base/5/1259": bytes(range(256)) * 32 * 300,
    b"base/5/empty": b"",
    b"global/1262": b"g" * 8192,
}


def crc(content):
    return google_crc32c.value(content).to_bytes(4, "little")


def entry(path, content, algorithm="CRC32C"):
    checksum = {"CRC32C": crc, "SHA256": lambda data: hashlib.sha256(data).digest(), "NONE": lambda data: b""}
    return ManifestFile(path, len(content), "2026-11-25 05:38:17 GMT", algorithm, checksum[algorithm](content))


def manifest_of(*entries):
    writer = ManifestWriter(None)
    parts = [writer.head(), *(writer.file(found) for found in entries), writer.tail([WalRange(1, Lsn(0), Lsn(8))])]
    return b"".join(parts)


@pytest.fixture
def check(tmp_path):
    """A function that lays files on disk and compares them with a manifest; returns (findings, counts)."""

    def run(manifest, files=FILES, facts=FACTS, **given):
        for path, content in files.items():
            place = tmp_path / path.decode()
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        repo = new_repository()
        stored = {MANIFEST_PATH: manifest} if manifest is not None else {}
        snapshot = keep_snapshot(repo, {b"PG_VERSION": b"15\n", **stored}, facts)
        notes = DrillLog(SYSTEM_CLOCK)
        check_files(repo, snapshot, facts, tmp_path, notes, workers=2, **given)
        return [(found.severity.value, found.code, found.file) for found in notes.kept], notes.counts

    return run


@pytest.mark.parametrize("algorithm", ["CRC32C", "SHA256", "NONE"])
def test_files_that_are_as_the_server_sent_them_pass(check, algorithm):
    """Each is counted, whatever the algorithm of its checksum."""
    findings, counts = check(manifest_of(*(entry(path, data, algorithm) for path, data in FILES.items())))
    assert ([], 4, 0) == (findings, counts["files_checked"], counts["errors"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({b"global/1262": b"g" * 8191 + b"h"}, "file-differs"),
        ({b"global/1262": b"g" * 8191}, "file-differs"),
        ({b"base/5/empty": b"x"}, "file-differs"),
    ],
)
def test_another_content_or_size_is_named(check, change, code):
    """One finding for one file."""
    findings, _ = check(manifest_of(*(entry(path, data) for path, data in FILES.items())), {**FILES, **change})
    assert [("error", code, next(iter(change)).decode())] == findings


def test_a_missing_file_is_named(check):
    """Also a folder in its place."""
    files = {path: data for path, data in FILES.items() if path != b"global/1262"}
    findings, _ = check(manifest_of(*(entry(path, data) for path, data in FILES.items())), files)
    assert [("error", "file-missing", "global/1262")] == findings


@pytest.mark.parametrize("path", [b"../outside", b"/etc/passwd", b"base/../../x", b"a\0b"])
def test_a_path_that_leads_out_is_not_opened(check, path):
    """The manifest came from a server that may be hostile."""
    findings, _ = check(manifest_of(entry(path, b"")), {})
    assert ["manifest"] == [code for _, code, _ in findings]


def test_a_link_in_place_of_a_file_is_not_followed(check, tmp_path):
    """It would compare another file."""
    (tmp_path / "elsewhere").write_bytes(b"g" * 8192)
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    findings, _ = check(manifest_of(entry(b"linked", b"g" * 8192)), {})
    assert [("error", "file-missing", "linked")] == findings


def test_what_a_restore_writes_itself_is_passed_over(check):
    """Settings, label, signals and WAL."""
    names = (b"backup_label", b"tablespace_map", b"postgresql.auto.conf", b"pg_wal/000000010000000000000001")
    findings, counts = check(manifest_of(*(entry(name, b"other") for name in names), entry(b"PG_VERSION", b"15\n")))
    assert ([], 1) == (findings, counts["files_checked"])


def test_of_a_native_incremental_only_whole_files_are_compared(check):
    """The others were put together from several backups: this manifest does not know them."""
    native = replace(FACTS, method=Method.NATIVE)
    manifest = manifest_of(entry(b"base/5/INCREMENTAL.1259", b"blocks"), entry(b"PG_VERSION", b"15\n"))
    findings, counts = check(manifest, facts=native)
    assert ([], 1) == (findings, counts["files_checked"])


@pytest.mark.parametrize(
    "harm", [lambda m: m[:-20], lambda m: m.replace(b'"Size": 3', b'"Size": 4'), lambda m: b"{}\n"]
)
def test_a_manifest_that_was_altered_is_a_finding(check, harm):
    """Its own checksum is compared at the end."""
    findings, _ = check(harm(manifest_of(*(entry(path, data) for path, data in FILES.items()))))
    assert ("error", "manifest", ".coffer/backup_manifest") in findings


def test_a_snapshot_without_a_manifest_is_a_hint(check):
    """Nothing was compared, and it is said."""
    findings, counts = check(None)
    assert ([("hint", "no-manifest", "")], 0) == (findings, counts["files_checked"])


def test_a_stop_ends_it(check):
    """Between two files."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        check(manifest_of(*(entry(path, data) for path, data in FILES.items())), stop=stop)
