"""Roles on their way back: what is there already is no failure, everything else is."""

import pytest

from coffer.errors_postgres import PostgresAuthError, PostgresError, PostgresUnavailableError
from coffer.postgres.programs import find_programs
from coffer.recovery.logical_archive import ContentStream
from coffer.recovery.logical_programs import Client
from tests.harness.logical import PROGRAMS_VARIABLE, all_programs, superuser

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server(servers):
    """A server for this file."""
    return servers.start()


@pytest.fixture
def client(server, monkeypatch):
    """The programs of the server's version."""
    monkeypatch.setenv(PROGRAMS_VARIABLE, all_programs())
    return Client(find_programs(("pg_restore", "psql"), at_least=server.installation.major), "here")


def script(text):
    return ContentStream(iter([text.encode()]))


def test_every_statement_of_roles_is_tried(server, client):
    """One that exists is told, one that fails is an error with its words, and those after it are carried out."""
    text = "CREATE ROLE backup;\nCREATE ROLE first_one;\nALTER ROLE nobody_knows NOLOGIN;\nCREATE ROLE last_one;\n"
    with pytest.raises(PostgresError, match=r'1 statements .* the first: role "nobody_knows" does not exist') as caught:
        client.restore_roles(script(text), superuser(server))
    assert ['role "nobody_knows" does not exist'] == caught.value.details["failures"]
    assert 2 == server.value("SELECT count(*) FROM pg_roles WHERE rolname IN ('first_one', 'last_one')")
    server.sql("DROP ROLE first_one, last_one")


def test_hundreds_of_roles_that_are_there_hide_no_failure(server, client):
    """However long the list of them is, the first failure is still seen."""
    text = "DROP ROLE nobody_knows;\n" + "CREATE ROLE backup;\n" * 2000
    with pytest.raises(PostgresError, match='role "nobody_knows" does not exist'):
        client.restore_roles(script(text), superuser(server))


def test_a_server_that_refuses_is_told_as_such(server, client):
    """A wrong password, and a server that is not there, are no failed statements."""
    with pytest.raises(PostgresAuthError):
        client.restore_roles(script("SELECT 1;"), server.connection(password="wrong"))
    with pytest.raises(PostgresUnavailableError):
        client.restore_roles(script("SELECT 1;"), server.connection(port=1))


def test_what_is_no_archive_is_told(client):
    """The list of an archive that is damaged is an error with the words of pg_restore."""
    with pytest.raises(PostgresError, match="pg_restore of the archive: "):
        client.list_entries(b"nothing of the kind")
