"""The tests themselves: each says what it claims, none sleeps, none is switched off."""

import ast

from tests.architecture.sources import cases_in, imported_modules, label, python_files, tree

TEST_FILES = [path for path in python_files("tests") if path.name.startswith("test_")]


def test_every_test_states_its_claim():
    """Every test function has a docstring."""
    everything = [(path, function) for path in TEST_FILES for function in cases_in(tree(path))]
    assert len(everything) > 20
    silent = [f"{label(path)}:{function.lineno}" for path, function in everything if not ast.get_docstring(function)]
    assert silent == []


def test_no_test_really_sleeps():
    """Time is set, not waited for: no test calls time.sleep."""
    found = [
        f"{label(path)}:{node.lineno}"
        for path in python_files("tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    ]
    assert found == []


def test_no_name_is_taken_twice_in_a_file():
    """A second test of the same name would silently replace the first."""
    found = []
    for path in TEST_FILES:
        for scope in [tree(path), *(node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))]:
            names = [
                node.name for node in scope.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            ]
            found += [f"{label(path)}: {name}" for name in set(names) if names.count(name) > 1]
    assert found == []


def test_skips_and_expected_failures_carry_their_reason():
    """A skip is not a pass: each one says why, and an expected failure is not used at all."""
    found = []
    for path in python_files("tests"):
        for node in ast.walk(tree(path)):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("pytest.skip", "pytest.importorskip", "pytest.mark.skipif", "pytest.mark.skip"):
                reasons = [keyword for keyword in node.keywords if keyword.arg == "reason"]
                if not reasons and not (name == "pytest.skip" and node.args):
                    found.append(f"{label(path)}:{node.lineno}: {name} without a reason")
            if name in ("pytest.xfail", "pytest.mark.xfail"):
                found.append(f"{label(path)}:{node.lineno}: {name}")
    assert found == []


def test_randomness_is_seeded():
    """No test draws from the global random generator: a failure must come again."""
    drawn = {"random", "randbytes", "randint", "choice", "shuffle", "sample", "randrange", "uniform", "getrandbits"}
    found = [
        f"{label(path)}:{node.lineno}"
        for path in python_files("tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "random"
        and node.func.attr in drawn
    ]
    assert found == []


def test_tests_do_not_import_each_other():
    """What tests share lies in tests/harness or beside them under a name of its own, not in a test file."""
    found = [
        f"{label(path)}:{line}: {name}"
        for path in python_files("tests")
        for line, name in imported_modules(tree(path))
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
    ]
    assert found == []
