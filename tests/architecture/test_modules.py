"""Names and sizes of modules, and what Airflow's loader must not find."""

import ast
import importlib
import pkgutil
import sys

import pytest

import coffer
import coffer_airflow
from tests.architecture.sources import PRODUCTION, ROOT, functions, label, python_files, tree

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
PACKAGES = (coffer, coffer_airflow)


def module_names():
    """The dotted names of all modules of both packages."""
    for package in PACKAGES:
        yield package.__name__
        yield from (info.name for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


def test_no_module_is_named_like_one_of_the_standard_library():
    """Airflow loads files below plugins/ by their bare name, so `select.py` would replace the standard `select`."""
    files = python_files("plugins", "dags", "scripts", "demo", "tests", "benchmarks")
    names = {path.stem: label(path) for path in files if path.stem not in ("__init__", "__main__")}
    assert len(names) > 5
    taken = {where for name, where in names.items() if name in sys.stdlib_module_names}
    assert taken == set()


def test_no_package_of_the_engine_hides_the_standard_library():
    """`coffer.x` is safe from Airflow's loader, but a reader should never have to ask which `copy` is meant."""
    taken = [name for name in module_names() if name.split(".")[-1] in sys.stdlib_module_names]
    assert taken == []


def test_there_is_no_dumping_ground():
    """A module is named for its subject; `utils` and its like have none."""
    grounds = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "shared"}
    assert [name for name in module_names() if name.split(".")[-1] in grounds] == []


@pytest.mark.parametrize("name", list(module_names()))
def test_what_a_module_exports_exists(name):
    """Every name of `__all__` is there, and once."""
    if name.endswith("__main__"):
        return
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert [entry for entry in exported if not hasattr(module, entry)] == []
    assert len(set(exported)) == len(exported)


def test_the_packages_are_typed():
    """py.typed lies in both packages, so that a caller's mypy reads their annotations."""
    assert all((ROOT / folder / "py.typed").is_file() for folder in ("include/coffer", "plugins/coffer_airflow"))


def code_lines(function):
    """The lines of a function without its docstring (a contract may be long, the code may not)."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_functions_fit_on_a_screen():
    """A function does one job: at most 60 lines without its docstring."""
    planted = ast.parse("def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX)
    assert [FUNCTION_LINES_MAX + 1] == [code_lines(function) for function in functions(planted)]
    found = [
        f"{label(path)}:{function.lineno}: {function.name} has {code_lines(function)} lines"
        for path in python_files(*PRODUCTION)
        for function in functions(tree(path))
        if code_lines(function) > FUNCTION_LINES_MAX
    ]
    assert found == []


def test_files_have_one_subject():
    """A file has at most 500 lines, tests too."""
    sizes = {label(path): path.read_bytes().count(b"\n") for path in python_files(*PRODUCTION, "tests")}
    assert {name: lines for name, lines in sizes.items() if lines > FILE_LINES_MAX} == {}


def test_no_star_imports():
    """Every name in a file can be found where it is imported."""
    found = [
        f"{label(path)}:{node.lineno}"
        for path in python_files(*PRODUCTION, "tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]
    assert found == []
