"""What Airflow executes by itself when it scans dags/ and plugins/."""

import subprocess
import sys

from tests.architecture.sources import ROOT


def test_airflow_executes_only_the_registration_file():
    """plugins/.airflowignore shuts out all but coffer_plugin.py; else Airflow loads each module a second time."""
    lines = (ROOT / "plugins" / ".airflowignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line.strip() and not line.startswith("#")]
    assert ["*", "!coffer_plugin.py"] == rules


def test_the_engine_loads_no_airflow():
    """Importing the command line and the repository brings in no Airflow module, in a fresh process."""
    code = (
        "import sys, coffer.cli.main, coffer.repository, coffer.restore, coffer.sources;"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'airflow', 'coffer_airflow', 'sqlalchemy'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (0, "[]\n") == (result.returncode, result.stdout), result.stderr
