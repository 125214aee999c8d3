"""Row count and digest of one table, computed by the server; the order of its rows does not count.

Each row's text is hashed twice, with two seeds, and the hashes are added up: a sum and not an exclusive or, so that
rows that are there twice count. Rows become text in ways that settings change, so those are set; the server's own
output function is called and no cast, for a cast could be somebody's own function that would run with our rights.
"""

from __future__ import annotations

from typing import NamedTuple

from psycopg2 import sql
from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - as above

from coffer.postgres.proof import WHOLE

_MODULUS = 1 << 64
# What the text of a row depends on, and what keeps a reading gentle. Alike for the source and for the copy.
CONDITIONS = {
    "search_path": "pg_catalog",  # names of types and functions as values are qualified by it
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",  # the shortest text that is the same number again
    "bytea_output": "hex",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "row_security": "off",  # an error instead of fewer rows
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


class TableDigest(NamedTuple):
    """What was read of a table: how many rows, and their digest [32 hex digits]."""

    rows: int
    digest: str


def set_conditions(connection: SqlConnection) -> None:
    """Make the texts of rows on this connection those that digests are made of."""
    with connection.cursor() as cursor:
        for name, value in CONDITIONS.items():
            cursor.execute("SELECT set_config(%s, %s, false)", [name, value])


def digest_table(cursor: Cursor, schema: str, name: str, seed: int, percent: str = WHOLE) -> TableDigest:
    """Read a table, and nothing that inherits from it.

    Args:
        cursor: Of a connection with the conditions.
        schema: Of the table, unquoted.
        name: Of the table, unquoted.
        seed: Of the hashes, and of the choice of pages.
        percent: How much of its pages is read, chosen by their numbers: in a copy with the same pages the same ones.

    Raises:
        psycopg2.Error: As the server says.
    """
    sample: sql.Composable = sql.SQL("")
    if percent != WHOLE:
        sample = sql.SQL("TABLESAMPLE SYSTEM ({}) REPEATABLE ({})").format(
            sql.Literal(float(percent)), sql.Literal(seed)
        )
    # OFFSET 0 keeps the planner from computing the text once for each hash.
    query = sql.SQL(
        'SELECT count(*), coalesce(sum(hashtextextended(r COLLATE "C", {first})), 0)::text,'
        ' coalesce(sum(hashtextextended(r COLLATE "C", {second})), 0)::text'
        " FROM (SELECT textin(record_out(t.*)) AS r FROM ONLY {table} AS t {sample} OFFSET 0) AS q"
    ).format(first=sql.Literal(seed), second=sql.Literal(seed + 1), table=sql.Identifier(schema, name), sample=sample)
    cursor.execute(query)
    rows, first, second = cursor.fetchone() or (0, "0", "0")
    return TableDigest(int(rows), f"{int(first) % _MODULUS:016x}{int(second) % _MODULUS:016x}")
