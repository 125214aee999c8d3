"""`make demo`: the whole way of a file tree and of a server through the DAGs, as a program of its own."""

import os
import re
import subprocess
import sys

import pytest

from tests.harness.airflow_home import PROJECT
from tests.harness.airflow_server import processes_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WITHIN_S = 240  # what the demo may take after set-up
BREAK_THE_RESTORE = """
import sys
sys.path.insert(0, {project!r})
import demo.run_demo as run_demo
compare = run_demo.compare
def compare_after_damage(demo, machine):
    with (demo.target / "specials" / str(demo.specials).lstrip("/") / "text-8MiB").open("r+b") as file:
        file.write(b"X")
    compare(demo, machine)
run_demo.compare = compare_after_damage
sys.exit(run_demo.main())
"""
BREAK_THE_DATABASE = """
import sys
sys.path.insert(0, {project!r})
import demo.database_demo as database_demo
import demo.run_demo as run_demo
digests = database_demo.digests
def digests_after_damage(connection, dbname):
    with connection.cursor() as cursor:
        cursor.execute("SHOW cluster_name")
        if cursor.fetchone() == ("coffer scratch",) and dbname == "postgres":
            cursor.execute("UPDATE accounts SET balance = balance + 1 WHERE id = 1")
    return digests(connection, dbname)
database_demo.digests = digests_after_damage
for name in ("backup", "say_first", "say_second", "restore", "compare"):
    setattr(run_demo, name, lambda *_, **__: None)  # the file trees have a test of their own
sys.exit(run_demo.main())
"""


def run(folder, *command):
    """Run the demo in a folder of the test, without the tests' own Airflow settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment["COFFER_DEMO_DIR"] = str(folder)
    return subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def test_the_demo_proves_a_backup_and_says_so(tmp_path):
    """Exit code 0, figures for each step, nothing new in the second run, and no process left; it can be run again."""
    folder = tmp_path / "demo"
    for _ in range(2):
        done = run(folder, "demo/run_demo.py")
        assert (0, "") == (done.returncode, done.stderr), done.stdout
        for line in (
            r"snapshot [0-9a-f]{16} of machine: [\d,]+ files",
            r"snapshot [0-9a-f]{16} of specials: [\d,]+ files",
            r"verified: .* read again and authenticated",
            r"second run, nothing changed",
            r"[\d,]+ entries, .*: no difference",
            r"Another key is refused",
            r"A PostgreSQL \d+ on 127\.0\.0\.1:\d+",
            r"snapshot [0-9a-f]{16} of primary and analytics \(full\)",
            r"snapshot [0-9a-f]{16} of primary and analytics \(delta\)",
            r"restored, started and compared: proved, \d+ tables",
            r"of WAL saved, up to",
            r"3 tables, [\d,]+ rows, all as they were then",
            r"All of it is alike",
        ):
            assert re.search(line, done.stdout), done.stdout
        assert re.search(r"files looked at, 0 B read", done.stdout)
    assert [] == processes_of(folder)


def test_a_difference_fails_the_demo(tmp_path):
    """One byte of one restored file is changed before the comparison: exit code 1, and the file is named."""
    done = run(tmp_path / "demo", "-c", BREAK_THE_RESTORE.format(project=str(PROJECT)))
    assert 1 == done.returncode, done.stdout
    assert "FAILED: what was restored differs from the source" in done.stderr
    assert "text-8MiB: content" in done.stderr
    assert "All of it is alike" not in done.stdout


def test_a_row_that_differs_fails_the_demo(tmp_path):
    """One row is changed in the restored server before the comparison: exit code 1, and the table is named."""
    done = run(tmp_path / "demo", "-c", BREAK_THE_DATABASE.format(project=str(PROJECT)))
    assert 1 == done.returncode, done.stdout
    assert "FAILED: what was restored is not what the source was at" in done.stderr
    assert "postgres.public.accounts" in done.stderr
    assert "All of it is alike" not in done.stdout


def test_the_demo_empties_no_folder_that_is_not_its_own(tmp_path):
    """A folder with other files is refused, and left as it is."""
    (tmp_path / "precious").write_text("mine")
    done = run(tmp_path, "demo/run_demo.py")
    assert 1 == done.returncode
    assert "is not empty and not of an earlier demo" in done.stderr
    assert "mine" == (tmp_path / "precious").read_text()
