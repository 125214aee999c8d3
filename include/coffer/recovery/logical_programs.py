"""pg_restore and psql on the way back: the schema from its archive, large objects, roles."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from coffer.errors import CofferError, InterruptedRunError
from coffer.errors_postgres import PostgresError
from coffer.postgres.archive_list import ArchiveEntry, parse_list
from coffer.postgres.children import Child, conninfo, environment, in_memory, started
from coffer.postgres.programs import Programs
from coffer.recovery.logical_archive import ContentStream
from coffer.recovery.logical_target import Target
from coffer.sources.postgres.connection import PostgresConnection
from coffer.sources.postgres.program_failures import program_failure

_TICK_S = 0.2  # between two looks at `stop` while a program works [s]
_PIECE_BYTES = 1 << 20
# "psql:<stdin>:14: ERROR:  42710: role "postgres" already exists"
_SQL_ERROR = re.compile(r"(?:psql:<stdin>:\d+: )?ERROR: +([0-9A-Z]{5}): (.*)")
_DUPLICATE_OBJECT = "42710"
_ROLE_LINES = 100_000  # three for each role that is there already
PRE_DATA, DATA, POST_DATA = "pre-data", "data", "post-data"


class Client:
    """Runs the programs against one target.

    Attributes:
        flags: Options of pg_restore that hold for the whole load, such as --no-owner.
    """

    def __init__(
        self, programs: Programs, label: str, flags: Sequence[str] = (), stop: threading.Event | None = None
    ) -> None:
        self._programs, self._label, self._stop = programs, label, stop
        self.flags = tuple(flags)

    def restore_section(
        self,
        archive: bytes,
        section: str,
        target: Target,
        *,
        numbers: Sequence[int] | None = None,
        jobs: int = 1,
        create: bool = False,
    ) -> None:
        """Carry out a section of a schema archive.

        Args:
            archive: The archive.
            section: PRE_DATA or POST_DATA.
            target: Where.
            numbers: Only the entries of these numbers; None for all.
            jobs: Statements at a time, where they do not need each other.
            create: Make the database first, under the name that it had, with all its properties.

        Raises:
            PostgresError, PostgresUnavailableError: A statement failed, and the message has it; those before it stay.
            InterruptedRunError: The load was stopped.
        """
        parameters = target.server.parameters() if create else target.parameters()
        command = [f"--section={section}", "--exit-on-error", "--no-password", f"--dbname={conninfo(parameters)}"]
        command += ["--create"] if create else []
        command += [f"--jobs={jobs}"] if jobs > 1 else []
        with _memory(archive) as fd, ExitStack() as more:
            descriptors = [fd]
            if numbers is not None:
                chosen = more.enter_context(_memory("".join(f"{number};\n" for number in numbers).encode()))
                descriptors.append(chosen)
                command.append(f"--use-list=/dev/fd/{chosen}")
            words: list[str | Path] = [self._programs.path("pg_restore"), *self.flags, *command, f"/dev/fd/{fd}"]
            what = f"the {section} section of database {target.name!r}"
            self._run(words, environment(parameters), what, pass_fds=descriptors)

    def restore_large_objects(self, content: ContentStream, target: Target) -> None:
        """Write the content of large objects that the schema made.

        Raises:
            CofferError: As `restore_section`; or what is stored cannot be read.
        """
        parameters = target.parameters()
        command: list[str | Path] = [self._programs.path("pg_restore"), "--exit-on-error", "--no-password"]
        command.append(f"--dbname={conninfo(parameters)}")
        with started(command, environment(parameters), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
            _feed(child, content)
            self._wait(child, f"large objects of database {target.name!r}")

    def restore_roles(self, script: ContentStream, server: PostgresConnection) -> list[str]:
        """Make the roles and tablespaces of a backup, with their memberships and settings.

        Those that are there already get the properties that the backup has.

        Returns:
            What was there already, for people.

        Raises:
            PostgresError: Something else failed; the statements before and after it were carried out.
        """
        parameters = server.parameters()
        command: list[str | Path] = [
            self._programs.path("psql"), "-Xq", "-v", "VERBOSITY=verbose", "--no-password",
            f"--dbname={conninfo(parameters)}",
        ]  # fmt: skip
        given = environment(parameters, PGCLIENTENCODING="UTF8")
        with started(command, given, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, lines_kept=_ROLE_LINES) as child:
            _feed(child, script)
            self._wait(child, "roles and tablespaces")
            found = [match for line in child.lines if (match := _SQL_ERROR.match(line))]
        failed = [match[2] for match in found if match[1] != _DUPLICATE_OBJECT]
        if failed:
            raise PostgresError(
                f"postgres {self._label}: {len(failed)} statements of roles and tablespaces failed, the first:"
                f" {failed[0]}",
                hint="A tablespace needs its folder on the new server. Make what is missing, or load without --roles.",
                failures=failed,
            )
        return [match[2] for match in found]

    def list_entries(self, archive: bytes) -> list[ArchiveEntry]:
        """Return the entries of a schema archive.

        Raises:
            PostgresError: pg_restore cannot read it.
        """
        return parse_list(b"".join(self.script(archive, ("--list", "--verbose"))).decode("utf-8", "replace"))

    def script(
        self, archive: bytes | ContentStream, options: Sequence[str], numbers: Sequence[int] | None = None
    ) -> Iterator[bytes]:
        """Yield what pg_restore writes of an archive: SQL, or a list.

        Args:
            archive: In memory, or as a stream.
            options: What to write, and how.
            numbers: Only the entries of these numbers; None for all.

        Raises:
            PostgresError: pg_restore cannot read it.
        """
        with ExitStack() as stack:
            words: list[str | Path] = [self._programs.path("pg_restore"), *self.flags, *options]
            if numbers is not None:
                fd = stack.enter_context(_memory("".join(f"{number};\n" for number in numbers).encode()))
                words.append(f"--use-list=/dev/fd/{fd}")
                descriptors = [fd]
            else:
                descriptors = []
            content = archive if isinstance(archive, ContentStream) else None
            stdin = subprocess.PIPE if isinstance(archive, ContentStream) else stack.enter_context(_memory(archive))
            child = stack.enter_context(started(words, environment({}), stdin=stdin, pass_fds=descriptors))
            feeder = _Feeder(child, content) if content is not None else None
            assert child.stdout is not None  # a pipe by default
            with closing(child.stdout):
                while data := os.read(child.stdout.fileno(), _PIECE_BYTES):
                    yield data
            if feeder is not None:
                feeder.join()
            self._wait(child, "the archive")

    def _run(self, words: Sequence[str | Path], given: dict[str, str], what: str, *, pass_fds: Sequence[int]) -> None:
        with started(words, given, stdout=subprocess.DEVNULL, pass_fds=pass_fds) as child:
            self._wait(child, what)

    def _wait(self, child: Child, what: str) -> None:
        while (code := child.wait_for(_TICK_S)) is None:
            if self._stop is not None and self._stop.is_set():
                raise InterruptedRunError(
                    f"load: stopped by request, during {what}",
                    hint="What was loaded so far stays in the database: drop it or clear it.",
                )
        if code:
            raise program_failure(child.name, code, child.lines, self._label, what)


class _Feeder:
    """A thread that writes a stream to a program whose output is read meanwhile."""

    def __init__(self, child: Child, content: ContentStream) -> None:
        self._failure: CofferError | None = None

        def work() -> None:
            try:
                _feed(child, content)
            except CofferError as error:
                self._failure = error

        self._thread = threading.Thread(target=work, name="coffer-feed", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until all is written.

        Raises:
            CofferError: What is stored cannot be read.
        """
        self._thread.join()
        if self._failure is not None:
            raise self._failure


def _feed(child: Child, content: ContentStream) -> None:
    """Write a stream to a program, and close its input. A program that ends early is told by its exit code."""
    assert child.stdin is not None  # a pipe, see the callers
    with suppress(BrokenPipeError), closing(child.stdin):
        while data := content.read(_PIECE_BYTES):
            child.stdin.write(data)


@contextmanager
def _memory(data: bytes) -> Iterator[int]:
    fd = in_memory(data)
    try:
        yield fd
    finally:
        os.close(fd)
