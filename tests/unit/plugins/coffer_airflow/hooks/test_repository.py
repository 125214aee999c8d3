"""The hook: from a connection, or the policy, to an open repository."""

import logging
import os
import threading

import pytest

from coffer.errors import KeyFileError, NotARepositoryError, PolicyInvalidError, UsageError, WrongKeyError
from coffer_airflow.hooks import RepositoryHook
from tests.harness.installation import connection, make_passphrase_repository

PASSPHRASE = "correct-horse-battery-staple"
DEFAULT = "AIRFLOW_CONN_COFFER_DEFAULT"


def opened_url(hook):
    """Open the repository of a hook and return where it is."""
    with hook.opened(threading.Event()) as repository:
        return repository.backend.url


@pytest.fixture
def elsewhere(tmp_path):
    """A repository that the policy does not know, opened by a passphrase."""
    folder = tmp_path / "elsewhere"
    make_passphrase_repository(folder, PASSPHRASE)
    return folder


def test_without_a_connection_the_policy_says_it_all(installation):
    """coffer_default need not exist: the policy's first location is opened with the policy's key."""
    assert f"file://{installation.repository}" == opened_url(RepositoryHook())


def test_a_connection_goes_before_the_policy(installation, elsewhere, monkeypatch):
    """Folder and passphrase of the connection are used, not the policy's."""
    monkeypatch.setenv(DEFAULT, connection(host=str(elsewhere), password=PASSPHRASE))
    assert f"file://{elsewhere}" == opened_url(RepositoryHook())


def test_a_connection_may_give_the_key_alone(installation, monkeypatch):
    """Without a folder the policy's first location is opened, with the connection's key file."""
    moved = installation.key_file.rename(installation.folder / "moved.key")
    monkeypatch.setenv(DEFAULT, connection(extra={"key_file": str(moved)}))
    assert f"file://{installation.repository}" == opened_url(RepositoryHook())


def test_a_connection_needs_no_policy(elsewhere, monkeypatch, tmp_path):
    """Where the connection says folder and key, no policy file is asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("coffer_airflow.hooks.repository.find_policy", lambda: tmp_path / "none.yaml")
    monkeypatch.setenv("COFFER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", connection(host=str(elsewhere), password=PASSPHRASE))
    hook = RepositoryHook("other")
    assert f"file://{elsewhere}" == opened_url(hook)
    assert hook.policy is None


def test_the_location_of_a_task_goes_before_the_connection(installation, elsewhere, monkeypatch):
    """A location that the task names is opened, whatever folder the connection has; its key still counts."""
    monkeypatch.setenv(DEFAULT, connection(host=str(elsewhere), extra={"key_file": str(installation.key_file)}))
    assert f"file://{installation.repository}" == opened_url(RepositoryHook(location="primary"))


def test_the_place_is_named_for_people(installation, elsewhere, monkeypatch):
    """A location by its name, a folder by its path."""
    assert "primary" == RepositoryHook().place
    assert "secondary" == RepositoryHook(location="secondary").place
    monkeypatch.setenv(DEFAULT, connection(host=str(elsewhere)))
    assert str(elsewhere) == RepositoryHook().place


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"host": "/a", "extra": {"location": "primary"}}, "a folder and a location"),
        ({"host": "backups/primary"}, "is relative"),
        ({"password": "x", "extra": {"key_file": "/k"}}, "a passphrase and a key file"),
        ({"extra": {"location": "tertiary"}}, "the policy has primary, secondary"),
    ],
)
def test_a_connection_that_cannot_be_meant_is_refused(installation, monkeypatch, fields, message):
    """What is said twice, or counts from an unknown folder, or does not exist, is an error with a hint."""
    monkeypatch.setenv(DEFAULT, connection(**fields))
    with pytest.raises(UsageError, match=message) as caught:
        opened_url(RepositoryHook())
    assert caught.value.hint


def test_a_connection_that_a_task_names_must_exist(installation):
    """A misspelt connection id does not silently become the policy's repository."""
    with pytest.raises(UsageError, match="connection 'coffer_defualt': does not exist"):
        opened_url(RepositoryHook("coffer_defualt"))


def test_a_wrong_passphrase_is_told_without_showing_it(installation, elsewhere, monkeypatch):
    """WrongKeyError, and the passphrase that was tried is in neither message nor hint."""
    monkeypatch.setenv(DEFAULT, connection(host=str(elsewhere), password="not-this-one-either"))
    with pytest.raises(WrongKeyError) as caught:
        opened_url(RepositoryHook())
    assert "not-this-one" not in f"{caught.value} {caught.value.hint} {caught.value.details}"


def test_a_missing_key_file_is_named(installation):
    """The policy's key file is gone: the message says which file."""
    installation.key_file.unlink()
    with pytest.raises(KeyFileError, match=r"coffer\.key: does not exist"):
        opened_url(RepositoryHook())


def test_a_folder_without_a_repository_is_refused(installation, monkeypatch, tmp_path):
    """An empty folder is no repository."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv(DEFAULT, connection(host=str(tmp_path / "empty"), password=PASSPHRASE))
    with pytest.raises(NotARepositoryError):
        opened_url(RepositoryHook())


def test_a_policy_with_mistakes_is_refused(installation):
    """The mistakes are in the message."""
    installation.policy.write_text("sorces: []\n")
    with pytest.raises(PolicyInvalidError, match="sorces"):
        opened_url(RepositoryHook())


def test_a_key_that_nobody_names_is_asked_for(installation):
    """A policy that leaves the passphrase to the terminal is of no use to a task: a hint says where else to give it."""
    with installation.policy.open("a") as file:
        file.write("encryption: {at_rest: {key_storage: passphrase}}\n")
    with pytest.raises((UsageError, PolicyInvalidError)) as caught:
        opened_url(RepositoryHook())
    assert caught.value.hint


def test_the_passphrase_of_the_policy_is_masked(installation, elsewhere, monkeypatch, caplog):
    """After opening, Airflow's masker hides the passphrase wherever it would be logged."""
    from airflow.sdk._shared.secrets_masker import redact

    passphrase = "planted-passphrase-4711"
    make_passphrase_repository(installation.folder / "backups" / "secondary", passphrase)
    monkeypatch.setenv("PLANTED", passphrase)
    text = installation.policy.read_text()
    installation.policy.write_text(
        text.replace("{key_file: keys/coffer.key,", "{passphrase_env: PLANTED,")
        + "encryption: {at_rest: {key_storage: passphrase}}\n"
    )
    with caplog.at_level(logging.DEBUG):
        opened_url(RepositoryHook(location="secondary"))
    assert "planted" not in caplog.text
    assert "planted" not in str(redact(f"the passphrase is {passphrase}"))


def test_the_button_of_the_form_says_what_is_wrong(installation, monkeypatch):
    """test_connection: true with a count, or false with message and hint; it never raises."""
    assert (True, f"file://{installation.repository}: opened, 0 snapshots") == RepositoryHook().test_connection()
    os.rename(installation.repository, installation.folder / "away")
    well, message = RepositoryHook().test_connection()
    assert not well
    assert "HINT: " in message


def test_get_conn_hands_over_an_open_repository(installation):
    """The hook's plain method, for code of others."""
    repository = RepositoryHook().get_conn()
    assert [] == repository.snapshots()
    repository.close()
