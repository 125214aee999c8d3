"""The error tree: one base, transient or permanent, a code, a hint, a pickle and a line in docs/errors.md."""

import ast
import inspect
import pickle
import re
import subprocess
import sys

import pytest

from coffer import errors, errors_postgres
from tests.architecture.sources import PRODUCTION, ROOT, label, python_files, tree

MODULES = (errors, errors_postgres)
TREE = [
    cls
    for module in MODULES
    for _, cls in inspect.getmembers(module, inspect.isclass)
    if cls.__module__ == module.__name__
]
ERRORS = [cls for cls in TREE if issubclass(cls, BaseException)]
LEAVES = [cls for cls in ERRORS if not cls.__subclasses__()]
BRANCHES = (errors.TransientError, errors.PermanentError)
DOCUMENT = ROOT / "docs" / "errors.md"


def test_the_tree_is_not_empty():
    """The introspection finds the tree; an empty list would make every test below pass."""
    assert {errors.CofferError, *BRANCHES} <= set(ERRORS)
    assert len(LEAVES) > 20


@pytest.mark.parametrize("cls", ERRORS)
def test_every_error_has_the_base(cls):
    """`except CofferError` catches all that Coffer raises on purpose."""
    assert issubclass(cls, errors.CofferError)


@pytest.mark.parametrize("cls", [cls for cls in ERRORS if cls is not errors.CofferError])
def test_every_error_is_either_transient_or_permanent(cls):
    """Whether to try again is answered by the class, and `transient` says the same."""
    kinds = [branch for branch in BRANCHES if issubclass(cls, branch)]
    assert len(kinds) == 1
    assert (kinds == [errors.TransientError]) == cls.transient


def test_every_error_has_a_code_of_its_own():
    """A code names one class for ever; programs and receipts keep it."""
    codes = [cls.__dict__.get("code") for cls in ERRORS]
    assert all(codes), [cls for cls in ERRORS if not cls.__dict__.get("code")]
    assert len(set(codes)) == len(codes)
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)] == []


@pytest.mark.parametrize("cls", LEAVES)
def test_every_leaf_says_when_it_is_raised_and_what_to_do(cls):
    """The docstring begins `Raised when`; the hint is a sentence with a period or a question."""
    assert inspect.getdoc(cls).startswith("Raised when ")
    assert re.search(r"^[A-Z].*[.?]$", cls("x").hint), cls.__name__


@pytest.mark.parametrize("cls", ERRORS)
def test_every_error_survives_a_pickle(cls):
    """Airflow carries exceptions between processes: class, message, hint and details arrive."""
    sent = cls("pack 3f2a: header is short, 12 bytes", hint="Do this.", size_bytes=12, names=["a", "b"])
    got = pickle.loads(pickle.dumps(sent))
    assert (cls, str(sent), "Do this.", sent.details) == (type(got), str(got), got.hint, got.details)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_tree_in_the_module_docstring_names_every_class(module):
    """The drawing at the head of the module is the tree that its code has, hung below what it imports."""
    drawn = re.findall(r"\b([A-Z]\w+Error)\b", inspect.getdoc(module))
    there = {name for name, cls in inspect.getmembers(module, inspect.isclass) if cls in ERRORS}
    assert sorted(there) == sorted(set(drawn))


def test_every_error_has_its_line_in_the_documentation():
    """docs/errors.md holds exactly one row for each class: code, name, whether to try again."""
    rows = re.findall(r"^\| `([a-z-]+)` \| `(\w+)` \| (yes|no) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    concrete = [cls for cls in ERRORS if cls not in (errors.CofferError, *BRANCHES)]
    expected = [(cls.code, cls.__name__, "yes" if cls.transient else "no") for cls in concrete]
    assert sorted(expected) == sorted(rows)


def test_the_page_of_errors_is_what_the_code_says():
    """docs/errors.md is made from the code; an old page is an error."""
    command = [sys.executable, str(ROOT / "scripts" / "generate_errors_md.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (result.returncode, result.stderr)


def raised_names(module):
    """The names of the classes that the code raises by a call."""
    raises = (node.exc for node in ast.walk(module) if isinstance(node, ast.Raise))
    return {call.func.id for call in raises if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}


def test_nothing_raises_a_class_that_says_nothing():
    """Exception, RuntimeError and AirflowException tell a caller nothing; no file of ours raises one."""
    vague = {"Exception", "BaseException", "RuntimeError", "SystemError", "AirflowException"}
    assert {"RuntimeError"} == raised_names(ast.parse("def f():\n    raise RuntimeError('planted')")) & vague
    found = {label(path): names for path in python_files(*PRODUCTION) if (names := raised_names(tree(path)) & vague)}
    assert found == {}
