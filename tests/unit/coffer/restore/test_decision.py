"""What becomes of an entry: a pure table of what is there and what was asked for."""

import os
import stat

import pytest

from coffer.restore.decision import Powers, decide
from coffer.restore.spec import Action, Overwrite

ROOT, USER = Powers(True, 0, 0), Powers(False, 1000, 100)
FILE, FOLDER, LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK


def row(kind=FILE, mode=0o644, *, uid=0, gid=0, size=10, mtime=5):
    return (kind | mode, uid, gid, size, 1, 1, 1, mtime, 0)


def there(kind=FILE, mode=0o644, *, uid=0, gid=0, size=10, mtime=5):
    values = (kind | mode, 1, 1, 1, uid, gid, size, 0, 0, 0)
    return os.stat_result((*values, 0.0, mtime / 1e9, 0.0, 0, mtime, 0))


def test_an_empty_place_is_filled():
    """Whatever was said about overwriting: where nothing is, something is made."""
    for overwrite in (None, *Overwrite):
        assert Action.CREATE is decide(row(), None, overwrite, ROOT)


def test_nothing_is_replaced_unasked():
    """Without a word, whatever is there is refused, the very same file too."""
    for kind in (FILE, FOLDER, LINK):
        assert Action.REFUSE is decide(row(kind), there(kind), None, ROOT)


@pytest.mark.parametrize(
    ("what", "never", "changed", "always"),
    [
        ((row(), there()), Action.KEEP, Action.KEEP, Action.OVERWRITE),
        ((row(), there(size=11)), Action.KEEP, Action.OVERWRITE, Action.OVERWRITE),
        ((row(), there(mtime=6)), Action.KEEP, Action.OVERWRITE, Action.OVERWRITE),
        ((row(), there(mode=0o600)), Action.KEEP, Action.OVERWRITE, Action.OVERWRITE),
        ((row(), there(uid=7)), Action.KEEP, Action.OVERWRITE, Action.OVERWRITE),
        ((row(), there(gid=7)), Action.KEEP, Action.OVERWRITE, Action.OVERWRITE),
        ((row(), there(LINK)), Action.KEEP, Action.OVERWRITE, Action.OVERWRITE),
        ((row(), there(FOLDER)), Action.KEEP, Action.REFUSE, Action.REFUSE),
        ((row(LINK, 0o777), there(LINK, 0o755)), Action.KEEP, Action.KEEP, Action.OVERWRITE),
        ((row(FOLDER), there(FOLDER, size=99)), Action.KEEP, Action.KEEP, Action.KEEP),
        ((row(FOLDER), there(FOLDER, 0o700)), Action.KEEP, Action.OVERWRITE, Action.OVERWRITE),
        ((row(FOLDER), there()), Action.REFUSE, Action.OVERWRITE, Action.OVERWRITE),
        ((row(FOLDER), there(LINK)), Action.REFUSE, Action.OVERWRITE, Action.OVERWRITE),
    ],
)
def test_each_word_has_its_row(what, never, changed, always):
    """Never keeps, changed compares, always replaces; a folder is never removed."""
    assert [never, changed, always] == [decide(*what, overwrite, ROOT) for overwrite in Overwrite]


def test_a_link_that_leads_elsewhere_has_changed():
    """Size and time of a link do not tell where it leads; the caller does."""
    what = row(LINK), there(LINK), Overwrite.CHANGED, ROOT
    assert (Action.KEEP, Action.OVERWRITE) == (decide(*what), decide(*what, same_place=False))


def test_owners_count_only_for_who_can_set_them():
    """An ordinary user's files are not rewritten each time because their owner cannot be had."""
    assert Action.KEEP is decide(row(uid=7), there(uid=1000), Overwrite.CHANGED, USER)


def test_setuid_goes_only_with_its_owner():
    """A mode that was left short of its setuid bit for want of the owner is right."""
    program = row(mode=0o4755, uid=7)
    assert (0o755, 0o4755) == (USER.mode_of(program), ROOT.mode_of(program))
    assert 0o4755 == USER.mode_of(row(mode=0o4755, uid=1000, gid=100))
    assert 0o2755 == USER.mode_of(row(FOLDER, 0o2755))
    assert Action.KEEP is decide(program, there(mode=0o755), Overwrite.CHANGED, USER)


def test_the_powers_are_those_of_the_process():
    """Root is who has effective user id 0."""
    powers = Powers.of_process()
    assert (os.geteuid() == 0, os.geteuid(), os.getegid()) == (powers.is_root, powers.uid, powers.gid)
