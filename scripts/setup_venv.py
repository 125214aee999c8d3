"""Make the project's `.venv` from the pinned requirement files, with the standard library alone.

Owns: the virtual environment and its stamp. Refuses: to choose versions (that is `make lock`) and to touch anything
outside `.venv`.

Safe to repeat: a second run compares one hash and returns. Safe to run twice at once: the second waits for the first.
An interrupted run leaves no stamp, so the next run goes on where this one stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "coffer-setup.sha256"
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
EXTRA_INPUTS = ("pyproject.toml", "scripts/setup_venv.py")


def main() -> int:
    """Bring `.venv` up to date with the requirement files.

    Returns:
        int: The exit code: 0 done or nothing to do, 1 failed (the virtual environment is left as it is).
    """
    if sys.version_info[:2] != (3, 11):
        print(f"setup: Python 3.11 is needed, this is {sys.version.split()[0]}", file=sys.stderr)
        print("HINT: name it: make setup PYTHON=/path/to/python3.11", file=sys.stderr)
        return 1
    with (ROOT / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds of one environment at once would mix their files
        wanted = _fingerprint()
        if STAMP.is_file() and STAMP.read_text(encoding="ascii") == wanted and PYTHON.exists():
            return 0
        started_s = time.monotonic()
        try:
            _install()
        except subprocess.CalledProcessError as error:
            print(f"setup: {' '.join(map(str, error.cmd[:4]))} ... ended with {error.returncode}", file=sys.stderr)
            print("HINT: is a package index reachable? run make setup again to go on", file=sys.stderr)
            return 1
        STAMP.write_text(wanted, encoding="ascii")
        print(f"setup: .venv is ready after {time.monotonic() - started_s:.0f} s")
    return 0


def _fingerprint() -> str:
    """Hash what the environment depends on: the inputs, this Python, and the place (scripts carry absolute paths)."""
    digest = hashlib.sha256()
    for name in (*REQUIREMENTS, *EXTRA_INPUTS):
        digest.update(hashlib.sha256((ROOT / name).read_bytes()).digest())
    digest.update(f"{sys.version}|{VENV}".encode())
    return digest.hexdigest()


def _install() -> None:
    """Install uv, then all pinned packages, then the project itself; drop what is pinned no longer."""
    STAMP.unlink(missing_ok=True)
    if not PYTHON.exists():
        print("setup: making .venv")
        _run(sys.executable, "-m", "venv", str(VENV))
    uv = VENV / "bin" / "uv"
    if not uv.exists():  # a later change of the pinned uv is an upgrade that uv does itself
        _run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"uv=={_pinned_uv()}")
    print("setup: installing the pinned packages (a minute or two the first time)", flush=True)
    files = [ROOT / name for name in REQUIREMENTS]
    common = ("--quiet", "--python", PYTHON)
    # First add, then sync: the sync builds the project without isolation and so needs the build backend in place; and
    # a package is never missing while another process uses the environment.
    _run(uv, "pip", "install", *common, *(arg for name in files for arg in ("-r", name)))
    _run(uv, "pip", "sync", *common, "--no-build-isolation", *files, "-", stdin="-e .\n")


def _pinned_uv() -> str:
    """Return the version of uv that requirements-dev.txt pins."""
    match = re.search(r"^uv==(\S+)", (ROOT / "requirements-dev.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise SystemExit("setup: requirements-dev.txt pins no uv")
    return match.group(1)


def _run(*command: str | Path, stdin: str | None = None) -> None:
    """Run one command in the project's root, its output shown as it comes."""
    subprocess.run(command, cwd=ROOT, check=True, input=stdin, text=True)


if __name__ == "__main__":
    sys.exit(main())
