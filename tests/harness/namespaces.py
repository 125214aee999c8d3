"""A program's own mounts, for tests that need a real disk of a few MiB."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def own_mounts(*, instead: str) -> tuple[str, ...]:
    """Return a command prefix that gives a program its own mounts; skip the test where nobody may have some.

    Args:
        instead: The test that makes the same claim on every machine, by other means.
    """
    unshare = shutil.which("unshare")
    whom = "not even root may mount"
    if unshare is not None:
        is_root = os.geteuid() == 0
        mine = (unshare, "--mount") if is_root else (unshare, "--mount", "--map-root-user")
        if subprocess.run([*mine, "true"], capture_output=True, check=False).returncode == 0:
            return mine
        whom = whom if is_root else "only root may mount"
    else:
        whom = "unshare (util-linux) is not installed, so no test may mount"
    pytest.skip(f"{whom} on this machine; {instead}")
