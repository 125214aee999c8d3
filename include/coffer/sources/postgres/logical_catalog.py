"""One moment of a database, held still for a logical backup: locks, an exported snapshot, and the lists of what it has.

The tables are locked (ACCESS SHARE) before the snapshot is taken: a table that is truncated between the two would be
read as empty. So the lists are made twice, and the locks taken anew where a table came in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from psycopg2.extensions import connection as SqlConnection  # noqa: N812 - psycopg2 names its class in lower case

from coffer.errors import SourceFormatError
from coffer.errors_postgres import PostgresError, PostgresUnavailableError
from coffer.postgres.logical_record import DatabaseRecord, PartitionedRecord, SequenceRecord, TableRecord
from coffer.postgres.names import quoted_name
from coffer.sources.postgres import logical_sql as sql
from coffer.sources.postgres.connection import PostgresConnection, connect_sql
from coffer.sources.postgres.failures import server_errors
from coffer.sources.postgres.logical_choice import Choice

_ATTEMPTS = 5  # of locking all tables that the snapshot has
_AT_ONCE = 200  # tables or sequences named in one statement
_UNDEFINED_TABLE = "42P01"
_LOCK_TIMEOUT = "55P03"
_NOT_UTF8 = ("22021", "22P05")  # bytes that are no character, or one that UTF-8 does not have
# Of pg_database, what making the database anew needs: names differ between versions.
_PROPERTIES = ("datcollate", "datctype", "datlocprovider", "daticulocale", "datlocale", "daticurules", "datconnlimit")
_NAMED = 3  # tables that an error names
_READ_HINT = "Run as a superuser of the server: GRANT pg_read_all_data TO <role>. It lets the role read every table."
_LOCK_HINT = "Somebody changes or drops tables: run the backup again when that is done, or leave them out."
_POLICY_HINT = "Give the role BYPASSRLS, or leave the table out with --exclude-table-data."


class Listed(NamedTuple):
    """A table with data, or a partitioned one, as the catalogs have it. See `logical_sql.TABLES` for the order."""

    oid: int
    schema: str
    name: str
    kind: str
    is_unlogged: bool
    columns: list[str]
    above: list[int]
    extension: str | None
    condition: str | None
    may_read: bool
    has_policies: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """What a held snapshot has.

    Attributes:
        record: The database; rows and sizes of the tables' files are not known yet.
        snapshot: The exported snapshot's name, for other connections.
        sizes: What each table takes on the server's disk, by oid [bytes].
        defined: Oids of the tables whose definition pg_dump must have, partitioned ones too.
        taken, left_out: (schema, name) of the tables that are in it, and of those that were left out by name.
        skipped: Why something is not in the record, for people.
    """

    record: DatabaseRecord
    snapshot: str
    sizes: Mapping[int, int]
    defined: frozenset[int]
    taken: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str], ...]
    skipped: tuple[str, ...]


class HeldDatabase:
    """A connection that holds one moment of a database until it is closed."""

    def __init__(self, target: PostgresConnection, choice: Choice, lock_wait_s: int) -> None:
        """Connect.

        Raises:
            PostgresError, PostgresUnavailableError: The server refuses, or does not answer.
        """
        self._target, self._choice = target, choice
        self._connection: SqlConnection = connect_sql(target)
        self._names: dict[int, tuple[str, str]] = {}  # of all tables there are, by oid
        self.version: int = self._connection.server_version
        try:
            # For names, whatever the database has; of SQL_ASCII nobody converts anything. Rows do not come this way.
            self._connection.set_client_encoding("UTF8")
            self._run(sql.session(self.version, lock_wait_s))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the moment and the locks go. Idempotent."""
        self._connection.close()

    def hold(self) -> Moment:
        """Lock the tables that are wanted, take the snapshot, and list what it has.

        Raises:
            PostgresError: A table may not be read; nothing was read of any.
            PostgresUnavailableError: A table stayed locked by somebody else, or tables come and go too fast.
        """
        wanted = self._wanted()
        self._refuse_unreadable(wanted)
        for _ in range(_ATTEMPTS):
            self._run(sql.BEGIN)
            if self._lock(wanted):
                name, lsn = self._rows(sql.SNAPSHOT)[0]
                there = self._wanted()
                if {table.oid for table in there} <= {table.oid for table in wanted}:
                    self._refuse_unreadable(there)
                    return self._describe(there, name, lsn)
            self._run("ROLLBACK")
            wanted = self._wanted()
        raise PostgresUnavailableError(
            f"postgres {self._target.label}: tables of {self._target.dbname!r} are made and dropped faster than they"
            " can be locked",
            hint="Leave those tables out with --exclude-table, or run the backup again at a quieter time.",
        )

    # ----------------------------------------------------------------------------------------------- lists

    def _wanted(self) -> list[Listed]:
        """Return the tables of the choice, partitioned ones too, by oid."""
        listed = [Listed(*row) for row in self._rows(sql.TABLES)]
        names = self._names = {table.oid: (table.schema, table.name) for table in listed}
        return [
            table
            for table in listed
            if self._choice.takes((table.schema, table.name), [names[oid] for oid in table.above if oid in names])
        ]

    def _with_data(self, tables: Iterable[Listed], *, on_standby: bool) -> Iterator[Listed]:
        for table in tables:
            is_wanted = table.kind == "r" and self._choice.takes_data(table.schema, table.name)
            if is_wanted and not (on_standby and table.is_unlogged):
                yield table

    def _refuse_unreadable(self, tables: Iterable[Listed]) -> None:
        tables = list(tables)
        for names, what, hint in (
            ([t for t in tables if not t.may_read], "the role may not read", _READ_HINT),
            ([t for t in tables if t.has_policies], "row-level security hides rows of", _POLICY_HINT),
        ):
            if names:
                shown = ", ".join(quoted_name(table.schema, table.name) for table in names[:_NAMED])
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                raise PostgresError(
                    f"postgres {self._target.label}: {what} {shown}{more} of {self._target.dbname!r}",
                    hint=hint,
                    tables=[f"{table.schema}.{table.name}" for table in names[:_AT_ONCE]],
                )

    def _lock(self, tables: Iterable[Listed]) -> bool:
        """Lock the tables; False where one of them is gone. No statement here takes the transaction's snapshot."""
        names = [quoted_name(table.schema, table.name) for table in tables if table.kind == "r"]
        for first in range(0, len(names), _AT_ONCE):
            some = ", ".join(f"ONLY {name}" for name in names[first : first + _AT_ONCE])
            try:
                self._run(f"LOCK TABLE {some} IN ACCESS SHARE MODE")
            except PostgresError as error:
                if error.details.get("sqlstate") == _UNDEFINED_TABLE:
                    return False
                raise
        return True

    # ----------------------------------------------------------------------------------------------- the record

    def _describe(self, listed: list[Listed], snapshot: str, lsn: str) -> Moment:
        properties, encoding, owner, settings, has_large_objects, on_standby = self._rows(sql.DATABASE)[0]
        objects = self._objects({table.oid for table in listed})
        taken = list(self._with_data(listed, on_standby=on_standby))
        records = self._load_order(self._through_roots([_table(table, objects) for table in taken], listed))
        left_out = [t for t in listed if on_standby and t.is_unlogged and t.kind == "r"]
        skipped = [f"table {quoted_name(t.schema, t.name)}: is unlogged, a standby has no data of it" for t in left_out]
        record = DatabaseRecord(
            name=self._target.dbname,
            version=self.version,
            encoding=encoding,
            properties={"owner": owner, **{key: properties[key] for key in _PROPERTIES if key in properties}},
            settings=tuple(settings or ()),
            lsn=lsn,
            large_objects=bool(has_large_objects) and self._choice.is_everything,
            whole=self._choice.is_everything,
            tables=tuple(records),
            partitioned=tuple(_partitioned(table, objects) for table in listed if table.kind == "p"),
            sequences=tuple(self._sequences({t.oid for t in listed}, on_standby=on_standby)),
        )
        wanted = {table.oid for table in listed}
        return Moment(
            record,
            snapshot,
            sizes=dict(self._rows(sql.SIZES, ([table.oid for table in taken],))),
            defined=frozenset(table.oid for table in listed if table.extension is None),
            taken=tuple((table.schema, table.name) for table in listed),
            left_out=tuple(name for oid, name in self._names.items() if oid not in wanted),
            skipped=tuple(skipped),
        )

    def _objects(self, wanted: set[int]) -> dict[int, list[tuple[int, int]]]:
        found: dict[int, list[tuple[int, int]]] = {}
        for table, catalog, oid in self._rows(sql.OBJECTS):
            if table in wanted:
                found.setdefault(table, []).append((catalog, oid))
        return found

    def _through_roots(self, records: list[TableRecord], listed: list[Listed]) -> list[TableRecord]:
        """Let partitions be loaded through the root where their rows may belong to others on another server."""
        roots = dict(self._rows(sql.UNSAFE_PARENTS))
        if not roots:
            return records
        names = {table.oid: (table.schema, table.name) for table in listed}
        changed = []
        for record in records:
            unsafe = next((roots[oid] for oid in record.above if oid in roots), None)
            changed.append(replace(record, root=names[unsafe]) if unsafe in names else record)
        return changed

    def _load_order(self, records: list[TableRecord]) -> list[TableRecord]:
        """Give ranks to extensions' tables: their foreign keys are there before their data is."""
        pairs = self._rows(sql.CONFIG_REFERENCES) if any(record.extension for record in records) else []
        needs: dict[int, set[int]] = {}
        for table, needed in pairs:
            needs.setdefault(table, set()).add(needed)
        ranks: dict[int, int] = {}

        def rank(oid: int, above: frozenset[int]) -> int:
            if oid not in ranks and oid not in above:  # a ring of references has no order; pg_dump finds none either
                ranks[oid] = 1 + max((rank(other, above | {oid}) for other in needs.get(oid, ())), default=0)
            return ranks.get(oid, 0)

        return [replace(r, rank=rank(r.oid, frozenset())) if r.extension else r for r in records]

    def _sequences(self, tables: set[int], *, on_standby: bool) -> Iterator[SequenceRecord]:
        """Yield the values of the sequences that pg_dump would set."""
        rows = []
        for oid, schema, name, is_unlogged, owner, is_identity, extension, may_read in self._rows(sql.SEQUENCES):
            is_wanted = owner in tables if is_identity or not self._choice.is_everything else True
            is_wanted = (
                is_wanted and not (on_standby and is_unlogged) and (extension is None or not self._choice.tables)
            )
            if is_wanted and self._choice.takes_data(schema, name):
                if not may_read:
                    raise PostgresError(
                        f"postgres {self._target.label}: the role may not read {quoted_name(schema, name)} of"
                        f" {self._target.dbname!r}",
                        hint=_READ_HINT,
                    )
                rows.append((oid, schema, name, owner))
        for first in range(0, len(rows), _AT_ONCE):
            some = rows[first : first + _AT_ONCE]
            query = " UNION ALL ".join(
                f"SELECT {at}, last_value, is_called FROM {quoted_name(schema, name)}"  # noqa: S608 - quoted
                for at, (_, schema, name, _) in enumerate(some)
            )
            for at, last_value, is_called in sorted(self._rows(query)):
                oid, schema, name, owner = some[at]
                yield SequenceRecord(oid, schema, name, last_value, is_called, owner)

    # ----------------------------------------------------------------------------------------------- statements

    def _run(self, statement: str) -> None:
        with self._server_errors(), self._connection.cursor() as cursor:
            cursor.execute(statement)

    def _rows(self, query: str, parameters: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
        with self._server_errors(), self._connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchall()

    @contextmanager
    def _server_errors(self) -> Iterator[None]:
        """Raise the server's errors as ours: a table that stays locked is worth another try, a name of bytes is not."""
        try:
            with server_errors(self._target.label):
                yield
        except PostgresError as error:
            state = error.details.get("sqlstate")
            if state == _LOCK_TIMEOUT:
                raise PostgresUnavailableError(error.message, hint=_LOCK_HINT) from error
            if state in _NOT_UTF8:
                raise SourceFormatError(
                    f"postgres {self._target.label}: database {self._target.dbname!r} has names that are not UTF-8",
                    hint="Rename what has such a name, or take a physical backup: it does not look at names.",
                ) from error
            raise


def _table(table: Listed, objects: Mapping[int, list[tuple[int, int]]]) -> TableRecord:
    return TableRecord(
        oid=table.oid,
        schema=table.schema,
        name=table.name,
        columns=tuple(table.columns),
        above=tuple(table.above),
        condition=table.condition or "",
        extension=table.extension or "",
        objects=tuple(objects.get(table.oid, ())),
    )


def _partitioned(table: Listed, objects: Mapping[int, list[tuple[int, int]]]) -> PartitionedRecord:
    return PartitionedRecord(table.oid, table.schema, table.name, tuple(table.above), tuple(objects.get(table.oid, ())))


def server_version(target: PostgresConnection) -> int:
    """Return the server's version, as server_version_num.

    Raises:
        PostgresError, PostgresUnavailableError: The server refuses, or does not answer.
    """
    connection = connect_sql(target)
    try:
        return int(connection.server_version)
    finally:
        connection.close()


def may_read_passwords(target: PostgresConnection) -> bool:
    """Say whether the role may read the passwords of roles.

    Raises:
        PostgresError, PostgresUnavailableError: The server refuses, or does not answer.
    """
    connection = connect_sql(target)
    try:
        with server_errors(target.label), connection.cursor() as cursor:
            cursor.execute("SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')")
            return bool(cursor.fetchall()[0][0])
    finally:
        connection.close()
