"""Folders are held open while they are read: a path that comes to lead elsewhere is not followed."""

from __future__ import annotations

import os

import pytest

from coffer.sources.filesystem import folder
from tests.harness.backups import write_tree


def stored(path):
    return os.fsencode(path).strip(b"/")


@pytest.mark.parametrize("when", ["listed", "read"])
def test_what_a_folder_that_became_a_link_leads_to_is_not_saved(bench, monkeypatch, when):
    """Whoever may write in the tree could else have root's backup save, as theirs, what they may not read."""
    write_tree(bench.root, {"folder/secret": b"1" * 10, "folder/link/x": b"1"})
    write_tree(bench.root.parent, {"trap/secret": b"2" * 10, "trap/link/x": b"2", "trap/other": b"2"})
    real = os.open

    def swap(path, flags, *args, **kwargs):
        is_moment = bool(flags & os.O_PATH) == (when == "read")
        if path == os.fsencode(bench.root / "folder") and is_moment:
            monkeypatch.undo()
            (bench.root / "folder").rename(bench.root.parent / "was folder")
            (bench.root / "folder").symlink_to(bench.root.parent / "trap")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", swap)
    result = bench.back_up()
    assert os.path.islink(bench.root / "folder")
    assert {"vanished"} == {w.code for w in result.warnings}
    saved = bench.saved(result)
    below = [path for path in saved if path.startswith(stored(bench.root / "folder") + b"/")]
    assert all(saved[path].content != b"2" * 10 for path in below)
    assert not any(path.endswith(b"/other") for path in below)
    bench.assert_saved(bench.back_up())


def test_a_folder_above_that_became_a_link_is_noticed_too(bench, monkeypatch):
    """The path leads to a folder of that name elsewhere: it is not the one that was met."""
    write_tree(bench.root, {"folder/deep/mine": b"1"})
    write_tree(bench.root.parent, {"trap/deep/secret": b"2"})
    real = os.open

    def swap(path, flags, *args, **kwargs):
        if path == os.fsencode(bench.root / "folder" / "deep"):
            monkeypatch.undo()
            (bench.root / "folder").rename(bench.root.parent / "was folder")
            (bench.root / "folder").symlink_to(bench.root.parent / "trap")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", swap)
    result = bench.back_up()
    assert {"vanished"} == {w.code for w in result.warnings}
    assert not any(path.endswith((b"/secret", b"/mine")) for path in bench.saved(result))


def test_a_folder_that_another_took_the_place_of_is_saved(bench, monkeypatch):
    """No link is in between: what stands at the path now is what the path's backup is to have."""
    write_tree(bench.root, {"folder/old": b"1"})
    write_tree(bench.root.parent, {"next/new": b"2"})
    real = os.open

    def swap(path, flags, *args, **kwargs):
        if path == os.fsencode(bench.root / "folder"):
            monkeypatch.undo()
            (bench.root / "folder").rename(bench.root.parent / "was folder")
            (bench.root.parent / "next").rename(bench.root / "folder")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", swap)
    result = bench.back_up()
    assert 0 == result.exit_code
    assert b"2" == bench.saved(result)[stored(bench.root / "folder" / "new")].content
    bench.assert_saved(bench.back_up())


def test_without_proc_a_folder_that_is_not_the_one_that_was_met_is_refused(tmp_path, monkeypatch):
    """Nothing shows then that no link led there; and no descriptor is left open."""

    def unknown(*_, **__):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "readlink", unknown)
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(folder.VanishedError):
        folder.open_folder(os.fsencode(tmp_path), (0, 0), folder.LIST_FLAGS)
    assert before == sorted(os.listdir("/proc/self/fd"))


def test_one_descriptor_at_a_time_is_held(bench, monkeypatch):
    """However many folders there are: a run of many must not meet the limit of open files."""
    write_tree(bench.root, {f"{n:03}/x": b"%d" % n for n in range(60)})
    held, most = set(), []
    real_open, real_close = os.open, os.close

    def count_open(path, flags, *args, **kwargs):
        fd = real_open(path, flags, *args, **kwargs)
        if flags & os.O_DIRECTORY:
            held.add(fd)
            most.append(len(held))
        return fd

    def count_close(fd):
        held.discard(fd)
        real_close(fd)

    monkeypatch.setattr(os, "open", count_open)
    monkeypatch.setattr(os, "close", count_close)
    bench.back_up()
    assert (1, set()) == (max(most), held)
    assert len(most) > 120
