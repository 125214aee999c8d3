"""What Airflow's plugin loader makes of plugins/: in a program of its own, as every Airflow process does."""

import json
import subprocess
import sys

from tests.harness.airflow_home import PROJECT

PROGRAM = """
import json, sys
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
plugins = plugins_manager.get_plugin_info(["name"])
executed = sorted(
    name for name, module in list(sys.modules.items())
    if (getattr(module, "__file__", None) or "").startswith(sys.argv[1]) and not name.startswith("coffer_airflow")
)
print("SAID", json.dumps({
    "errors": plugins_manager.get_import_errors(),
    "plugins": [plugin["name"] for plugin in plugins],
    "executed": executed,
}))
"""


def test_only_the_registration_file_is_executed():
    """No import error; `coffer` is loaded; no module of the package runs a second time under its bare name."""
    command = [sys.executable, "-c", PROGRAM, str(PROJECT / "plugins")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("SAID"))[5:])
    assert {} == said["errors"]
    assert "coffer" in said["plugins"]
    assert ["coffer_plugin"] == said["executed"]
