"""Where the peers come from: the machine's own apt sources."""

import pytest

from benchmarks.install import SetupError, debian_mirror, mirror_in


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (
            "Types: deb\n# http://old.example/debian\nURIs: http://mirror.example/debian\n",
            "http://mirror.example/debian",
        ),
        ("deb [signed-by=/k.gpg] https://mirror.example/debian bookworm main\n", "https://mirror.example/debian"),
        ("URIs: http://mirror.example/debian-security\n", None),
        ("deb https://elsewhere.example/node_20.x nodistro main\n", None),
    ],
)
def test_the_mirror_is_the_main_archive_that_apt_uses(sources, expected):
    """Both spellings of apt's files are read; security and foreign archives, which have no restic, are passed over."""
    assert expected == mirror_in(sources)


def test_a_machine_without_a_debian_archive_is_told_so(tmp_path):
    """One clear error instead of a guess at a host."""
    with pytest.raises(SetupError, match="no debian archive"):
        debian_mirror(tmp_path)
