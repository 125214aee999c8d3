"""The connection type `coffer`, as Airflow finds it."""

import importlib
import importlib.metadata

from coffer_airflow.provider import get_provider_info


def test_the_installed_package_announces_the_connection_type():
    """The entry point that Airflow looks for leads to this function, under the distribution's own name."""
    found = [
        entry
        for entry in importlib.metadata.entry_points(group="apache_airflow_provider")
        if entry.value.startswith("coffer_airflow")
    ]
    assert ["coffer_airflow.provider:get_provider_info"] == [entry.value for entry in found]
    assert found[0].dist.metadata["Name"] == get_provider_info()["package-name"]


def test_the_hook_is_where_the_description_says():
    """The class is importable, and has the connection type under which it is announced."""
    described = get_provider_info()["connection-types"][0]
    module, _, name = described["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert (described["connection-type"], described["hook-name"]) == (hook.conn_type, hook.hook_name)
    assert described["hook-class-name"] == f"{hook.__module__}.{hook.__qualname__}"


def test_the_form_has_its_fields():
    """The API gives the UI: folder and passphrase under our labels, location and key file, and no login or port."""
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    form = next(meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "coffer")
    assert "Coffer repository" == form.hook_name
    assert ("Repository folder", "Passphrase") == (form.standard_fields.host.title, form.standard_fields.password.title)
    assert form.standard_fields.login.hidden
    assert form.standard_fields.port.hidden
    assert {"location", "key_file"} == set(form.extra_fields)
