"""The project's own files, as the architecture tests read them."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Folders whose Python files ship or run in production; tests are held to other rules.
PRODUCTION = ("include", "plugins", "dags", "scripts", "demo", "benchmarks")


@cache
def project_files() -> tuple[Path, ...]:
    """Every file that is in the repository or would be added to it, sorted; nothing that git ignores."""
    # safe.directory: a clone that another user owns (as in a container) is read all the same
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    return tuple(sorted(ROOT / name for name in names if name and (ROOT / name).is_file()))


def python_files(*folders: str) -> list[Path]:
    """The project's Python files below any of these folders of the root."""
    return [path for path in project_files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]


def text_files() -> Iterator[tuple[Path, str]]:
    """Every file of the project that is UTF-8 text, with its text."""
    for path in project_files():
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of one Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_modules(module: ast.AST) -> Iterator[tuple[int, str]]:
    """Every module that the code imports, at any depth: (line, dotted name); `from a import b` gives `a.b`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names)


def functions(module: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of the code, nested ones and methods too."""
    return (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def cases_in(module: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The test functions and test methods of the code."""
    return [function for function in functions(module) if function.name.startswith("test_")]


def label(path: Path) -> str:
    """The file's name within the project."""
    return str(path.relative_to(ROOT))
