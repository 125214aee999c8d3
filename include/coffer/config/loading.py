"""From the policy file to a policy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from coffer.config.mistakes import PolicyMistake, format_mistake
from coffer.config.policy import Policy
from coffer.config.trust import distrust
from coffer.config.validation import examine
from coffer.errors import PolicyInvalidError

_MAX_POLICY_BYTES = 2**20  # a thousand sources are about 200 kB; a larger file is another file
_TRUSTED = "a file and folder of root or of yourself that nobody else may write; or name the file in COFFER_POLICY"
_MAX_IN_MESSAGE = 5  # the rest is in the error's details
# include/coffer/config/loading.py -> the project's folder, where the code was installed to be edited
_PROJECT = Path(__file__).resolve().parents[3]
_BELOW = Path("config", "coffer.yaml")


def find_policy(environment: Mapping[str, str] | None = None) -> Path:
    """Return where the policy file is expected, absolute; it need not exist.

    The variable COFFER_POLICY names it; else it is ``config/coffer.yaml`` in the working folder, and if there is none,
    in the project that this code runs from. Folders above the working folder are not searched: in a shared one such as
    /tmp, another user could have put a policy there. One in the working folder itself is refused, when it is read, if
    others than root and this user own it or may write it, unless COFFER_POLICY names it.

    Args:
        environment: Environment variables; those of the process where omitted.
    """
    given = (os.environ if environment is None else environment).get("COFFER_POLICY")
    if given:
        return Path(os.path.abspath(os.path.expanduser(given)))
    here = Path.cwd() / _BELOW
    return _PROJECT / _BELOW if (_PROJECT / _BELOW).is_file() and not here.is_file() else here


def project_folder_of(path: Path) -> Path:
    """Return the folder that relative paths of a policy file count from, absolute.

    It is the folder that holds ``config/`` if the file lies in a folder of that name, else the file's own folder.
    """
    folder = Path(os.path.abspath(path)).parent
    return folder.parent if folder.name == "config" else folder


def load_policy(path: Path | str | None = None) -> Policy:
    """Read and check the policy file.

    Args:
        path: The file; `find_policy` says which where omitted.

    Raises:
        PolicyInvalidError: It cannot be read or has mistakes; ``details["mistakes"]`` has them all as text, and
            `check_policy` gives them in parts.
    """
    policy_path = find_policy() if path is None else Path(path)
    policy, mistakes = _read(policy_path)
    if policy is None:
        raise _invalid(policy_path, mistakes)
    return policy


def check_policy(path: Path | str | None = None) -> list[PolicyMistake]:
    """Return every mistake in the policy file, in the order of the file; an empty list if it has none.

    Args:
        path: The file; `find_policy` says which where omitted.
    """
    return _read(find_policy() if path is None else Path(path))[1]


def parse_policy(text: str, project_folder: Path) -> Policy:
    """Return the policy that a text says.

    Args:
        text: What would be in the policy file.
        project_folder: What relative paths count from, absolute.

    Raises:
        PolicyInvalidError: It has mistakes; as in `load_policy`.
    """
    policy, mistakes = examine(text, project_folder)
    if policy is None:
        raise _invalid(Path("policy"), mistakes)
    return policy


def _read(path: Path) -> tuple[Policy | None, list[PolicyMistake]]:
    try:
        doubt = distrust(path) if _was_not_named(path) else ""
        if doubt:
            return None, [_unreadable(f"not trusted: the {doubt}", _TRUSTED)]
        with path.open("rb") as file:
            content = file.read(_MAX_POLICY_BYTES + 1)
    except OSError as error:
        return None, [_unreadable(f"cannot be read: {error.strerror}", "a readable file; COFFER_POLICY names another")]
    if len(content) > _MAX_POLICY_BYTES:
        return None, [_unreadable("larger than 1 MiB", "a policy file")]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        return None, [PolicyMistake(line, column, "", "not UTF-8", "a text in UTF-8")]
    return examine(text, project_folder_of(path))


def _was_not_named(path: Path) -> bool:
    """Say whether a policy is taken only since it lies in the working folder.

    The project's own is another matter: whoever can change that file can change this code.
    """
    if os.environ.get("COFFER_POLICY") or path != Path.cwd() / _BELOW:
        return False
    return not (_PROJECT.is_dir() and Path.cwd().samefile(_PROJECT))


def _unreadable(problem: str, allowed: str) -> PolicyMistake:
    return PolicyMistake(0, 0, "", problem, allowed)


def _invalid(path: Path, mistakes: list[PolicyMistake]) -> PolicyInvalidError:
    texts = tuple("\n".join(format_mistake(mistake, path.name)) for mistake in mistakes)
    first = [format_mistake(mistake, path.name)[0] for mistake in mistakes[:_MAX_IN_MESSAGE]]
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    more = [f"and {len(mistakes) - len(first)} more"] if len(mistakes) > len(first) else []
    return PolicyInvalidError("\n  ".join([f"policy {path}: {count}", *first, *more]), mistakes=texts)
