"""The settings of an Airflow on this machine alone."""

import os
import stat
import subprocess
import sys

from coffer_airflow.local_airflow import base_settings, password_file, server_settings


def test_everything_is_written_below_one_folder(tmp_path):
    """Database and logs lie in the home; no examples, and only this project's DAGs and plugins."""
    settings = base_settings(tmp_path / "home", tmp_path / "project")
    written = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__LOGGING__BASE_LOG_FOLDER")
    assert all(str(tmp_path / "home") in settings[name] for name in written)
    assert "False" == settings["AIRFLOW__CORE__LOAD_EXAMPLES"]
    assert str(tmp_path / "project" / "dags") == settings["AIRFLOW__CORE__DAGS_FOLDER"]


def test_tasks_are_told_the_port_too(tmp_path):
    """The execution API's address follows the port: else every task would call 8080 and die."""
    settings = server_settings(tmp_path, port=8123, parallelism=2)
    assert "http://127.0.0.1:8123" == settings["AIRFLOW__API__BASE_URL"]
    assert "http://127.0.0.1:8123/execution/" == settings["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
    assert ("127.0.0.1", "8123") == (settings["AIRFLOW__API__HOST"], settings["AIRFLOW__API__PORT"])


def test_secrets_are_made_once_and_for_the_owner_only(tmp_path):
    """Mode 0600 in a folder of mode 0700; a second start has the same ones; the JWT secret has 64 bytes or more."""
    first = server_settings(tmp_path, port=1, parallelism=1)
    password = password_file(tmp_path).read_text()
    assert first == server_settings(tmp_path, port=1, parallelism=1)
    assert password == password_file(tmp_path).read_text()
    folder = tmp_path / "secrets"
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in os.listdir(folder)}
    assert dict.fromkeys(["admin_password", "api_secret_key", "fernet_key", "jwt_secret"], 0o600) == modes
    assert len(first["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64
    assert len({first[name] for name in first if "SECRET" in name or "FERNET" in name}) == 3


def test_two_installations_share_no_secret(tmp_path):
    """Each folder has secrets of its own."""
    one, other = (server_settings(tmp_path / name, port=1, parallelism=1) for name in ("one", "other"))
    names = ("AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY")
    assert [] == [name for name in names if one[name] == other[name]]


def test_the_settings_are_made_without_airflow():
    """Airflow reads its settings when it is imported, so whoever sets them must not import it."""
    code = "import sys, coffer_airflow.local_airflow; print('airflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "False\n" == done.stdout
