"""A copy of a cluster, drilled or restored beside its original, takes nothing from it and writes nothing into it."""

from __future__ import annotations

import os
import shutil

import psycopg2
import pytest

from coffer.errors import RestoreTargetError
from coffer.recovery.cluster_drill import drill_cluster
from coffer.restore.cluster import ClusterRestoreOptions, parse_target, plan_cluster_restore, restore_cluster
from tests.harness.cluster_backups import NAME, back_up, new_repository
from tests.harness.postgres import installations, servers_of, unprivileged, wait_for

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module", params=installations(), ids=str)
def servers(request):
    with servers_of(request.param) as made:
        yield made


def run_alone(server, statement):
    """Run a statement that must not be in a transaction."""
    connection = psycopg2.connect(host=str(server.home), port=server.port, user="postgres", dbname="postgres")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def test_a_drill_of_a_subscriber_fetches_nothing_from_its_publisher(servers, monkeypatch):
    """Else the publisher takes rows for delivered that only the copy got: the subscriber never sees them."""
    monkeypatch.setenv("COFFER_PG_BIN", str(servers.installation.programs))
    publisher, subscriber = servers.start(wal_level="logical"), servers.start()
    try:
        for server in (publisher, subscriber):
            server.sql("CREATE TABLE t (a int PRIMARY KEY)")
        publisher.sql("CREATE PUBLICATION p FOR TABLE t")
        address = f"host={publisher.home} port={publisher.port} user=postgres dbname=postgres"
        run_alone(subscriber, f"CREATE SUBSCRIPTION s CONNECTION '{address}' PUBLICATION p")
        publisher.sql("INSERT INTO t VALUES (1)")
        wait_for(lambda: subscriber.value("SELECT count(*) FROM t") == 1, "the first row")
        wait_for(
            lambda: subscriber.value("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel"), "the first copy"
        )
        repo = new_repository()
        back_up(repo, subscriber)
        subscriber.stop()
        publisher.sql("INSERT INTO t VALUES (2), (3)")
        confirmed = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 's'"
        before = publisher.value(confirmed)
        assert drill_cluster(repo, NAME).ok
        assert before == publisher.value(confirmed)
        subscriber.start()
        wait_for(lambda: subscriber.value("SELECT count(*) FROM t") == 3, "all rows")
    finally:
        subscriber.close()
        publisher.close()


@pytest.mark.parametrize("how", [{}, {"tablespaces_in_place": True}], ids=["by its links", "in place"])
def test_a_delta_into_a_copied_folder_does_not_write_into_the_originals_tablespaces(servers, how):
    """The links of a copied data folder lead to the original's own tablespaces, and its server runs."""
    original = servers.start()
    try:
        place = original.home / "space"
        place.mkdir()
        shutil.chown(place, unprivileged().pw_uid, unprivileged().pw_gid)
        run_alone(original, f"CREATE TABLESPACE fast LOCATION '{place}'")
        original.sql("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 2000) AS a")
        repo = new_repository()
        back_up(repo, original)
        original.sql("CREATE TABLE newer TABLESPACE fast AS SELECT generate_series(1, 5000) AS a")
        original.sql("CHECKPOINT")
        copy = original.home / "copy"
        shutil.copytree(original.data, copy, symlinks=True, ignore=shutil.ignore_patterns("postmaster.pid", ".s.*"))
        plan = plan_cluster_restore(repo, NAME, parse_target("latest"))
        with pytest.raises(RestoreTargetError, match="tablespace"):
            restore_cluster(repo, plan, copy, options=ClusterRestoreOptions(delta=True, **how))
        original.restart()
        assert 5000 == original.value("SELECT count(*) FROM newer")
        assert os.path.exists(place)
    finally:
        original.close()
