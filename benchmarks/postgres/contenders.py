"""The tools that are compared, each behind the same few commands, over one server and one fresh repository.

As in ``benchmarks.peers``, a method returns commands and runs nothing, so what is timed is what the report shows.
Whoever speaks to the server over its protocol does so by TCP on loopback, as the role `backup`, with its password from
the environment. pgBackRest reads the data folder itself, as it is made to, and runs as the server's user; so does
Barman, which refuses root.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measure import Command
from benchmarks.peers import PASSWORD as REPOSITORY_PASSWORD
from benchmarks.peers import Coffer
from benchmarks.postgres.cluster import own
from benchmarks.postgres.programs import BARMAN, PGBACKREST, RSYNC
from coffer.postgres.restore_command import restore_command
from tests.harness.postgres import PASSWORD, Server, command_as, unprivileged

NAME = "bench"  # of the source, the stanza, the server
_PGPASSWORD = ("PGPASSWORD", PASSWORD)


class Contender:
    """One tool over one server; what it has in common with the others.

    Attributes:
        name: as in the results.
        home: the folder of all that it keeps.
        server: what it backs up.
    """

    name = ""

    def __init__(self, server: Server, home: Path) -> None:
        """Bind to the server and to `home`, which is made; nothing is run."""
        self.server = server
        self.home = own(home)

    def repository(self) -> Path:
        """Return the folder whose size is the stored size."""
        return self.home / "repo"

    def wal_folder(self) -> Path | None:
        """Return the folder within the repository that holds the archived WAL, where it is kept apart."""
        return None

    def init(self) -> list[Command]:
        """Return the commands that make the repository; untimed."""
        return []

    def full(self) -> Command:
        """Return the command of a full backup."""
        raise NotImplementedError

    def incremental(self) -> Command:
        """Return the command of a backup that goes on from the last one."""
        raise NotImplementedError

    def after_backup(self) -> list[Command]:
        """Return what the tool does by itself later on, as from its own cron job; untimed."""
        return []

    def restore(self, target: Path) -> Command:
        """Return the command that restores the last backup into the empty folder `target`, up to its own end."""
        raise NotImplementedError

    def archive_lines(self) -> list[str]:
        """Return the lines of shell by which the server archives a segment ($1 path, $2 name) for this tool."""
        return []

    def fetch_line(self) -> str:
        """Return the tool's `restore_command`, with %f and %p, and with its means to fetch ahead switched on."""
        raise NotImplementedError

    def fetch(self, segments: list[str], folder: Path) -> Command:
        """Return what a recovering server would run: the `restore_command` for one segment after another.

        Writes the script beside the repository. Each segment gets a shell of its own, as from the server.
        """
        script = self.home / "fetch.sh"
        lines = [filled_in(self.fetch_line(), name, str(folder / name)) for name in segments]
        script.write_text("".join(f"sh -c {shlex.quote(line)} || exit 1\n" for line in lines))
        return Command(("bash", str(script)), self._fetch_environment(), cwd=folder)

    def _fetch_environment(self) -> tuple[tuple[str, str], ...]:
        return (("HOME", str(self.home)),)

    def figures(self, output: str) -> dict[str, float]:  # noqa: ARG002 - a tool that says nothing of itself
        """Return what the tool says of its last run, where no one else can know it."""
        return {}

    def _as_server_user(self, *argv: str | Path, env: tuple[tuple[str, str], ...] = ()) -> Command:
        # The home of whoever started this is closed to the server's user, and libpq looks into it.
        return Command(tuple(command_as(unprivileged(), *argv)), (("HOME", str(self.home)), *env))

    def _pg_basebackup(self, *arguments: str | Path) -> tuple[str, ...]:
        address = ("-h", "127.0.0.1", "-p", str(self.server.port), "-U", "backup", "-w", "-c", "fast")
        return (str(self.server.installation.programs / "pg_basebackup"), *address, *map(str, arguments))


class CofferDelta(Contender):
    """Coffer with its default settings and a key file; its incremental compares every page."""

    name = "coffer"
    method = "delta"

    def __init__(self, server: Server, home: Path) -> None:
        """Bind to the server and to `home`."""
        super().__init__(server, home)
        self._coffer = Coffer(home)
        self._slot = self.name.replace("-", "_")
        self._asked = ""

    def wal_folder(self) -> Path:
        """Return the folder of the WAL's ranges."""
        return self.repository() / "wal"

    def init(self) -> list[Command]:
        """Return `coffer init`."""
        return [self._coffer.init()]

    def full(self) -> Command:
        """Return `coffer pg backup --method full`."""
        return self._backup("full")

    def incremental(self) -> Command:
        """Return `coffer pg backup` with the method of this contender."""
        return self._backup(self.method)

    def restore(self, target: Path) -> Command:
        """Return `coffer pg restore` to the end of the last backup."""
        return self._coffer.command(
            "pg", "restore", "--source", NAME, "--target-folder", str(target), "--to", "immediate"
        )

    def fetch_line(self) -> str:
        """Return the line that Coffer writes into a restored cluster's settings."""
        options = {"--repo": self.repository(), "--key-file": self.home / "key"}
        program = self._coffer.command().argv[0]
        return restore_command(NAME, spool=self.home / "spool", options=options, program=(program,))

    def _fetch_environment(self) -> tuple[tuple[str, str], ...]:
        return self._coffer.command().env

    def figures(self, output: str) -> dict[str, float]:
        """Return how many bytes the server sent, and whether another method was taken than the one asked for."""
        snapshot = result_of(output)["snapshot"]
        stats, facts = snapshot["stats"], snapshot["facts"]
        return {"read_bytes": float(stats["read_bytes"]), "fell_back": float(facts["method"] != self._asked)}

    def _backup(self, method: str) -> Command:
        self._asked = method
        address = ("--host", "127.0.0.1", "--port", str(self.server.port), "--user", "backup", "--slot", self._slot)
        command = self._coffer.command("pg", "backup", "--source", NAME, *address, "--method", method, "--json")
        return replace(command, env=(*command.env, _PGPASSWORD))


class CofferNative(CofferDelta):
    """Coffer that takes the server's own incremental backup, audited; PostgreSQL 17 and newer."""

    name = "coffer-native"
    method = "native"


class Limit(Contender):
    """`pg_basebackup -Ft | zstd -3 -T2 | openssl enc`: what a full backup costs at the least.

    pg_basebackup cannot stream WAL into a pipe (`-X stream` is refused there), so it fetches it at the end.
    """

    name = "limit"

    def init(self) -> list[Command]:
        """Make the folder and the password's file; nothing to run then."""
        self.repository().mkdir(exist_ok=True)
        (self.home / "password").write_text(REPOSITORY_PASSWORD)
        return []

    def full(self) -> Command:
        """Return the pipeline, written to a file."""
        take = shlex.join(self._pg_basebackup("-Ft", "-X", "fetch", "-D", "-"))
        return _pipeline(f"{take} | zstd -3 -T2 -q | {self._openssl()} > {self._out()}", (_PGPASSWORD,))

    def restore(self, target: Path) -> Command:
        """Return the pipeline backwards."""
        return _pipeline(f"{self._openssl()} -d < {self._out()} | zstd -dc | tar -xf - -C {shlex.quote(str(target))}")

    def _openssl(self) -> str:
        return f"openssl enc -aes-256-ctr -pbkdf2 -pass {shlex.quote(f'file:{self.home}/password')}"

    def _out(self) -> str:
        return shlex.quote(str(self.repository() / "out"))


class PgBackRest(Contender):
    """pgBackRest with zstd level 3, its AES-256-CBC, two processes, bundles and block incremental."""

    name = "pgbackrest"

    def wal_folder(self) -> Path:
        """Return the archive."""
        return self.repository() / "archive"

    def init(self) -> list[Command]:
        """Write the configuration; return `stanza-create`."""
        self._config().write_text(
            "[global]\n"
            f"repo1-path={self.repository()}\n"
            "repo1-cipher-type=aes-256-cbc\n"
            f"repo1-cipher-pass={REPOSITORY_PASSWORD}\n"
            "repo1-bundle=y\nrepo1-block=y\nrepo1-retention-full=9\n"
            "compress-type=zst\ncompress-level=3\nprocess-max=2\nstart-fast=y\n"
            f"log-level-console=warn\nlog-level-file=off\nlock-path={self.home}/lock\nspool-path={self.home}/spool\n"
            # Of the fetching only: it would change when a segment counts as archived.
            "[global:archive-get]\narchive-async=y\n"
            f"[{NAME}]\n"
            f"pg1-path={self.server.data}\npg1-socket-path={self.server.home}\n"
            f"pg1-port={self.server.port}\npg1-user=postgres\n"
        )
        return [self._command("stanza-create")]

    def full(self) -> Command:
        """Return `pgbackrest backup --type=full`."""
        return self._command("backup", "--type=full")

    def incremental(self) -> Command:
        """Return `pgbackrest backup --type=incr`."""
        return self._command("backup", "--type=incr")

    def restore(self, target: Path) -> Command:
        """Return `pgbackrest restore` to the end of the last backup."""
        recovery = ("--type=immediate", "--target-action=promote", "--archive-mode=off")
        return self._command("restore", f"--pg1-path={target}", *recovery)

    def archive_lines(self) -> list[str]:
        """Return `archive-push`."""
        return [f'{shlex.join(self._words("archive-push"))} "$1"']

    def fetch_line(self) -> str:
        """Return `archive-get`."""
        return f"{shlex.join(command_as(unprivileged(), *self._words('archive-get')))} %f %p"

    def _config(self) -> Path:
        return self.home / "pgbackrest.conf"

    def _words(self, verb: str, *options: str) -> tuple[str, ...]:
        return (str(PGBACKREST), f"--config={self._config()}", f"--stanza={NAME}", *options, verb)

    def _command(self, verb: str, *options: str) -> Command:
        return self._as_server_user(*self._words(verb, *options))


class Barman(Contender):
    """Barman with its method `postgres` (pg_basebackup), compressed by zstd where pg_basebackup and the method can.

    It compresses no backup that others are to be incremental to; it encrypts nothing here.
    """

    name = "barman"

    def repository(self) -> Path:
        """Return the folder of the server's backups and WAL."""
        return self.home / NAME

    def wal_folder(self) -> Path:
        """Return the archive."""
        return self.repository() / "wals"

    def init(self) -> list[Command]:
        """Write the configuration, and make the folder that segments arrive in."""
        programs = self.server.installation.programs
        # Only the system's pg_basebackup knows zstd; before 17 there is nothing incremental that it could hinder.
        packed = "backup_compression = zstd\nbackup_compression_level = 3\nbackup_compression_workers = 2\n"
        self._config().write_text(
            f"[barman]\nbarman_user = {unprivileged().pw_name}\nbarman_home = {self.home}\n"
            f"barman_lock_directory = {self.home}\nlog_file = {self.home}/barman.log\nlog_level = INFO\n"
            f"[{NAME}]\ndescription = {NAME}\n"
            f"conninfo = host={self.server.home} port={self.server.port} user=postgres dbname=postgres\n"
            f"streaming_conninfo = host=127.0.0.1 port={self.server.port} user=backup dbname=postgres\n"
            f"backup_method = postgres\narchiver = on\npath_prefix = {programs}\nimmediate_checkpoint = true\n"
            f"incoming_wals_directory = {self._incoming()}\n"
            f"staging_path = {own(self.home / 'staging')}\nstaging_location = local\n"
            f"{'' if self.server.installation.major >= 17 else packed}"
        )
        own(self.repository())
        own(self._incoming())
        return []

    def full(self) -> Command:
        """Return `barman backup`."""
        return self._command("backup", NAME)

    def incremental(self) -> Command:
        """Return `barman backup --incremental last`."""
        return self._command("backup", "--incremental", "last", NAME)

    def after_backup(self) -> list[Command]:
        """Return `barman archive-wal`, which takes in the segments that arrived."""
        return [self._command("archive-wal", NAME)]

    def restore(self, target: Path) -> Command:
        """Return `barman restore` to the end of the last backup."""
        recovery = ("--target-immediate", "--target-action", "promote")
        return self._command("restore", *recovery, NAME, "last", str(target))

    def archive_lines(self) -> list[str]:
        """Return the copy that Barman's documentation gives for a server on the same machine."""
        place = shlex.quote(str(self._incoming()))
        return [f'cp "$1" {place}/"$2.part"', f'mv {place}/"$2.part" {place}/"$2"']

    def _config(self) -> Path:
        return self.home / "barman.conf"

    def _incoming(self) -> Path:
        return self.home / "incoming"

    def _command(self, *arguments: str) -> Command:
        path = ("PATH", f"{RSYNC.parent}:{os.environ['PATH']}")
        return self._as_server_user(BARMAN, "-q", "-c", self._config(), *arguments, env=(_PGPASSWORD, path))


class Combine(Contender):
    """pg_basebackup's own chain, as folders: `--incremental`, and pg_combinebackup to restore; 17 and newer.

    Neither compressed nor encrypted: this is a measure of time, not of size.
    """

    name = "pg_combinebackup"

    def __init__(self, server: Server, home: Path) -> None:
        """Bind to the server and to `home`; the chain is empty."""
        super().__init__(server, home)
        self._chain: list[Path] = []
        own(self.repository())

    def full(self) -> Command:
        """Return `pg_basebackup` into a folder."""
        return self._take()

    def incremental(self) -> Command:
        """Return `pg_basebackup --incremental` with the manifest of the last one."""
        return self._take(f"--incremental={self._chain[-1]}/backup_manifest")

    def restore(self, target: Path) -> Command:
        """Return `pg_combinebackup` of the chain."""
        program = self.server.installation.programs / "pg_combinebackup"
        return self._as_server_user(program, *self._chain, "-o", target)

    def _take(self, *options: str) -> Command:
        folder = self.repository() / str(len(self._chain))
        self._chain.append(folder)
        words = self._pg_basebackup("-Fp", "-X", "stream", *options, "-D", folder)
        return self._as_server_user(*words, env=(_PGPASSWORD,))


CONTENDERS: dict[str, type[Contender]] = {
    kind.name: kind for kind in (CofferDelta, CofferNative, Limit, PgBackRest, Barman, Combine)
}


def filled_in(line: str, name: str, path: str) -> str:
    """Return a `restore_command` as the server hands it to a shell: %f, %p and %% replaced."""
    values = {"%f": name, "%p": path, "%%": "%"}
    return re.sub("%[fp%]", lambda found: values[found.group()], line)


def result_of(output: str) -> dict[str, Any]:
    """Return the result in Coffer's JSON envelope; warnings may stand before it, for both streams are one here.

    Raises:
        ValueError: there is no envelope.
    """
    envelope, _ = json.JSONDecoder().raw_decode(output, output.index('{"schema"'))
    result: dict[str, Any] = envelope["result"]
    return result


def _pipeline(script: str, env: tuple[tuple[str, str], ...] = ()) -> Command:
    """Return a pipeline that fails when any of its programs does."""
    return Command(("bash", "-o", "pipefail", "-c", script), env)
