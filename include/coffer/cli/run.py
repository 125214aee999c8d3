"""One run of a command: what it may write where, what it was warned of, and what must be closed at its end."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from coffer.cli.text import count_of, escape, path_fields, path_text

if TYPE_CHECKING:
    from coffer.backends.metering import MeteringBackend
    from coffer.config.policy import Policy
    from coffer.repository.repository import Repository

_WARNINGS_SHOWN = 10  # more are in --json and --verbose
_WARNINGS_KEPT = 1000  # a tree of unreadable files must not fill the memory; the count goes on


class Run:
    """One run.

    Attributes:
        command: The command's name, such as ``keys show``.
        as_json: One envelope on standard output instead of lines.
        quiet: Nothing on standard error but warnings and errors.
        verbose: More facts, every warning, and the traceback of an error that should not happen.
        where: The options that say which repository is meant and what opens it.
        stop: Set by the first Ctrl-C or SIGTERM; handed to what can stop at a checkpoint.
        stops_softly: Whether the work at hand watches `stop`; where it does not, a signal ends it at once.
        warnings: The first of them, as in the envelope.
        warnings_count: All of them.
        meter: Counts the store's calls, where a repository was opened.
        io_limit_bytes_per_s: Limit of reads and writes of the store, where one was given; else the policy's counts.
        policy: The policy, once something of it was asked for.
        closing: What is closed when the run ends.
        fails_with: The exit code of every failure, for a command whose caller tells failures by it; else None.
    """

    def __init__(self, command: str, *, as_json: bool, quiet: bool, verbose: bool, where: dict[str, Any]) -> None:
        self.command = command
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self.where = where
        self.stop = threading.Event()
        self.stops_softly = False
        self.warnings: list[dict[str, Any]] = []
        self.warnings_count = 0
        self.meter: MeteringBackend | None = None
        self.io_limit_bytes_per_s: int | None = None
        self.policy: Policy | None = None
        self.closing = ExitStack()
        self.fails_with: int | None = None

    def note(self, text: str) -> None:
        """Write a line for people that is no result: to standard error, not where --quiet."""
        if not self.quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def warn(self, code: str, message: str, path: bytes | None = None) -> None:
        """Take in a warning: something was not done as asked, the rest was."""
        self.warnings_count += 1
        fields: dict[str, Any] = {"code": code, "message": escape(message)}
        if path is not None:
            fields |= path_fields(path)
        if len(self.warnings) < _WARNINGS_KEPT:
            self.warnings.append(fields)
        if self.verbose or self.warnings_count <= _WARNINGS_SHOWN:
            place = f"/{path_text(path)}: " if path is not None else ""
            sys.stderr.write(f"coffer: warning: {place}{escape(message)}\n")

    def count_warnings(self, total: int) -> None:
        """Say how many warnings there were in all, where the engine kept only the first of them."""
        self.warnings_count = max(self.warnings_count, total)

    def close_warnings(self) -> None:
        """Say how many warnings were not shown, at the end."""
        hidden = self.warnings_count - _WARNINGS_SHOWN
        if hidden > 0 and not self.verbose:
            sys.stderr.write(
                f"coffer: warning: and {count_of(hidden, 'more warning')}; --verbose shows the first 1000\n"
            )

    def repository(self) -> Repository:
        """Open the repository that the options, the environment or the policy name; closed when the run ends."""
        from coffer.cli.opening import open_repository

        repository = open_repository(self)
        self.closing.callback(repository.close)
        return repository

    def load_policy(self) -> Policy:
        """Read the policy, once (it takes a quarter of a second: only what needs it asks for it).

        Raises:
            PolicyInvalidError: It is missing or has mistakes.
        """
        if self.policy is None:
            from coffer.config.loading import load_policy

            self.policy = load_policy()
        return self.policy

    def store_counts(self) -> dict[str, int] | None:
        """Return what passed to and from the store so far, or None where none was opened."""
        meter = self.meter
        if meter is None:
            return None
        return {
            "gets": meter.total("get"),
            "get_bytes": meter.total("get", "bytes"),
            "puts": meter.total("put"),
            "put_bytes": meter.total("put", "bytes"),
            "lists": meter.total("list"),
            "stats": meter.total("stat"),
            "deletes": meter.total("delete"),
        }
