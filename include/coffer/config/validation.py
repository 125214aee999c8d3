"""Plain data to a policy, or to the list of everything that is wrong with it."""

from __future__ import annotations

import difflib
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from coffer.config.crosscheck import Finding, find_conflicts
from coffer.config.describe import Description, Entry, describe, describe_field, known_keys, type_of, walk
from coffer.config.document import Document, Path, parse_document
from coffer.config.mistakes import PolicyMistake, key_text, may_be_secret, shown_value
from coffer.config.policy import Policy
from coffer.config.values import PROJECT_FOLDER, Name
from coffer.units import UnitError

_TOP = Description("block", "", models=(Policy,))

_NO_SECRETS = "no secret is kept in the policy: name an environment variable (repository.passphrase_env) or a file"


def examine(text: str, project_folder: FilePath) -> tuple[Policy | None, list[PolicyMistake]]:
    """Return the policy that a text says, or None and every mistake in it, in the order of the file.

    Args:
        text: The policy file's content.
        project_folder: What relative paths count from, absolute.
    """
    document = parse_document(text)
    mistakes = [
        PolicyMistake(form.place.line, form.place.column, key_text(form.path), form.problem, form.allowed)
        for form in document.mistakes
    ]
    if not isinstance(document.data, dict) or not document.data:
        return None, mistakes or [_not_a_policy(document)]
    policy: Policy | None = None
    try:
        policy = Policy.model_validate(document.data, context={PROJECT_FOLDER: project_folder})
    except ValidationError as error:
        # include_input and include_url off: nothing of the file gets into a message but through shown_value.
        errors = error.errors(include_url=False, include_input=False)
        mistakes += [_of_error(document, details) for details in errors if not _is_consequence(document, details)]
    if not document.unread:  # where a block could not be read, what it would have named is missing too
        mistakes += [_of_finding(document, finding) for finding in find_conflicts(document.data, project_folder)]
    return (None if mistakes else policy), sorted(set(mistakes), key=_order)


def _order(mistake: PolicyMistake) -> tuple[int, int, str, str]:
    return mistake.line, mistake.column, mistake.key, mistake.problem


def _not_a_policy(document: Document) -> PolicyMistake:
    problem = "the policy is empty" if document.data in (None, {}) else "the policy is not a mapping"
    place = document.place_of(())
    return PolicyMistake(place.line, place.column, "", problem, f"the keys {', '.join(Policy.model_fields)}")


# ------------------------------------------------------------------------------------------------ pydantic's errors


def _is_consequence(document: Document, details: Any) -> bool:
    """Tell whether an error only says that a list is empty once its bad items are left out."""
    return details["type"] == "too_short" and bool(_locate(document.data, details["loc"])[1])


def _of_error(document: Document, details: Any) -> PolicyMistake:
    """Return the mistake that one error of pydantic's means."""
    path, value, around, description = _locate(document.data, details["loc"])
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(document, path, around)
    if kind == "missing":
        return _mistake(document, path, f"the key {path[-1]!r} is missing", description)
    if kind == "union_tag_not_found":
        return _mistake(document, (*path, "type"), "the key 'type' is missing", _type_of(description))
    if kind == "union_tag_invalid":
        return _mistake(
            document, (*path, "type"), "not one of the words allowed", _type_of(description), context["tag"]
        )
    if kind == "value_error" and isinstance(context["error"], UnitError):
        # The cause may quote the value, so it is kept back together with it.
        problem = "not usable" if may_be_secret(path, value) else context["error"].why
        return _mistake(document, path, problem, description, value)
    return _mistake(document, path, _problem(kind, value), description, value)


def _locate(data: Any, loc: tuple[str | int, ...]) -> tuple[Path, Any, Description, Description]:
    """Follow one of pydantic's locations through the data and the models at once.

    Pydantic puts the tag of a union's member and a ``[key]`` mark in between, which are no keys of the document.

    Returns:
        The path in the document, the value there, and what is allowed around it and at it.
    """
    path: Path = ()
    around = at = _TOP
    value = data
    for part in loc:
        if part == "[key]":
            return path, None, around, describe(Name)
        if len(at.models) > 1:  # what follows a union is the tag, even if the block has a key of that name
            at = at._replace(models=tuple(model for model in at.models if type_of(model) == part))
            continue
        around, at = at, _step(at, part)
        path = (*path, part)
        value = _child(value, part)
    return path, value, around, at


def _step(at: Description, part: str | int) -> Description:
    """Return what is allowed one key or index further in."""
    if at.item is not None:
        return describe(at.item)
    for model in at.models:
        if part in model.model_fields:
            return describe_field(model.model_fields[str(part)])
    return Description("", "")


def _child(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def _type_of(description: Description) -> Description:
    words = tuple(map(type_of, description.models))
    return Description("word", " or ".join(words), words)


_PROBLEMS = {
    "literal_error": "not one of the words allowed",
    "greater_than_equal": "too small",
    "less_than_equal": "too large",
    "too_short": "empty",
}


def _problem(kind: str, value: object) -> str:
    if kind in _PROBLEMS and value is not None:
        return _PROBLEMS[kind]
    if value is None:
        return "there is no value"
    return f"{_found(value)} is not allowed here"


def _found(value: object) -> str:
    kinds = (
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number with a point"),
        (str, "a text"),
        (list, "a list"),
        (dict, "a mapping"),
    )
    return next(words for kind, words in kinds if isinstance(value, kind))


def _mistake(
    document: Document, path: Path, problem: str, description: Description, value: object = None
) -> PolicyMistake:
    place = document.place_of(path)
    shown = shown_value(path, value)
    nearest = _nearest(shown, description.words) if shown is not None else None
    return PolicyMistake(place.line, place.column, key_text(path), problem, description.allowed, shown, nearest)


def _nearest(word: str, known: tuple[str, ...]) -> str | None:
    """Return the known word that is most like another, None if none is much like it."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), by_lower, n=1, cutoff=0.7)
    return by_lower[near[0]] if near else None


def _of_finding(document: Document, finding: Finding) -> PolicyMistake:
    """Return the mistake that joins several keys, shown at one of them."""
    value: Any = document.data
    for part in finding.path:
        value = _child(value, part)
    place, shown = document.place_of(finding.path), shown_value(finding.path, value)
    nearest = _nearest(shown, finding.candidates) if shown is not None else None
    return PolicyMistake(
        place.line, place.column, key_text(finding.path), finding.problem, finding.allowed, shown, nearest
    )


def _unknown_key(document: Document, path: Path, around: Description) -> PolicyMistake:
    place, key, keys = document.place_of(path), str(path[-1]), known_keys(around.models)
    nearest = _nearest(key, keys) or _elsewhere(path)
    allowed = f"the keys {', '.join(keys)}"
    if may_be_secret((key,), ""):
        allowed += f"; {_NO_SECRETS}"
    return PolicyMistake(place.line, place.column, key_text(path), "unknown key", allowed, None, nearest)


def _elsewhere(path: Path) -> str | None:
    """Return where else in the policy a key of that name is known, None if nowhere."""
    for entry in walk(Policy):
        if entry.name == path[-1] and not _is_same_place(path, entry):
            return entry.key
    return None


def _is_same_place(path: Path, entry: Entry) -> bool:
    """Tell whether an entry is the very key at the path, which another type of block may have there."""
    parts = entry.key.replace("[]", ".[]").split(".")
    free = ("<name>", "[]")
    return len(parts) == len(path) and all(
        known in free or known == part for known, part in zip(parts, path, strict=True)
    )
