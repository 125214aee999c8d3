"""One database or table, as it was at a moment, out of the backup of a whole cluster."""

from __future__ import annotations

import io
import threading

import pytest

from coffer.errors import InterruptedRunError, RestoreError, RestoreTargetError, UsageError
from coffer.errors_postgres import ScratchServerError
from coffer.postgres.lsn import Lsn
from coffer.recovery import single_table
from coffer.recovery.single_table import ExtractOptions, extract
from coffer.restore.cluster.execute import restore_cluster
from coffer.restore.cluster.target import RecoveryTarget, TargetKind
from tests.harness.cluster_backups import NAME, back_up, save_wal

pytestmark = pytest.mark.postgres
LATEST = RecoveryTarget(TargetKind.LATEST)
ORDERS = "SELECT count(*), md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o"


def get(repo, scratch, *tables, into, target=LATEST, stop=None, **options):
    given = ExtractOptions(**{"database": "postgres", "tables": tables, "scratch": scratch, "workers": 2, **options})
    return extract(repo, NAME, target, given, into=into, stop=stop)


def fresh(server, name="copy"):
    """Make an empty database to load into; return how it is reached."""
    server.sql(f"DROP DATABASE IF EXISTS {name}")
    server.sql(f"CREATE DATABASE {name} TEMPLATE template0")
    return server.connection(host=str(server.home), user="postgres", password=None, dbname=name)


@pytest.fixture
def wide(own):
    """The server with a second, much larger database beside the first."""
    own.sql("CREATE DATABASE other")
    rows = "SELECT n, repeat(md5(n::text), 30) AS t FROM generate_series(1, 20000) n"
    own.sql(f"CREATE TABLE bulk AS {rows}", dbname="other")
    own.sql("CREATE INDEX ON bulk (n)", dbname="other")
    return own


def test_a_table_is_loaded_as_it_was_at_the_moment(repo, wide, scratch):
    """What was written later is not in it; indexes and keys come with it, other tables do not."""
    back_up(repo, wide, proof_budget_s=0.0)
    wide.sql("UPDATE orders SET note = 'good' WHERE id <= 100")
    expected = wide.sql(ORDERS)
    moment = Lsn.parse(wide.value("SELECT pg_current_wal_lsn()::text"))
    wide.sql("DELETE FROM orders WHERE id > 10")
    save_wal(repo, wide)
    target = RecoveryTarget(TargetKind.LSN, str(moment), inclusive=False)
    result = get(repo, scratch, "public.orders", into=fresh(wide), target=target)
    assert expected == wide.sql(ORDERS, dbname="copy")
    assert ("public.orders",) == result.tables
    assert result.dumped_bytes > 500_000
    tables = "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'"
    assert "orders" == wide.value(tables, dbname="copy")
    assert "orders_pkey" == wide.value(
        "SELECT conname FROM pg_constraint WHERE contype = 'p' AND conrelid = 'orders'::regclass", dbname="copy"
    )


def test_tables_of_other_databases_are_not_restored(repo, wide, scratch):
    """Much less is written than the cluster has."""
    snapshot = back_up(repo, wide, proof_budget_s=0.0)
    sink = io.BytesIO()
    result = get(repo, scratch, "orders", into=sink)
    assert b"COPY public.orders" in sink.getvalue()
    assert len(sink.getvalue()) == result.dumped_bytes
    assert result.stats["size_bytes"] < snapshot.stats["size_bytes"] - 20_000_000


def test_wal_of_other_databases_does_not_hinder(repo, wide, scratch):
    """It changes, truncates, rewrites and drops what is not there, and makes new databases."""
    back_up(repo, wide, proof_budget_s=0.0)
    for statement in (
        "UPDATE bulk SET t = 'x' WHERE n % 3 = 0",
        "VACUUM bulk",
        "DELETE FROM bulk WHERE n > 15000",
        "VACUUM (FREEZE) bulk",
        "VACUUM FULL pg_class",
        "CREATE TABLE more AS SELECT * FROM bulk",
        "TRUNCATE bulk",
        "ALTER TABLE more ALTER COLUMN n TYPE bigint",
        "DROP TABLE more",
        "CHECKPOINT",
        "INSERT INTO bulk SELECT n, 'y' FROM generate_series(1, 5000) n",
    ):
        wide.sql(statement, dbname="other")
    wide.sql("CREATE DATABASE third TEMPLATE template1")
    wide.sql("CREATE DATABASE fourth TEMPLATE template0 STRATEGY file_copy")
    wide.sql("UPDATE orders SET note = 'after' WHERE id = 1")
    save_wal(repo, wide)
    get(repo, scratch, "orders", into=fresh(wide))
    assert wide.sql(ORDERS) == wide.sql(ORDERS, dbname="copy")


def test_wal_without_page_images_and_checksums_does_not_hinder(repo, servers, programs, scratch):
    """Without checksums a vacuum may refer to a page that no image came before."""
    server = servers.start("--no-data-checksums" if servers.installation.major >= 18 else "--locale-provider=libc")
    server.sql("CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders VALUES (1, 'a')")
    server.sql("CREATE DATABASE other")
    server.sql("CREATE TABLE bulk AS SELECT generate_series(1, 50000) AS n", dbname="other")
    assert "off" == server.value("SHOW data_checksums")
    back_up(repo, server, proof_budget_s=0.0)
    server.sql("VACUUM bulk", dbname="other")
    server.sql("UPDATE orders SET note = 'b'")
    save_wal(repo, server)
    sink = io.BytesIO()
    get(repo, scratch, "orders", into=sink)
    server.close()
    assert b"1\tb\n" in sink.getvalue()


def test_a_whole_database_is_written_to_a_file(repo, wide, scratch, tmp_path):
    """It appears when it is whole, for its owner alone, and can be loaded."""
    back_up(repo, wide, proof_budget_s=0.0)
    path = tmp_path / "dump.sql"
    result = get(repo, scratch, into=path)
    assert (path.stat().st_size, 0o600) == (result.dumped_bytes, path.stat().st_mode & 0o777)
    assert () == result.tables
    fresh(wide)
    copy = wide.home / "dump.sql"
    copy.write_bytes(path.read_bytes())
    wide.must("psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", "copy", "-q", "-f", copy)
    assert wide.sql(ORDERS) == wide.sql(ORDERS, dbname="copy")
    assert [path] == list(tmp_path.iterdir())


def test_names_that_need_quotes_are_found(repo, own, scratch):
    """Capitals, blanks, and a schema of that kind."""
    own.sql('CREATE SCHEMA "My Schema"; CREATE TABLE "My Schema"."Order*s" AS SELECT 1 AS n')
    back_up(repo, own, proof_budget_s=0.0)
    sink = io.BytesIO()
    assert ("My Schema.Order*s",) == get(repo, scratch, "My Schema.Order*s", into=sink).tables
    assert b'COPY "My Schema"."Order*s"' in sink.getvalue()
    assert b"COPY public.orders" not in sink.getvalue()


@pytest.mark.parametrize(
    ("options", "there", "absent"),
    [
        ({"schema_only": True}, b"CREATE TABLE public.orders", b"COPY public.orders"),
        ({"data_only": True}, b"COPY public.orders", b"CREATE TABLE public.orders"),
        ({"no_owner": True}, b"CREATE TABLE public.orders", b"OWNER TO"),
    ],
)
def test_parts_can_be_left_out(repo, own, scratch, options, there, absent):
    """Definitions, rows, or whose they are."""
    back_up(repo, own, proof_budget_s=0.0)
    sink = io.BytesIO()
    get(repo, scratch, "orders", into=sink, **options)
    assert there in sink.getvalue()
    assert absent not in sink.getvalue()


def test_a_table_that_is_there_already_changes_nothing(repo, own, scratch):
    """All or nothing, and psql's words are told."""
    back_up(repo, own, proof_budget_s=0.0)
    target = fresh(own)
    own.sql("CREATE TABLE orders (id int PRIMARY KEY)", dbname="copy")
    with pytest.raises(RestoreError, match=r'psql: .*relation "orders" already exists'):
        get(repo, scratch, "orders", "audit", into=target)
    assert "orders" == own.value(
        "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'", dbname="copy"
    )


def test_a_file_that_exists_is_refused_before_anything_is_done(repo, scratch, tmp_path):
    """It stays as it is."""
    path = tmp_path / "dump.sql"
    path.write_text("precious")
    with pytest.raises(RestoreTargetError, match="exists"):
        get(repo, scratch, "orders", into=path)
    assert "precious" == path.read_text()


def test_an_unknown_database_is_refused_before_anything_is_restored(repo, own, scratch):
    """The hint lists those that there are."""
    back_up(repo, own, proof_budget_s=0.0)
    with pytest.raises(UsageError, match="has no database 'missing'") as caught:
        get(repo, scratch, into=io.BytesIO(), database="missing")
    assert "postgres" in caught.value.hint


def test_an_unknown_table_is_refused(repo, own, scratch, tmp_path):
    """No file is made."""
    back_up(repo, own, proof_budget_s=0.0)
    with pytest.raises(UsageError, match=r"has no table 'public\.missing'"):
        get(repo, scratch, "public.missing", into=tmp_path / "dump.sql")
    assert [] == list(tmp_path.iterdir())


def test_a_page_that_the_wanted_database_lacks_is_an_error(repo, own, scratch, monkeypatch):
    """What may be passed over in other databases must not be in this one."""
    back_up(repo, own, proof_budget_s=0.0)

    def restore_and_note(*given, **more):
        result = restore_cluster(*given, **more)
        log = given[2].parent / "log"
        log.write_text("WARNING:  page 3 of relation base/5/1259 does not exist\n")
        return result

    monkeypatch.setattr(single_table, "restore_cluster", restore_and_note)
    with pytest.raises(ScratchServerError, match="page 3 of relation base/5/1259 does not exist"):
        get(repo, scratch, "orders", into=io.BytesIO())


def test_a_stop_ends_it_and_leaves_no_file(repo, own, scratch, tmp_path):
    """Nor a folder."""
    back_up(repo, own, proof_budget_s=0.0)
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        get(repo, scratch, "orders", into=tmp_path / "dump.sql", stop=stop)
    assert [] == list(tmp_path.iterdir())
