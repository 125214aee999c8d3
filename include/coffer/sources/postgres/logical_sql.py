"""The questions that a logical backup asks of the catalogs: which tables have data, and what belongs to them.

Which tables those are follows pg_dump, function by function (`src/bin/pg_dump/pg_dump.c` of versions 15 to 18):
`selectDumpableNamespace` and `selectDumpableTable` (no system schema, no member of an extension), `makeTableDataInfo`
(ordinary tables only), `processExtensionTables` (an extension's configuration tables, by its own condition),
`fmtCopyColumnList` (no generated column), `forcePartitionRootLoad` (hash partitions by an enum: the hash of an enum's
value is another on each server). That the rules agree is checked in each run, see `logical_schema`.
"""

from __future__ import annotations

# A session that reads: nothing ends it, names mean what they say, and a table with policies is refused, not cut down.
_SESSION = """
SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;
SET lock_timeout = '{lock_wait_s}s'; SET row_security = off; SET synchronize_seqscans = off;
SET DateStyle = ISO; SET IntervalStyle = POSTGRES; SET extra_float_digits = 3; SET xmloption = content;
SET client_min_messages = warning; SET search_path = '';
"""
_SINCE = ((140000, "SET idle_session_timeout = 0;"), (170000, "SET transaction_timeout = 0;"))


def session(version: int, lock_wait_s: int) -> str:
    """Return the statements that begin a session on a server of that version."""
    newer = "\n".join(statement for since, statement in _SINCE if version >= since)
    return _SESSION.format(lock_wait_s=lock_wait_s) + newer


BEGIN = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"

DATABASE = """
SELECT pg_catalog.to_jsonb(d), pg_catalog.pg_encoding_to_char(d.encoding), pg_catalog.pg_get_userbyid(d.datdba),
       (SELECT pg_catalog.array_agg(s) FROM pg_catalog.pg_db_role_setting r, pg_catalog.unnest(r.setconfig) s
        WHERE r.setdatabase = d.oid AND r.setrole = 0),
       EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata),
       pg_catalog.pg_is_in_recovery()
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""

SNAPSHOT = """
SELECT pg_catalog.pg_export_snapshot(),
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn() END::pg_catalog.text
"""

# Members of extensions, and which of those are configuration: (oid, extension, condition).
_MEMBERS = """
members AS (SELECT d.objid AS oid, e.extname, e.oid AS extension
            FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'e'
              AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass),
config AS (SELECT c.oid, e.extname, c.condition
           FROM pg_catalog.pg_extension e,
                unnest(e.extconfig, e.extcondition) AS c(oid, condition)  -- the form for two arrays has no schema
           WHERE e.oid >= 16384)
"""
_OWN_SCHEMA = r"n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_PERSISTENT = "c.relpersistence <> 't'"

TABLES = f"""
WITH {_MEMBERS}
SELECT c.oid, n.nspname, c.relname, c.relkind::pg_catalog.text, c.relpersistence = 'u',
       ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
             ORDER BY a.attnum),
       ARRAY(SELECT p.relid::pg_catalog.oid::pg_catalog.int8
             FROM pg_catalog.pg_partition_ancestors(c.oid) WITH ORDINALITY p(relid, n)
             WHERE p.relid <> c.oid ORDER BY p.n),
       config.extname::pg_catalog.text, config.condition,
       COALESCE(pg_catalog.has_table_privilege(c.oid, 'SELECT'), true),  -- NULL: it is being dropped
       c.relrowsecurity AND pg_catalog.row_security_active(c.oid)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN config ON config.oid = c.oid
WHERE {_PERSISTENT}
  AND ((c.relkind IN ('r', 'p') AND {_OWN_SCHEMA} AND c.oid NOT IN (SELECT oid FROM members))
       OR (c.relkind = 'r' AND config.oid IS NOT NULL))
ORDER BY c.oid
"""  # noqa: S608 - parts are constants above

# What tables take on the server's disk. It waits for tables that are locked, so it is asked of our own only.
SIZES = "SELECT c.oid, pg_catalog.pg_table_size(c.oid) FROM pg_catalog.pg_class c WHERE c.oid = ANY(%s::oid[])"

# Partitioned tables whose rows belong to a partition by the hash of an enum.
UNSAFE_PARENTS = """
SELECT t.partrelid, pg_catalog.pg_partition_root(t.partrelid)::pg_catalog.oid
FROM pg_catalog.pg_partitioned_table t
WHERE (SELECT o.oid FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am m ON o.opcmethod = m.oid
       WHERE o.opcname = 'enum_ops' AND o.opcnamespace = 'pg_catalog'::pg_catalog.regnamespace AND m.amname = 'hash')
      = ANY(t.partclass)
"""

# Which configuration table refers to which: a table is loaded after those that it refers to.
CONFIG_REFERENCES = f"""
WITH {_MEMBERS}
SELECT k.conrelid, k.confrelid FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND k.conrelid <> k.confrelid
  AND k.conrelid IN (SELECT oid FROM config) AND k.confrelid IN (SELECT oid FROM config)
"""  # noqa: S608 - parts are constants above

SEQUENCES = f"""
WITH {_MEMBERS}
SELECT c.oid, n.nspname, c.relname, c.relpersistence = 'u',
       COALESCE((SELECT d.refobjid FROM pg_catalog.pg_depend d
                 WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                   AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
                 LIMIT 1), 0),
       EXISTS (SELECT FROM pg_catalog.pg_depend d
               WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'i'
                 AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass),
       config.extname::pg_catalog.text,
       COALESCE(pg_catalog.has_sequence_privilege(c.oid, 'SELECT'), true)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN config ON config.oid = c.oid
WHERE c.relkind = 'S' AND {_PERSISTENT}
  AND (({_OWN_SCHEMA} AND c.oid NOT IN (SELECT oid FROM members)) OR config.oid IS NOT NULL)
ORDER BY c.oid
"""  # noqa: S608 - parts are constants above

# What belongs to each table: (table, catalog, oid).
OBJECTS = """
SELECT c.oid, 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, c.oid
  FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p')
UNION ALL SELECT i.indrelid, 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid FROM pg_catalog.pg_index i
UNION ALL SELECT k.conrelid, 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid
  FROM pg_catalog.pg_constraint k WHERE k.conrelid <> 0
UNION ALL SELECT t.tgrelid, 'pg_catalog.pg_trigger'::pg_catalog.regclass, t.oid FROM pg_catalog.pg_trigger t
UNION ALL SELECT r.ev_class, 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid FROM pg_catalog.pg_rewrite r
UNION ALL SELECT p.polrelid, 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid FROM pg_catalog.pg_policy p
UNION ALL SELECT a.adrelid, 'pg_catalog.pg_attrdef'::pg_catalog.regclass, a.oid FROM pg_catalog.pg_attrdef a
UNION ALL SELECT x.stxrelid, 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, x.oid
  FROM pg_catalog.pg_statistic_ext x
UNION ALL SELECT d.refobjid, d.classid, d.objid FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
ORDER BY 1, 2, 3
"""
