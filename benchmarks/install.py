"""Fetch the peer programs: the newest restic that the Debian mirror has, and a pinned borg.

Both land in ``benchmarks/.cache/peers`` and nothing is installed into the machine. The mirror is the one that the
machine's own apt uses, so no host name is written here. restic is a static Go program: it runs straight out of the
unpacked package. borg is compiled in a virtual environment of its own, for which the C headers must be present
(`BORG_BUILD_PACKAGES`); the error says so when they are not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.layout import PEERS_DIR

BORG_VERSION = "1.4.5"
# sid has the newest restic, and the newest is the fairest to compare with.
RESTIC_SUITE = "sid"
BORG_BUILD_PACKAGES = ("liblz4-dev", "libacl1-dev", "libxxhash-dev", "libzstd-dev", "libssl-dev", "pkg-config", "gcc")

RESTIC = PEERS_DIR / "restic/usr/bin/restic"
BORG = PEERS_DIR / f"borg-{BORG_VERSION}/bin/borg"


class SetupError(Exception):
    """A peer could not be fetched or built; the message says what to do."""


def debian_mirror(etc_apt: Path = Path("/etc/apt")) -> str:
    """Return the URI of the Debian archive that this machine's apt already uses.

    Raises:
        SetupError: no Debian archive is named in the apt sources.
    """
    files = [*sorted(etc_apt.glob("sources.list.d/*")), etc_apt / "sources.list"]
    for file in (f for f in files if f.is_file()):
        uri = mirror_in(file.read_text())
        if uri is not None:
            return uri
    raise SetupError(f"no debian archive in {etc_apt}: restic cannot be fetched")


def mirror_in(sources: str) -> str | None:
    """Return the first URI of a main Debian archive (its path ends in `/debian`) in an apt sources file, or None."""
    for line in sources.splitlines():
        if line.startswith("#"):
            continue
        for word in line.replace("URIs:", " ").split():
            if re.fullmatch(r"(https?|file|mirror\+\S+):\S*/debian/?", word):
                return word
    return None


def install_peers() -> None:
    """Fetch and build every peer that is not there yet, and see that the limit's programs are on this machine.

    Raises:
        SetupError: one of them cannot be had; the message names what to install.
    """
    programs = {"tar": "tar", "zstd": "zstd", "openssl": "openssl", "strace": "strace"}
    missing = [package for program, package in programs.items() if shutil.which(program) is None]
    if missing:
        raise SetupError(f"programs are missing: apt-get install {' '.join(missing)}")
    install_restic()
    install_borg()


def install_restic() -> None:
    """Fetch restic by a private apt folder and unpack it with dpkg, when it is not there yet.

    Raises:
        SetupError: apt or dpkg failed; what was half done is done again next time.
    """
    if RESTIC.exists():
        return
    apt, env = private_apt(RESTIC_SUITE)
    run_quietly(["apt-get", "download", "-q", "restic"], env=env, cwd=apt)
    packages = sorted(apt.glob("restic_*.deb"))
    run_quietly(["dpkg", "-x", str(packages[-1]), str(PEERS_DIR / "restic")], env=env, cwd=apt)


def private_apt(suite: str) -> tuple[Path, dict[str, str]]:
    """Make an apt folder of our own that knows the packages of `suite`, and nothing that is installed here.

    Returns:
        The folder, whose `cache/archives` apt downloads into, and the environment in which apt uses it.

    Raises:
        SetupError: the mirror does not answer.
    """
    apt = PEERS_DIR / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial", "etc"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (apt / "etc" / "sources.list").write_text(f"deb [signed-by={keyring}] {debian_mirror()} {suite} main\n")
    (apt / "state" / "status").touch()
    (apt / "apt.conf").write_text(
        f'Dir::State "{apt}/state";\nDir::State::status "{apt}/state/status";\nDir::Cache "{apt}/cache";\n'
        f'Dir::Etc::SourceList "{apt}/etc/sources.list";\nDir::Etc::SourceParts "-";\n'
        # apt would drop to its own user, who may not be able to write below the project's folder.
        'APT::Sandbox::User "root";\nAcquire::Languages "none";\n'
    )
    env = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
    run_quietly(["apt-get", "update", "-q"], env=env, cwd=apt)
    return apt, env


def install_borg() -> None:
    """Build borg from source in its own virtual environment, when it is not there yet.

    Raises:
        SetupError: the build failed, mostly because C headers are missing; the half-made environment is removed.
    """
    if BORG.exists():
        return
    venv = BORG.parent.parent
    PEERS_DIR.mkdir(parents=True, exist_ok=True)
    try:
        run_quietly([sys.executable, "-m", "venv", str(venv)])
        run_quietly(
            [str(venv / "bin/pip"), "install", "-q", "--no-binary", "borgbackup", f"borgbackup=={BORG_VERSION}"]
        )
    except SetupError as error:
        shutil.rmtree(venv, ignore_errors=True)
        raise SetupError(f"{error}\nborg needs: apt-get install {' '.join(BORG_BUILD_PACKAGES)}") from error


def run_quietly(command: list[str], *, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run `command` to its end, quietly; its last lines become the error when it fails."""
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise SetupError(f"{' '.join(command)} failed: exit {done.returncode}\n{tail}")
