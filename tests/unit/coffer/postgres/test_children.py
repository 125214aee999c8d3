"""Client programs as children: what they are told, what they say, and that they end when we do."""

import os
import signal
import subprocess
import sys
import textwrap

from coffer.postgres.children import Child, conninfo, environment, in_memory, started
from tests.harness.postgres import wait_for
from tests.harness.programs import PROJECT, run_program

PARAMETERS = {
    "host": "db.example",
    "port": 5433,
    "user": "me",
    "password": "p w'd",
    "dbname": "it's \\ odd",
    "sslmode": "require",
    "keepalives_idle": 30,
}


def shell(script, **how):
    return started(["/bin/sh", "-c", script], environment({}), **how)


def test_the_password_goes_by_the_environment():
    """It is in the environment of the child alone, and never in what goes on a command line."""
    given = environment(PARAMETERS)
    assert given["PGPASSWORD"] == "p w'd"
    assert (given["PGHOST"], given["PGPORT"], given["PGSSLMODE"]) == ("db.example", "5433", "require")
    assert "p w" not in conninfo(PARAMETERS)


def test_a_database_of_any_name_is_quoted_in_a_connection_string():
    """Quotes and backslashes of the name are escaped, as libpq reads them."""
    assert conninfo(PARAMETERS) == r"dbname='it\'s \\ odd' keepalives_idle='30'"


def test_secrets_of_ours_and_settings_of_the_user_do_not_reach_a_child(monkeypatch):
    """A child has no use for the repository's passphrase; PGOPTIONS would change what it reads."""
    monkeypatch.setenv("COFFER_PASSPHRASE", "secret")
    monkeypatch.setenv("PGOPTIONS", "-c search_path=evil")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGSSLCERT", "/kept")
    given = environment({}, PGCLIENTENCODING="UTF8")
    assert {"COFFER_PASSPHRASE", "PGOPTIONS"} & given.keys() == set()
    assert (given["PGCLIENTENCODING"], given["PGSSLCERT"], given["LC_ALL"]) == ("UTF8", "/kept", "C")


def test_what_a_program_complains_of_is_kept_in_bounds():
    """The last lines of standard error are kept, long ones in pieces, whatever it writes."""
    with shell("for i in $(seq 1 500); do echo line $i >&2; done; head -c 5000000 /dev/zero | tr '\\0' x >&2") as child:
        assert child.wait() == 0
        assert len(child.lines) == 200
        assert max(map(len, child.lines)) <= 2000


def test_the_exit_code_tells_how_a_program_ended():
    """A code as it is, a signal as a negative number."""
    with shell("exit 3") as child:
        assert child.wait() == 3
    with shell("kill -9 $$") as child:
        assert child.wait() == -signal.SIGKILL


def test_waiting_for_a_while_tells_that_it_runs():
    """None means that it has not ended; later its code comes."""
    with shell("read line; exit 4", stdin=subprocess.PIPE) as child:
        assert child.wait_for(0.05) is None
        child.stdin.close()
        assert wait_for(lambda: child.wait_for(1), "its end") == 4


def test_a_program_that_does_not_go_is_made_to(monkeypatch):
    """SIGTERM first; who ignores it is killed."""
    monkeypatch.setattr("coffer.postgres.children._PATIENCE_S", 0.1)
    with shell("trap '' TERM; echo ready; while :; do sleep 1; done") as child:
        assert child.stdout.readline() == b"ready\n"
    assert child.wait() == -signal.SIGKILL


def test_closing_twice_is_no_error():
    """`close` is idempotent, and so is `kill` after the end."""
    child = Child(["/bin/true"], environment({}))
    child.wait()
    child.kill()
    child.close()
    child.close()


def test_a_child_dies_with_us_even_if_we_are_killed():
    """SIGKILL of the parent ends a child that reads and writes nothing."""
    program = """
    import sys
    from coffer.postgres.children import Child, environment
    child = Child(["/bin/sleep", "600"], environment({}))
    print(child.pid, flush=True)
    sys.stdin.read()
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    wait_for(lambda: os.readlink(f"/proc/{pid}/exe").endswith(("sleep", "coreutils", "busybox")), "its start")
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the child's end", timeout_s=10)


def test_what_is_in_memory_can_be_opened_and_read_again():
    """A program opens it by /dev/fd and seeks; its place in our descriptor is the start."""
    fd = in_memory(b"0123456789")
    try:
        assert os.read(fd, 4) == b"0123"
        with shell(f"tail -c 3 /dev/fd/{fd}", pass_fds=[fd]) as child:
            assert child.stdout.read() == b"789"
            assert child.wait() == 0
    finally:
        os.close(fd)


def test_importing_costs_a_start_nothing_of_the_driver():
    """The module is below the driver: a process that only watches children need not load it."""
    assert run_program("import sys, coffer.postgres.children; sys.exit('psycopg2' in sys.modules)").returncode == 0
