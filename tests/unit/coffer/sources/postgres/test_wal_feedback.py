"""What a server is told: never more than is saved, whatever psycopg2 makes of it; and all of it where it waits."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from coffer.postgres.lsn import Lsn
from coffer.sources.postgres.wal_feedback import WalFeedback


class Cursor:
    """A cursor that forwards as psycopg2 does, and answers when it is told to."""

    def __init__(self):
        self.feedback_timestamp = None
        self.explicit = self.flushed = self.newest = 0
        self.forced = []
        self._now = datetime(2026, 11, 1, tzinfo=UTC)

    def send_feedback(self, *, flush_lsn, force=False):
        self.explicit, self.flushed = max(self.explicit, flush_lsn), max(self.flushed, flush_lsn)
        if force:
            self.forced.append(flush_lsn)
            self.answer(0)

    def answer(self, after_s):
        """An answer goes out, so long after the one before."""
        self._now += timedelta(seconds=after_s)
        self.feedback_timestamp = self._now

    def sign_of_life(self, sent):
        """What psycopg2 does with a keepalive that tells how much the server has sent."""
        if self.explicit >= self.newest and sent > self.flushed:
            self.flushed = sent


class Stream:
    """A stream whose messages are 10 bytes each."""

    def __init__(self, start=100):
        self.saved = None
        self.cursor, self.asked = Cursor(), threading.Event()
        self.at = Lsn(start)
        self.feedback = WalFeedback(self.cursor, self.at, lambda: self.saved, self.asked)

    def message(self):
        """Read one; say whether the stream goes on."""
        self.cursor.newest = begin = int(self.at)
        self.at = self.at.after(10)
        return self.feedback.goes_on(begin)

    def save(self, up_to):
        """Make it durable up to a position, and tell."""
        self.saved = Lsn(up_to)
        self.feedback.tell()


@pytest.mark.parametrize("saved", [105, 110, 119, 120, 125])
def test_a_sign_of_life_never_acknowledges_what_is_not_saved(saved):
    """Whatever is saved when it comes, also exactly all of it: the next message is not taken for saved as well."""
    stream = Stream()
    stream.message()
    stream.message()
    stream.save(min(saved, stream.at))
    stream.cursor.sign_of_life(stream.at)
    stream.message()
    stream.cursor.sign_of_life(stream.at)
    assert stream.cursor.flushed <= stream.saved


def test_the_server_is_told_when_more_is_saved():
    """One byte less than the newest message's beginning at the most."""
    stream = Stream()
    stream.feedback.tell()
    stream.message()
    stream.save(110)
    assert 99 == stream.cursor.flushed
    stream.message()
    stream.feedback.tell()
    assert 109 == stream.cursor.flushed
    stream.message()
    stream.feedback.tell()
    assert 110 == stream.cursor.flushed


@pytest.mark.parametrize(("after_s", "expected"), [(10, False), (1, False), (0.01, True)])
def test_answers_close_together_are_asked_for(after_s, expected):
    """A server that is to be stopped asks again and again; otherwise one answer comes every ten seconds."""
    stream = Stream()
    stream.cursor.answer(0)
    assert not stream.feedback.answer(stream.at)
    stream.cursor.answer(after_s)
    assert expected == stream.feedback.answer(stream.at)
    assert expected == stream.asked.is_set()
    assert not stream.feedback.answer(stream.at) or expected


def ask(stream):
    """The server asks twice in a row."""
    for _ in range(2):
        stream.cursor.answer(0.001)
        stream.feedback.answer(stream.at)


def test_a_server_that_waits_is_told_of_all_when_all_is_saved():
    """Not before; and what comes behind it is the last message of the connection."""
    stream = Stream()
    assert stream.message()
    ask(stream)
    assert [] == stream.cursor.forced
    stream.saved = stream.at
    ask(stream)
    assert [110] == stream.cursor.forced
    ask(stream)
    assert [110] == stream.cursor.forced
    assert not stream.message()


def test_a_server_that_sent_nothing_is_told_of_the_beginning():
    """Everything before it is saved already."""
    stream = Stream()
    ask(stream)
    assert [100] == stream.cursor.forced


def test_without_anyone_who_saves_nothing_is_told():
    """As for a reader that looks at a moment's WAL."""
    cursor = Cursor()
    feedback = WalFeedback(cursor, Lsn(100), None, None)
    for _ in range(3):
        cursor.answer(0.001)
        assert not feedback.answer(Lsn(100))
        feedback.tell()
    assert feedback.goes_on(100)
    assert (0, []) == (cursor.flushed, cursor.forced)
