"""What a target must be: each refusal is one error with a hint, and nothing is written."""

import os

import pytest

from coffer.backends.local import LocalBackend
from coffer.errors import RestoreSpaceError, RestoreTargetError, UsageError
from coffer.restore import Overwrite, taken_back_unused
from tests.harness.backups import Workbench, folder_for_everybody, needs_root, unprivileged, write_tree
from tests.harness.restores import names_below


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path / "source", backend=LocalBackend(tmp_path / "store", create=True))
    write_tree(bench.root, {"a": b"1"})
    bench.back_up()
    return bench


@pytest.mark.parametrize("options", [{}, {"dry_run": True}])
def test_a_target_with_something_in_it_is_refused(target, give_back, options):
    """Nothing is said about overwriting, so nothing may be overwritten; the hint says how to allow it."""
    write_tree(target, {"x": b"1"})
    with pytest.raises(RestoreTargetError, match="is not empty") as caught:
        give_back(**options)
    assert "--overwrite" in caught.value.hint
    assert {"x"} == names_below(target)


@pytest.mark.parametrize("below", ["", "deep/er", "packs"])
def test_a_target_in_the_repository_is_refused(bench, tmp_path, give_back, below):
    """A restore must not put foreign files among the repository's own, by whatever name it is reached."""
    (tmp_path / "alias").symlink_to("store")
    before = names_below(tmp_path / "store")
    for spelling in (tmp_path / "store" / below, tmp_path / "alias" / below):
        with pytest.raises(RestoreTargetError, match="lies in the repository"):
            give_back(to=spelling, overwrite=Overwrite.ALWAYS)
    assert before == names_below(tmp_path / "store")


def test_a_repository_whose_folder_is_gone_refuses_nothing(bench, tmp_path, target, give_back):
    """The check of the target does not need the store's folder under its old name."""
    repo = bench.reopen()
    repo.index()
    os.rename(tmp_path / "store", tmp_path / "moved")
    os.symlink(tmp_path / "nowhere", tmp_path / "store")
    result = give_back(repo=repo, dry_run=True)
    assert 1 == result.stats["files"]


@pytest.mark.parametrize("overwrite", [None, Overwrite.ALWAYS])
def test_a_target_that_is_a_file_is_refused(target, give_back, overwrite):
    """A file is not replaced by a folder of its name."""
    target.write_bytes(b"precious")
    with pytest.raises(RestoreTargetError, match="is not a folder"):
        give_back(overwrite=overwrite)
    assert b"precious" == target.read_bytes()


def test_a_target_below_a_file_is_refused(tmp_path, give_back):
    """A path that leads through a file cannot be made."""
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(RestoreTargetError):
        give_back(to=tmp_path / "file" / "below")
    assert b"precious" == (tmp_path / "file").read_bytes()


def test_a_target_may_be_reached_through_a_link(tmp_path, give_back):
    """The user's own spelling of the target may hold links: they are resolved once, before anything is written."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    result = give_back(to=tmp_path / "link")
    assert (tmp_path / "real", 1) == (result.target, result.stats["files"])


@needs_root
@pytest.mark.parametrize(("name", "match"), [("closed", "cannot be read"), ("new", "cannot be used")])
def test_a_target_without_permission_is_refused(tmp_path, give_back, name, match):
    """Neither a folder that may not be read, nor one that may not be made, is a traceback."""
    bench = Workbench(tmp_path / "other")
    bench.back_up()
    repo = bench.reopen()
    with folder_for_everybody() as top:
        (top / "closed").mkdir(mode=0o700)
        os.chown(top, 0, 0)
        with unprivileged(), pytest.raises(RestoreTargetError, match=match) as caught:
            give_back(repo=repo, to=top / name)
    assert "permission denied" in str(caught.value)


def test_a_repository_on_no_disk_forbids_no_target(tmp_path, give_back):
    """A store that is no folder has no folder to protect."""
    bench = Workbench(tmp_path / "other")
    write_tree(bench.root, {"a": b"1"})
    bench.back_up()
    give_back(repo=bench.reopen())
    assert (tmp_path / "target" / bench.root.relative_to("/") / "a").is_file()


@pytest.mark.parametrize("what", ["link", "folder", "content"])
def test_a_target_that_changes_under_the_restore_is_refused(bench, target, give_back, monkeypatch, tmp_path, what):
    """Between the look and the opening another user puts something else there: nothing is written into it."""
    from coffer.restore.target import Target

    victim = tmp_path / "victim"
    write_tree(victim, {"theirs": b"1"})
    target.mkdir()
    real = Target.open

    def swap(self, *, create):
        if what == "content":
            (target / "new").touch()
        else:
            target.rename(tmp_path / "gone")
            target.symlink_to(victim) if what == "link" else victim.rename(target)
        return real(self, create=create)

    monkeypatch.setattr(Target, "open", swap)
    with pytest.raises(RestoreTargetError, match=r"was changed|cannot be used"):
        give_back()
    assert names_below(target) == ({"new"} if what == "content" else {"theirs"})


def restore_that_fails(target, error, *, beside=None):
    """Make the target as a restore does, perhaps with a file of somebody else above it, and fail."""
    with taken_back_unused(target):
        target.mkdir(parents=True)
        if beside is not None:
            beside.write_text("x")
        raise error


def test_a_folder_that_somebody_wrote_into_is_not_taken_back(tmp_path):
    """Only what is empty is removed, up to the first folder that is not; the error goes on."""
    with pytest.raises(UsageError, match="nothing is wanted"):
        restore_that_fails(
            tmp_path / "a" / "b" / "c", UsageError("nothing is wanted"), beside=tmp_path / "a" / "theirs"
        )
    assert ["theirs"] == [path.name for path in (tmp_path / "a").iterdir()]


def test_a_target_of_a_restore_that_failed_otherwise_stays(tmp_path):
    """A further try goes on in it."""
    with pytest.raises(RestoreSpaceError, match="full"):
        restore_that_fails(tmp_path / "a", RestoreSpaceError("full"))
    assert (tmp_path / "a").is_dir()
