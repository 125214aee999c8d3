"""`make up`: a whole Airflow, started and stopped as a user does."""

import json
import random
import signal
import socket
import stat
import subprocess
from urllib.parse import quote

import pytest

from tests.harness.airflow_home import PROJECT
from tests.harness.airflow_server import free_port, processes_of, server, until, up_command, up_environment
from tests.harness.installation import closed_window, install

pytestmark = [pytest.mark.e2e]
DAG = "filesystem_backup"
ALL_DAGS = ["database_full_backup", "database_incremental_backup", DAG, "wal_archive"]
SLOW = ", io_limit: 2MB/s"  # slow enough that a run of 96 MiB can be killed at work
POLICY = """\
filesystem_backup: {{schedule: "{schedule}"}}
performance_config:
  compression: {{chunk_size: 4MB}}
  concurrency: {{max_workers: 2{slow}}}
  scheduling: {{backup_window: "{window}"}}
"""


@pytest.fixture
def home(tmp_path):
    """The folder of an Airflow."""
    return tmp_path / "airflow"


def refused(home, policy, *more):
    """Start one that cannot run; return what it said."""
    done = subprocess.run(
        [*up_command(home), *more],
        cwd=PROJECT,
        env=up_environment(policy),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 1 == done.returncode, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_port_that_is_taken_is_told(home, tmp_path):
    """The port that the user named is in use: one line and a hint, nothing is started."""
    made = install(tmp_path / "installation")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(home, made.policy, "--port", str(port))
    assert f"up: port {port} is taken\nHINT: Name a free one with --port, or stop what listens there.\n" == said


def test_a_policy_with_mistakes_is_told(home, tmp_path):
    """Before anything is started."""
    made = install(tmp_path / "installation")
    made.policy.write_text("sorces: []\n")
    assert "sorces" in refused(home, made.policy)


@pytest.mark.slow
def test_a_program_that_dies_ends_it_with_the_last_lines_of_its_log(home, tmp_path):
    """Airflow's folder holds a broken database: the log's lines are shown, and nothing is left running."""
    made = install(tmp_path / "installation")
    home.mkdir()
    (home / "airflow.db").write_bytes(b"this is no database" * 100)
    said = refused(home, made.policy, "--port", str(free_port()))
    assert "up: prepare ended with 1; its last lines:" in said
    assert "file is not a database" in said
    assert f"HINT: Look into {home / 'logs'}." in said
    assert [] == processes_of(home)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_whole_airflow(home, tmp_path):
    """Start, form, kill a run, Ctrl-C at work; start again on the same database, where the run goes on; no orphans."""
    # The run that Airflow makes up for when the DAG is switched on finds the window closed, and is out of the way.
    schedule, window = closed_window()
    made = install(tmp_path / "installation", extra=POLICY.format(schedule=schedule, window=window, slow=SLOW))
    tree = made.tree("docs")
    for n in range(96):
        (tree / f"{n:02}").write_bytes(random.Random(n).randbytes(1024 * 1024))
    with server(home, made.policy, tmp_path / "up.log") as up:
        _shows_the_connection_form(up)
        _shows_the_dag(up)
        _checkpoints_a_killed_run(up, made)
        assert "is running on" in refused(home, made.policy)
        password = up.fact("password")
        run_id = _is_at_work(up, made)
        assert 0 == up.stop(signal.SIGINT)
        assert "up: stopped" in up.said
    assert [] == processes_of(home)
    made.policy.write_text(made.policy.read_text().replace(SLOW, ""))
    with server(home, made.policy, tmp_path / "up2.log") as up:
        assert password == up.fact("password")
        _goes_on_where_it_stopped(up, run_id)
        _keeps_secrets(up, made, home)
        assert 0 == up.stop(signal.SIGTERM)
    assert [] == processes_of(home)


def _shows_the_connection_form(up):
    """The UI's own request has our fields."""
    forms = up.call("GET", "/ui/connections/hook_meta")[1]
    form = next(form for form in forms if form["connection_type"] == "coffer")
    assert "Repository folder" == form["standard_fields"]["host"]["title"]
    assert {"location", "key_file"} == set(form["extra_fields"])


def _shows_the_dag(up):
    """No import error, the plugin is loaded, the pools are there, and the API is closed to strangers."""
    assert ALL_DAGS == sorted(dag["dag_id"] for dag in up.call("GET", "/api/v2/dags")[1]["dags"])
    assert 0 == up.call("GET", "/api/v2/importErrors")[1]["total_entries"]
    assert "coffer" in [plugin["name"] for plugin in up.call("GET", "/api/v2/plugins")[1]["plugins"]]
    assert 0 == up.call("GET", "/api/v2/plugins/importErrors")[1]["total_entries"]
    assert 2 == up.call("GET", "/api/v2/pools/coffer")[1]["slots"]
    assert 4 == up.call("GET", "/api/v2/pools/coffer_wal")[1]["slots"]
    assert 401 == up.call("GET", "/api/v2/dags", token=False)[0]


def _checkpoints_a_killed_run(up, made):
    """A run that is marked failed while it works leaves a checkpoint, by on_kill, and no snapshot."""
    run_id = up.start_run(DAG, ignore_window=True)
    until("a pack", lambda: any((made.repository / "packs").rglob("?" * 64)))
    up.call("PATCH", up.run_path(DAG, run_id), {"state": "failed"})
    until("a checkpoint", lambda: any((made.repository / "checkpoints").glob("*")), 60)
    assert not any((made.repository / "snapshots").glob("*"))


def _is_at_work(up, made):
    """A further run stores packs; return its id."""
    before = len(list((made.repository / "packs").rglob("?" * 64)))
    run_id = up.start_run(DAG, ignore_window=True)
    until("further packs", lambda: len(list((made.repository / "packs").rglob("?" * 64))) > before)
    return run_id


def _goes_on_where_it_stopped(up, run_id):
    """The run that Ctrl-C interrupted is taken up again by itself, and reads only what it had not."""
    assert "success" == until("the run", lambda: up.finished(DAG, run_id), 240)
    entry = f"{up.run_path(DAG, run_id)}/taskInstances/snapshot/xcomEntries/return_value?map_index=0"
    done = up.call("GET", entry)[1]["value"]
    assert done["complete"]
    assert 0 < done["read_bytes"] < done["size_bytes"]


def _keeps_secrets(up, made, home):
    """Neither key nor password is in a log; the folder is the owner's alone."""
    secrets = [made.key_file.read_text().split()[1], up.fact("password")]
    logs = [path for path in (home / "logs").rglob("*") if path.is_file()]
    assert len(logs) > 5
    assert [] == [path for path in logs if any(secret in path.read_text(errors="replace") for secret in secrets)]
    assert 0o700 == stat.S_IMODE(home.stat().st_mode)
    shown = json.dumps(up.call("GET", f"/api/v2/dags/{DAG}/dagRuns/{quote('~')}/taskInstances")[1])
    assert secrets[0] not in shown
