"""Sources that cannot be backed up are refused with one clear error, before anything is stored."""

from __future__ import annotations

import os

import pytest

from coffer.backends.local import LocalBackend
from coffer.backends.retry import RetryBackend
from coffer.errors import SourceContainsRepositoryError, SourceMissingError, SourceReadError, UsageError
from tests.harness.backups import Workbench, folder_for_everybody, unprivileged, write_tree


def test_a_missing_source_is_refused(bench):
    """The message names the path; nothing is stored, not even a lease."""
    before = bench.stored_names()
    bench.change_source(paths=(bench.root, bench.root / "nothing"))
    with pytest.raises(SourceMissingError, match=r"nothing: does not exist"):
        bench.back_up()
    assert before == bench.stored_names()


def test_more_tags_than_a_snapshot_holds_are_refused(bench):
    """Before the walk: nothing is stored, not even a lease."""
    before = bench.stored_names()
    bench.change_source(tags=tuple(f"{n:0200d}" for n in range(6000)))
    with pytest.raises(UsageError, match=r"1 paths and 6000 tags: .* a snapshot holds"):
        bench.back_up()
    assert before == bench.stored_names()


def test_a_path_through_a_file_is_missing(bench):
    """A component of the path is no folder."""
    write_tree(bench.root, {"file": b"x"})
    bench.change_source(paths=(bench.root / "file" / "below",))
    with pytest.raises(SourceMissingError, match=r"below: does not exist"):
        bench.back_up()


def test_a_loop_of_links_cannot_be_reached(bench):
    """Neither missing nor readable."""
    (bench.root / "loop").symlink_to("loop")
    bench.change_source(paths=(bench.root / "loop",))
    with pytest.raises(SourceReadError, match=r"loop: cannot be reached"):
        bench.back_up()


def test_a_source_that_cannot_be_listed_is_an_error_and_no_empty_backup():
    """A snapshot without a file would look like a backup; the next would find everything gone."""
    with folder_for_everybody() as base:
        bench = Workbench(base / "source")
        write_tree(bench.root, {"file": b"x"})
        bench.root.chmod(0)
        try:
            with (
                unprivileged(),
                pytest.raises(SourceReadError, match=r"source: cannot be listed \(Permission denied\)"),
            ):
                bench.back_up()
        finally:
            bench.root.chmod(0o755)
        assert [] == bench.repo.snapshots()
        assert [] == bench.stored_names("leases/")


def test_a_source_that_vanishes_after_the_start_is_an_error(bench, monkeypatch):
    """The disk was unmounted: no snapshot says that its files are gone."""
    write_tree(bench.root, {"file": b"x"})
    real = os.lstat

    def lstat(path, *args, **kwargs):
        if path == os.fsencode(bench.root):
            raise FileNotFoundError(2, "No such file or directory")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.raises(SourceReadError, match=r"source: cannot be reached \(No such file or directory\)"):
        bench.back_up()
    assert [] == bench.repo.snapshots()


def test_a_bad_pattern_is_the_users_mistake(bench):
    """Said before anything is read."""
    bench.change_source(exclude=("!",))
    with pytest.raises(UsageError, match=r"exclude patterns: "):
        bench.back_up()
    assert [] == bench.stored_names("leases/")


def test_a_name_that_is_no_text_is_the_users_mistake(bench):
    """Bytes of the command line that are not UTF-8 arrive as surrogates: no snapshot could be found by them."""
    bench.change_source(name="caf\udce9")
    with pytest.raises(UsageError, match=r"source name 'caf\\udce9': not text in UTF-8"):
        bench.back_up()
    assert [] == bench.stored_names("leases/")


class TestOwnRepository:
    @pytest.fixture
    def local(self, tmp_path):
        backend = LocalBackend(tmp_path / "source" / "deep" / "store", create=True)
        yield Workbench(tmp_path / "source", backend=backend)
        backend.close()

    def test_a_source_that_holds_its_repository_is_refused(self, local):
        """It would back up what it is writing; the message names both."""
        before = local.stored_names()
        with pytest.raises(SourceContainsRepositoryError, match=r"source: holds the repository .*store itself"):
            local.back_up()
        assert before == local.stored_names()

    def test_so_is_the_repository_itself_and_every_way_to_it(self, local, tmp_path):
        """The folder itself, a link to what holds it, and through a wrapper of the store."""
        (tmp_path / "way").symlink_to(local.root)
        for path in (local.root / "deep" / "store", tmp_path / "way", local.root / "deep" / ".." / "deep"):
            local.change_source(paths=(path,))
            with pytest.raises(SourceContainsRepositoryError):
                local.back_up()
            with pytest.raises(SourceContainsRepositoryError):
                local.back_up(repo=local.reopen(RetryBackend(local.backend)))

    @pytest.mark.parametrize("pattern", ["/deep/store", "/deep", "store/", "deep/**"])
    def test_an_excluded_repository_is_no_obstacle(self, local, pattern):
        """By itself or with a folder above it."""
        write_tree(local.root, {"file": b"x"})
        local.change_source(exclude=(pattern,))
        result = local.back_up()
        assert 1 == result.stats["files"]
        assert not any(b"packs" in path for path in local.saved(result))

    @pytest.mark.parametrize("pattern", ["*.tmp", "/deep/store/packs", "storehouse"])
    def test_a_pattern_that_leaves_it_in_is_not_enough(self, local, pattern):
        """Not one that leaves out only a part of it, either."""
        local.change_source(exclude=(pattern,))
        with pytest.raises(SourceContainsRepositoryError):
            local.back_up()

    def test_a_repository_beside_the_source_is_none_in_it(self, local, tmp_path):
        """A name that only begins alike holds nothing."""
        write_tree(local.root / "deep" / "sto", {"file": b"x"})
        local.change_source(paths=(local.root / "deep" / "sto",))
        assert 1 == local.back_up().stats["files"]
