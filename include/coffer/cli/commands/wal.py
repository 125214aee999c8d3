"""`coffer wal`: the write-ahead log of PostgreSQL servers, into the repository and out of it.

What a server runs for each segment (`push`, `fetch`) must start fast, so nothing that speaks to a server is loaded
here.
"""

from __future__ import annotations

import click

from coffer.cli.wal_files import fetch_file, push_file
from coffer.cli.wal_listing import list_wal
from coffer.cli.wal_receiving import receive_wal, show_status

COMMAND = click.Group(
    "wal",
    commands=[receive_wal, push_file, fetch_file, list_wal, show_status],
    help="Save PostgreSQL's write-ahead log, and bring it back.",
)
