"""Counters that a long run keeps and a front end polls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """What a run has done so far. One thread writes, any may read; a torn read shows a figure a moment old.

    Attributes:
        phase: What is being done, in a word or two.
        files_done: Entries finished: files, links and folders; a restore counts no folders.
        bytes_done: The content of the files, read or found unchanged [bytes].
        bytes_stored: What was added to the store, or written to the target [bytes].
        files_total, bytes_total: How many regular files, and how much, there will be, where it is known (from the run
            before), else 0.
        current: The path at hand, for people.
    """

    phase: str = ""
    files_done: int = 0
    bytes_done: int = 0
    bytes_stored: int = 0
    files_total: int = 0
    bytes_total: int = 0
    current: bytes = b""
