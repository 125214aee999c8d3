"""Where the PostgreSQL peers come from."""

from pathlib import Path

from benchmarks.postgres.programs import launcher


def test_pgbackrest_runs_with_the_loader_that_came_with_it():
    """It starts itself again by the script's name, so that name is handed on."""
    script = launcher(Path("/peers/root"), "pgbackrest")

    assert script.startswith("#!/bin/sh\n")
    assert '--argv0 "$0"' in script
    assert script.rstrip().endswith('"/peers/root/usr/bin/pgbackrest" "$@"')
