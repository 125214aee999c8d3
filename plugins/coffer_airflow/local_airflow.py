"""The settings of an Airflow on this machine alone, for `make up`, `make demo` and the tests. Imports no Airflow.

Airflow reads its settings when it is first imported, so they are environment variables, set beforehand. All that it
writes lies in one folder.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

_SECRET_BYTES = 64  # the JWT is signed by HMAC-SHA512, whose keys must not be shorter than its digest (RFC 7518 §3.2)
_FERNET_KEY_BYTES = 32
_PASSWORD_BYTES = 18  # 24 characters


def base_settings(home: Path, project: Path) -> dict[str, str]:
    """Return the settings of every local Airflow: nothing but this project's DAGs, everything it writes below `home`.

    Args:
        home: Airflow's folder, absolute.
        project: The folder that holds dags/ and plugins/, absolute.
    """
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs" / "tasks"),
        "AIRFLOW__DAG_PROCESSOR__CHILD_PROCESS_LOG_DIRECTORY": str(home / "logs" / "dag_processor"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def server_settings(home: Path, *, port: int, parallelism: int) -> dict[str, str]:
    """Return the settings of a whole Airflow that listens on 127.0.0.1, on top of `base_settings`.

    Args:
        home: Airflow's folder; its secrets are made in it on first use.
        port: Of the UI and the API.
        parallelism: Tasks that may run at once.
    """
    url = f"http://127.0.0.1:{port}"
    folder = home / "secrets"
    return {
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__PARALLELISM": str(parallelism),
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        # Tasks call the API by these: a port other than 8080 must be told to them as well.
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        # A new DAG file shows after seconds, not after the 5 minutes of the default.
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "15",
        "AIRFLOW__CORE__FERNET_KEY": secret(folder / "fernet_key", _fernet_key),
        "AIRFLOW__API_AUTH__JWT_SECRET": secret(folder / "jwt_secret", _long_text),
        "AIRFLOW__API__SECRET_KEY": secret(folder / "api_secret_key", _long_text),
        # `airflow` starts further programs by their bare names.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "NO_COLOR": "1",
    }


def password_file(home: Path) -> Path:
    """Return where the password of the user `admin` is kept; made on first use."""
    path = home / "secrets" / "admin_password"
    secret(path, _password)
    return path


def secret(path: Path, make: Callable[[], str]) -> str:
    """Return the text of a file with a secret; made once, mode 0600, in a folder of mode 0700."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(make())
        temporary.rename(path)
    return path.read_text(encoding="ascii")


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(_FERNET_KEY_BYTES)).decode()


def _long_text() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


def _password() -> str:
    return secrets.token_urlsafe(_PASSWORD_BYTES)
