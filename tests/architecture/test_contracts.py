"""The import contracts of pyproject.toml hold, and each breaks when a bad import is planted."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.architecture.sources import ROOT, imported_modules, label, python_files, tree

LINT_IMPORTS = shutil.which("lint-imports", path=os.path.dirname(sys.executable))
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
LAYERS = next(contract for contract in CONTRACTS if contract["id"] == "engine-layers")["layers"]
NAMED = [re.findall(r"\w+", layer) for layer in LAYERS]
# (contract, where the bad import is put, the import)
PLANTS = [
    ("engine-below-airflow", "coffer/restore", "import coffer_airflow"),
    ("engine-without-airflow", "coffer/cli", "from airflow.sdk import dag"),
    ("engine-without-airflow", "coffer/repository", "import sqlalchemy"),
    ("engine-layers", "coffer/repository", "from coffer.sources import x"),
    ("engine-layers", "coffer/crypto", "import coffer.repository"),
    ("engine-layers", "coffer/backends", "import coffer.crypto"),
    ("engine-layers", "coffer/sources", "import coffer.restore"),
    ("engine-layers", "coffer/errors", "import coffer.backends"),
    ("engine-layers", "coffer/config", "import coffer.cli"),
]
DAGS_MAY_IMPORT_OF_THE_ENGINE = ("coffer.config", "coffer.errors", "coffer.units")


@pytest.fixture
def skeleton(tmp_path):
    """A project with the engine's packages, each empty, under the project's own contracts."""
    for name in [name for layer in NAMED for name in layer]:
        package = tmp_path / "coffer" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("x = 1\n")
    (tmp_path / "coffer" / "__init__.py").write_text("")
    (tmp_path / "coffer_airflow").mkdir()
    (tmp_path / "coffer_airflow" / "__init__.py").write_text("import coffer.cli\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder):
    """Run the contracts in this folder on the packages that lie there."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200", "NO_COLOR": "1"}
    command = [LINT_IMPORTS, "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_contracts_hold_for_a_clean_skeleton(skeleton):
    """Without a plant nothing breaks; so it is the plant that breaks the contracts below."""
    result = lint(skeleton)
    assert 0 == result.returncode, result.stdout + result.stderr
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in result.stdout


@pytest.mark.parametrize(("contract", "place", "statement"), PLANTS)
def test_each_contract_breaks_on_a_planted_import(skeleton, contract, place, statement):
    """The contract that is meant, and no other, reports the bad import."""
    (skeleton / place / "__init__.py").write_text(f"x = 1\n{statement}\n")
    result = lint(skeleton)
    name = next(entry["name"] for entry in CONTRACTS if entry["id"] == contract)
    assert 1 == result.returncode, result.stdout + result.stderr
    assert f"{name} BROKEN" in result.stdout


def test_every_contract_has_a_plant():
    """A contract that was never seen to break is not known to work."""
    assert {contract["id"] for contract in CONTRACTS} == {contract for contract, _, _ in PLANTS}


def test_a_new_package_must_be_given_its_layer(skeleton):
    """A package that no layer names breaks the contract, so nothing grows outside of it."""
    (skeleton / "coffer" / "newcomer").mkdir()
    (skeleton / "coffer" / "newcomer" / "__init__.py").write_text("")
    result = lint(skeleton)
    assert 1 == result.returncode
    assert "newcomer" in result.stdout


def test_every_layer_exists():
    """The contract names no package that is not there: an optional layer would be checked by nobody."""
    engine = ROOT / "include" / "coffer"
    missing = [
        name for layer in NAMED for name in layer if not ((engine / name).is_dir() or (engine / f"{name}.py").is_file())
    ]
    assert missing == []


def forbidden_in_dags(module):
    """The imports that a DAG file may not have: the engine, but for plain values."""
    return [
        name
        for _, name in imported_modules(module)
        if name.startswith("coffer.") and not name.startswith(DAGS_MAY_IMPORT_OF_THE_ENGINE)
    ]


def test_dags_import_of_the_engine_only_plain_values():
    """A DAG file is wiring: of the engine it takes the policy, units and errors, and never what does I/O."""
    import ast

    planted = ast.parse("def f():\n    from coffer.repository import Repository\nfrom coffer.config import policy\n")
    assert ["coffer.repository.Repository"] == forbidden_in_dags(planted)
    found = {label(path): names for path in python_files("dags") if (names := forbidden_in_dags(tree(path)))}
    assert found == {}


def test_nothing_imports_the_dags():
    """`dags` is the top: neither the engine nor its Airflow side imports from it."""
    found = [
        f"{label(path)}:{line}: {name}"
        for path in python_files("include", "plugins", "scripts", "benchmarks")
        for line, name in imported_modules(tree(path))
        if name.split(".")[0] == "dags"
    ]
    assert found == []
