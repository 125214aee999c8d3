"""What a server is told of the log that it sent: never more than is saved, and all of it where it waits for that.

psycopg2 answers the server's signs of life by itself. Once it was told of a position at or behind the beginning of the
newest message, it takes all that the server had sent by its next sign of life for saved, also what it has only just
handed over (psycopg2 2.9, pqpath.c, `pq_read_replication_message`). So it is told of one byte less.

A server that is to be stopped ends a connection only when it was told of all that it sent, and asks for that again and
again (PostgreSQL, walsender.c, `WalSndDone`). psycopg2 answers, which shows as answers close together. Then it is told
of all, as soon as all is saved; should another message come, no sign of life may be read behind it any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from psycopg2.extras import ReplicationCursor

from coffer.postgres.lsn import Lsn

STATUS_INTERVAL_S = 10  # a fraction of wal_sender_timeout, which is 60 s unless changed
_AGAIN_S = 0.2  # a server that is not about to stop asks less often, unless wal_sender_timeout is below half a second


class WalFeedback:
    """The feedback of one stream; does nothing where nobody says what is saved."""

    def __init__(
        self,
        cursor: ReplicationCursor,
        start: Lsn,
        durable: Callable[[], Lsn | None] | None,
        asked: threading.Event | None,
    ) -> None:
        """Begin.

        Args:
            cursor: Of the stream.
            start: Where it begins; everything before it is saved, or not wanted.
            durable: Tells up to where the log is saved; None where nothing new is.
            asked: Is set when the server waits until all that it sent is saved.
        """
        self._cursor, self._start, self._durable, self._asked = cursor, start, durable, asked
        self._newest = 0  # where the newest message begins; 0 before the first
        self._told = 0
        self._told_all = False
        self._answered: datetime | None = None

    def tell(self) -> None:
        """Let the server move the slot to what is saved, at the next answer that is due."""
        durable = None if self._durable is None else self._durable()
        if durable is None or self._told_all:
            return
        safe = min(durable, self._newest - 1)
        if safe > self._told:
            self._send(safe)
            self._told = safe

    def answer(self, at: Lsn) -> bool:
        """Say whether the server waits until all that it sent is saved; if it is, tell it so at once.

        Args:
            at: The end of what it sent.
        """
        if self._durable is None or not self._is_asked():
            return False
        if self._asked is not None:
            self._asked.set()
        if not self._told_all and max(self._durable() or 0, self._start) >= at:
            self._send(at, at_once=True)
            self._told_all = True
        return True

    def goes_on(self, message: int) -> bool:
        """Take note of a message's beginning; say whether the stream may be read on."""
        self._newest = message
        return not self._told_all

    def _send(self, saved: int, *, at_once: bool = False) -> None:
        cursor: Any = self._cursor  # its stub gives this method no types
        cursor.send_feedback(flush_lsn=int(saved), force=at_once)

    def _is_asked(self) -> bool:
        before, self._answered = self._answered, self._cursor.feedback_timestamp
        if before is None or self._answered is None or before == self._answered:
            return False
        return (self._answered - before).total_seconds() < _AGAIN_S
