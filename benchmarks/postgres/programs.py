"""Fetch the peers of the PostgreSQL figures: the newest pgBackRest of the Debian mirror, and a pinned Barman.

Both land in ``benchmarks/.cache/peers``; nothing is installed into the machine. pgBackRest is a C program built for a
newer Debian than this machine's may be: it runs with that Debian's own loader and libraries, unpacked beside it. It
starts itself again for its second process, by the name it was called by; so that name is the script that calls the
loader. Barman runs as the server's user, who may not be able to read this project's Python: it gets the machine's own.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.install import SetupError, private_apt, run_quietly
from benchmarks.layout import PEERS_DIR, PROJECT_DIR

PGBACKREST_SUITE = "sid"  # the newest, and the only one that knows the newest server
BARMAN_VERSION = "3.19.1"  # the newest for Python 3.11
# Barman asks for psycopg2, which would have to be compiled; this is the same, compiled.
BARMAN_NEEDS = ("psycopg2-binary", "python-dateutil", "argcomplete")

PGBACKREST = PEERS_DIR / "pgbackrest/bin/pgbackrest"
RSYNC = PEERS_DIR / "pgbackrest/bin/rsync"  # Barman copies what it restores by it
BARMAN = PEERS_DIR / f"barman-{BARMAN_VERSION}/bin/barman"
_DEBIAN_PROGRAMS = ("pgbackrest", "rsync")
_UV = PROJECT_DIR / ".venv/bin/uv"
_PYTHON = Path("/usr/bin/python3")


def install_peers(tools: list[str]) -> None:
    """Fetch those of the peers that are wanted and not there yet, and see that the programs of the pipeline are here.

    Raises:
        SetupError: one of them cannot be had; the message names what to install.
    """
    missing = [program for program in ("bash", "zstd", "openssl", "tar") if shutil.which(program) is None]
    if missing:
        raise SetupError(f"programs are missing: apt-get install {' '.join(missing)}")
    if {"pgbackrest", "barman"} & set(tools) and not (PGBACKREST.exists() and RSYNC.exists()):
        install_debian_programs()
    if "barman" in tools and not BARMAN.exists():
        install_barman()


def install_debian_programs() -> None:
    """Fetch pgBackRest and rsync with everything they are linked against, and write the scripts that start them.

    Raises:
        SetupError: apt or dpkg failed; what was half done is done again next time.
    """
    apt, env = private_apt(PGBACKREST_SUITE)
    # apt believes that nothing is installed, so it brings the C library as well; nothing is unpacked by it.
    options = ["-o", "Debug::NoLocking=1", "--no-install-recommends", "--download-only"]
    run_quietly(["apt-get", "install", "-q", "-y", *options, *_DEBIAN_PROGRAMS], env=env, cwd=apt)
    home, partial = PGBACKREST.parent.parent, PEERS_DIR / "pgbackrest.partial"
    for folder in (partial, home):
        shutil.rmtree(folder, ignore_errors=True)
    (partial / "bin").mkdir(parents=True)
    for package in sorted((apt / "cache/archives").glob("*.deb")):
        run_quietly(["dpkg", "-x", str(package), str(partial / "root")], env=env, cwd=apt)
    for name in _DEBIAN_PROGRAMS:
        script = partial / "bin" / name
        script.write_text(launcher(home / "root", name))
        script.chmod(0o755)
    partial.rename(home)


def launcher(root: Path, name: str) -> str:
    """Return the script that runs a program below `root` with the loader and the libraries that lie there."""
    libraries = f"{root}/usr/lib/x86_64-linux-gnu"
    return (
        "#!/bin/sh\n"
        f'exec "{libraries}/ld-linux-x86-64.so.2" --argv0 "$0" --library-path "{libraries}"'
        f' "{root}/usr/bin/{name}" "$@"\n'
    )


def install_barman() -> None:
    """Install Barman into an environment of its own.

    Raises:
        SetupError: the index does not answer, or there is no Python of the system.
    """
    if not _PYTHON.exists():
        raise SetupError(f"{_PYTHON} is missing: barman runs as the server's user and needs a Python of the system")
    venv = BARMAN.parent.parent
    shutil.rmtree(venv, ignore_errors=True)
    install = [str(_UV), "pip", "install", "-q", "--python", str(venv / "bin/python")]
    try:
        run_quietly([str(_UV), "venv", "-q", "--python", str(_PYTHON), str(venv)])
        run_quietly([*install, *BARMAN_NEEDS])
        run_quietly([*install, "--no-deps", f"barman=={BARMAN_VERSION}"])
    except SetupError:
        shutil.rmtree(venv, ignore_errors=True)
        raise


def first_line(*argv: str | Path) -> str:
    """Return the first line of what a program says of its own version."""
    said = subprocess.run(list(argv), capture_output=True, text=True, check=True).stdout
    return said.strip().splitlines()[0].strip("* ")
