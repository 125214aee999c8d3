"""What a target folder must be before anything is written: no running server, this cluster or nothing at all."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from coffer.errors import RestoreTargetError
from coffer.repository.repository import Repository

STAGING = ".coffer-restore"  # in a tablespace's folder, until its content has its place
_CONTROL = Path("global") / "pg_control"
_SYSTEM_ID = struct.Struct("<Q")  # the first field of pg_control
_MARK = "user.coffer.restoring"  # of a folder whose restore has not ended: the cluster it is of
_STOP_HINT = "Stop the server first ('pg_ctl -D DIR stop'), or give another folder."
_LISTEN_TIMEOUT_S = 2.0


def require_fit(repo: Repository, target: Path, *, delta: bool, system_id: int) -> None:
    """Check a data folder; changes nothing.

    Args:
        repo: The repository; the target must not be in it.
        target: Absolute, links resolved.
        delta: Whether it is to hold the cluster already.
        system_id: The cluster.

    Raises:
        RestoreTargetError: A server runs in it, it is not empty, holds another cluster, or is no folder.
    """
    refuse_repository(repo, target)
    if target.exists() and not target.is_dir():
        raise RestoreTargetError(f"target {target}: is not a folder")
    names = _names(target)
    if names:
        refuse_running(target)
    if not delta:
        if names:
            is_cluster = (target / "PG_VERSION").exists()
            hint = "Give an empty or new folder."
            if is_cluster:
                hint += " --delta writes over a cluster that is there, if it is the same one."
            raise RestoreTargetError(f"target {target}: is not empty", hint=hint)
        return
    if names:
        _require_same(target, system_id)


def require_fit_tablespace(repo: Repository, oid: int, folder: Path, *, delta: bool) -> None:
    """Check the folder of a tablespace; changes nothing.

    Raises:
        RestoreTargetError: It is in the repository, no folder, a running server's, or not empty where no delta was
            asked for.
    """
    refuse_repository(repo, folder)
    if folder.exists() and not folder.is_dir():
        raise RestoreTargetError(f"tablespace {oid}: {folder} is not a folder", hint="Give a folder.")
    user = _server_with(folder)
    if user is not None:
        raise RestoreTargetError(
            f"tablespace {oid}: {folder} belongs to a running server, process {user}",
            hint=f"Give a folder that no server uses: --tablespace {oid}=/new/folder.",
        )
    strange = [name for name in _names(folder) if not (delta and name.startswith(("PG_", STAGING)))]
    if strange:
        raise RestoreTargetError(
            f"tablespace {oid}: {folder} is not empty ({strange[0]!r} is in it)",
            hint=f"Give an empty or new folder: --tablespace {oid}=/new/folder.",
        )


def refuse_repository(repo: Repository, folder: Path) -> None:
    """Refuse a folder in the repository's own.

    Raises:
        RestoreTargetError: It lies there, or the repository in it.
    """
    url = urlsplit(repo.backend.url)
    if url.scheme != "file":
        return
    own = Path(os.path.realpath(unquote(url.path)))
    if folder == own or own in folder.parents or folder in own.parents:
        raise RestoreTargetError(
            f"target {folder}: and the repository {own} lie in one another", hint="Give a folder apart from it."
        )


def refuse_running(target: Path) -> None:
    """Refuse the folder of a running server: by its pid file, its socket, or a process that works in it.

    Raises:
        RestoreTargetError: One runs, or it cannot be told that none does.
    """
    lines = _pid_file(target)
    if lines:
        pid = lines[0].strip().lstrip("-")
        if pid.isdecimal() and _is_server(int(pid), target):
            raise RestoreTargetError(f"target {target}: a server runs in it, process {pid}", hint=_STOP_HINT)
        if len(lines) > 4 and lines[3].strip().isdecimal():
            path = Path(lines[4].strip() or "/nowhere") / f".s.PGSQL.{lines[3].strip()}"
            if lines[4].strip() and _answers(path):
                raise RestoreTargetError(f"target {target}: a server answers at its socket {path}", hint=_STOP_HINT)
    found = _process_in(target)
    if found is not None:
        raise RestoreTargetError(f"target {target}: process {found} works in it", hint=_STOP_HINT)


def _pid_file(target: Path) -> list[str]:
    try:
        return (target / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RestoreTargetError(
            f"target {target}: its postmaster.pid cannot be read ({(error.strerror or str(error)).lower()})"
        ) from None


def _is_server(pid: int, target: Path) -> bool:
    """Say whether a process lives and may be a server of this folder: its number may belong to another one by now."""
    if pid in (0, os.getpid(), os.getppid()):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it lives, and is somebody else's
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", target)
    except OSError:
        return os.path.exists(f"/proc/{pid}")  # it may be: nobody but its user can see where it works


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_LISTEN_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _process_in(target: Path) -> int | None:
    """Return a process of a server that works in the folder: one whose pid file was removed is found by this."""
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        with suppress(OSError):
            if os.path.samefile(f"/proc/{name}/cwd", target):
                command = Path(f"/proc/{name}/comm").read_text(encoding="utf-8", errors="replace").strip()
                if command.startswith(("postgres", "postmaster")):
                    return int(name)
    return None


def _server_with(folder: Path) -> int | None:
    """Return a process whose data folder has a tablespace here; a server works in its data folder."""
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if not name.isdecimal():
            continue
        with suppress(OSError):
            links = f"/proc/{name}/cwd/pg_tblspc"
            for link in os.listdir(links):
                if link.isdecimal() and os.path.samefile(os.path.join(links, link), folder):
                    return int(name)
    return None


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RestoreTargetError(f"target {folder}: cannot be read ({reason})") from None


# ---------------------------------------------------------------------------------------------------- which cluster


def _require_same(target: Path, system_id: int) -> None:
    found = system_id_of(target)
    if found is None:
        raise RestoreTargetError(
            f"target {target}: holds no cluster that can be known (it has no {_CONTROL})",
            hint="A delta is written over a cluster that is there. Give an empty or new folder, without --delta.",
        )
    if found != system_id:
        raise RestoreTargetError(
            f"target {target}: holds cluster {found}, the snapshot is of cluster {system_id}",
            hint="Is it the right folder? Give the one of this cluster, or an empty one without --delta.",
            found=found,
            expected=system_id,
        )


def system_id_of(target: Path) -> int | None:
    """Return which cluster a folder holds: by its pg_control, or by the mark of a restore that has not ended."""
    with suppress(OSError):
        content = (target / _CONTROL).read_bytes()
        if len(content) >= _SYSTEM_ID.size:
            return int(_SYSTEM_ID.unpack_from(content)[0])
    with suppress(OSError):
        text = os.getxattr(target, _MARK).decode("ascii", "replace")
        return int(text) if text.isdecimal() else None
    return None


def mark(target: Path, system_id: int) -> None:
    """Say that a restore of a cluster into a folder has begun, so that a delta may end it; where the disk can say so.

    As an attribute of the folder: a file would be in the way of the restore.
    """
    with suppress(OSError):
        os.setxattr(target, _MARK, str(system_id).encode())


def unmark(target: Path) -> None:
    """Take the mark away. Idempotent."""
    with suppress(OSError):
        os.removexattr(target, _MARK)
