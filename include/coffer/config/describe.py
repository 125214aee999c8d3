"""What the models allow, in words: the one source of both the mistakes and the reference page."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Le, MinLen
from pydantic.fields import FieldInfo

from coffer.config.base import PolicyModel
from coffer.config.values import ONCE, Spelling


class Description(NamedTuple):
    """What one kind of value is.

    Attributes:
        kind: One or two words for the type.
        allowed: What is allowed, in words.
        words: The allowed words, where there is a closed set of them.
        item: The type within, for a list or a mapping with free names; None for others.
        models: The models that a mapping with fixed keys may be: several where one key chooses.
    """

    kind: str
    allowed: str
    words: tuple[str, ...] = ()
    item: Any = None
    models: tuple[type[PolicyModel], ...] = ()


_PLAIN = {
    bool: Description("true or false", "true or false", ("true", "false")),
    int: Description("whole number", "a whole number"),
    str: Description("text", "a text"),
}


def describe(annotation: Any, metadata: tuple[Any, ...] = ()) -> Description:
    """Return what a type of the models allows.

    Args:
        annotation: The type, as annotated or as pydantic keeps it in a field.
        metadata: What pydantic has stripped from around the type.
    """
    if get_origin(annotation) is Annotated:
        inner, *around = get_args(annotation)
        return describe(inner, (*around, *metadata))
    for item in metadata:
        if isinstance(item, Spelling):
            return Description(item.kind, item.allowed)
    if get_origin(annotation) in (Union, types.UnionType):
        return _describe_union([part for part in get_args(annotation) if part is not type(None)], metadata)
    if get_origin(annotation) is Literal:
        words = tuple(str(word).lower() if isinstance(word, bool) else str(word) for word in get_args(annotation))
        return Description("word", " or ".join(words) if len(words) < 3 else ", ".join(words), words)
    if get_origin(annotation) is tuple:
        return _describe_list(get_args(annotation)[0], metadata)
    if get_origin(annotation) is Mapping:
        item = get_args(annotation)[1]
        return Description("mapping", "names of your choice, each with its keys below it", item=item)
    if isinstance(annotation, type) and issubclass(annotation, PolicyModel):
        return Description(
            "block", f"a mapping with the keys {', '.join(annotation.model_fields)}", models=(annotation,)
        )
    return _with_range(_PLAIN[annotation], metadata)


def describe_field(field: FieldInfo) -> Description:
    """Return what a field of a model allows."""
    return describe(field.annotation, tuple(field.metadata))


def _describe_union(parts: list[Any], metadata: tuple[Any, ...]) -> Description:
    if len(parts) == 1:
        return describe(parts[0], metadata)
    models = tuple(parts)
    kinds = " or ".join(map(type_of, models))
    return Description("block", f"a mapping with the key type: {kinds}, and that type's keys", models=models)


def _describe_list(item: Any, metadata: tuple[Any, ...]) -> Description:
    inner = describe(item)
    plural = inner.kind + ("es" if inner.kind.endswith("s") else "s")
    some = _limit(metadata, MinLen, "min_length")
    once = ", each once" if ONCE in metadata else ""
    if inner.words:
        allowed = f"a list of {'one or more' if some else 'any'} of {inner.allowed}{once}"
    else:
        allowed = f"a list of {'one or more' if some else 'any number of'} {plural}{once}; for each: {inner.allowed}"
    return Description(f"list of {plural}", allowed, inner.words, item=item)


def _with_range(plain: Description, metadata: tuple[Any, ...]) -> Description:
    low, high = _limit(metadata, Ge, "ge"), _limit(metadata, Le, "le")
    if low is None:
        return plain
    return plain._replace(allowed=f"{plain.allowed} from {low} to {high}")


def _limit(metadata: tuple[Any, ...], kind: type, name: str) -> Any:
    """Return a limit that stands in the metadata, by itself or within a pydantic field."""
    for item in metadata:
        if isinstance(item, FieldInfo):
            found = _limit(tuple(item.metadata), kind, name)
            if found is not None:
                return found
        elif isinstance(item, kind):
            return getattr(item, name)
    return None


def known_keys(models: tuple[type[PolicyModel], ...]) -> tuple[str, ...]:
    """Return the keys that any of the models has, in their order, each once."""
    return tuple(dict.fromkeys(key for model in models for key in model.model_fields))


class Entry(NamedTuple):
    """A key that the policy may hold.

    Attributes:
        key: Its path: ``<name>`` stands for a name of your choice, ``[]`` for the items of a list.
        name: The last part of the path.
        model: The model that holds it.
        field: Its field in the model.
        description: What is allowed.
        variant: The ``type`` of the block that holds it, where blocks of several types may stand; else empty.
    """

    key: str
    name: str
    model: type[PolicyModel]
    field: FieldInfo
    description: Description
    variant: str


def walk(model: type[PolicyModel], before: str = "", variant: str = "") -> Iterator[Entry]:
    """Yield all keys below a model, each before the keys within it, in the order of the models.

    A key that several members of a union have comes once for each.
    """
    for name, field in model.model_fields.items():
        key = before + name
        description = describe_field(field)
        yield Entry(key, name, model, field, description, variant)
        while description.item is not None:
            key += "[]" if get_origin(field.annotation) is tuple else ".<name>"
            description = describe(description.item)
        for inner in description.models:
            yield from walk(inner, key + ".", type_of(inner) if len(description.models) > 1 else "")


def type_of(model: type[PolicyModel]) -> str:
    """Return the word that the key ``type`` of a model allows, which is what tells it from its siblings."""
    return describe_field(model.model_fields["type"]).words[0]
