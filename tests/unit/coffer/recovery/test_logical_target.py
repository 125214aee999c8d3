"""The statement that makes a database like a recorded one."""

import pytest

from coffer.postgres.logical_record import DatabaseRecord
from coffer.recovery.logical_target import create_statement

START = "CREATE DATABASE \"new\" TEMPLATE template0 ENCODING 'UTF8'"


def record(**properties):
    return DatabaseRecord("old", 150018, "UTF8", properties, (), "0/1", large_objects=False, whole=True)


CASES = [
    ({"datcollate": "C", "datctype": "C"}, 140000, " LC_COLLATE 'C' LC_CTYPE 'C'"),
    ({"datcollate": "C", "datctype": "C"}, 150000, " LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"),
    (
        {"datlocprovider": "i", "datcollate": "de_DE", "datctype": "C", "daticulocale": "de"},
        180000,
        " LOCALE_PROVIDER icu LC_COLLATE 'de_DE' LC_CTYPE 'C' ICU_LOCALE 'de'",
    ),
    (
        {"datlocprovider": "i", "datcollate": "C", "datctype": "C", "datlocale": "de", "daticurules": "&a<b'"},
        180000,
        " LOCALE_PROVIDER icu LC_COLLATE 'C' LC_CTYPE 'C' ICU_LOCALE 'de' ICU_RULES '&a<b'''",
    ),
    (
        {"datlocprovider": "b", "datcollate": "C", "datctype": "C", "datlocale": "C.UTF-8"},
        180000,
        " LOCALE_PROVIDER builtin LC_COLLATE 'C' LC_CTYPE 'C' BUILTIN_LOCALE 'C.UTF-8'",
    ),
]


@pytest.mark.parametrize(("properties", "version", "expected"), CASES)
def test_a_new_database_has_the_locale_of_the_old_one(properties, version, expected):
    """Whatever the version calls it: the provider came with 15, its column was renamed in 17."""
    assert START + expected == create_statement(record(**properties), "new", version)
