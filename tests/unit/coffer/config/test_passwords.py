"""Where a database's password comes from; it is in no message."""

from __future__ import annotations

import pytest

from coffer.config import parse_policy
from coffer.config.passwords import cluster_password
from coffer.errors import UsageError


@pytest.fixture
def cluster(tmp_path):
    """A function that makes a cluster of the entry of its server."""

    def make(entry):
        return parse_policy(f"databases: [a]\ndatabase_servers: {{a: {{{entry}}}}}", tmp_path).clusters[0]

    return make


def test_without_a_reference_libpq_is_asked(cluster):
    """PGPASSWORD, PGPASSFILE, ~/.pgpass: none of them is read here."""
    assert cluster_password(cluster("host: x")) is None


def test_a_variable_holds_it(cluster, monkeypatch):
    """One that is not set, or empty, is an error that names it."""
    monkeypatch.setenv("PG_WORD", "hunter2")
    assert "hunter2" == cluster_password(cluster("password_env: PG_WORD"))
    for change in (lambda: monkeypatch.setenv("PG_WORD", ""), lambda: monkeypatch.delenv("PG_WORD")):
        change()
        with pytest.raises(UsageError, match=r"database_servers\.a\.password_env: the variable PG_WORD is not set"):
            cluster_password(cluster("password_env: PG_WORD"))


def test_a_file_holds_it(cluster, tmp_path):
    """Its first line."""
    (tmp_path / "word").write_text("hunter2\nmore\n")
    (tmp_path / "word").chmod(0o600)
    assert "hunter2" == cluster_password(cluster("password_file: word"))


def test_a_file_that_others_may_read_is_refused(cluster, tmp_path):
    """As a key file is; the message has not what is in it."""
    (tmp_path / "word").write_text("hunter2\n")
    (tmp_path / "word").chmod(0o644)
    with pytest.raises(UsageError, match=r"database_servers\.a: password file .*mode 0644") as caught:
        cluster_password(cluster("password_file: word"))
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert "chmod 600" in caught.value.hint


def test_a_file_that_is_not_there_is_named(cluster):
    """With what is wrong."""
    with pytest.raises(UsageError, match=r"password file .*word: cannot be read"):
        cluster_password(cluster("password_file: word"))
