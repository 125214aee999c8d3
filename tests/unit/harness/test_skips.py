"""The budget for skips: what is excused, and for whom."""

from __future__ import annotations

import pytest

from tests.harness.skips import count_unexcused


@pytest.mark.parametrize(
    ("longrepr", "for_root", "for_others"),
    [
        (("/srv/a/tests/test_x.py", 3, "Skipped: only root can make such files"), 1, 0),
        (("/srv/only root here/test_x.py", 3, "Skipped: the service is down"), 1, 1),
        (("/srv/a/tests/test_x.py", 3, "Skipped: the root cause is not known"), 1, 1),
        ("no tuple: only root in the middle", 1, 1),
    ],
)
def test_only_a_test_that_needs_root_is_excused(longrepr, for_root, for_others):
    """The reason counts and not the path it is told with, and it must begin so; root is excused from nothing."""
    assert for_root == count_unexcused([longrepr], is_root=True)
    assert for_others == count_unexcused([longrepr], is_root=False)
