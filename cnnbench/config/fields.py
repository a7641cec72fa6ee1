"""The fields of the schema: which keys there are, and what each may hold."""

import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

__all__ = ["Allowed", "allowed_by", "fields_of", "group_of", "list_keys", "read_scalars"]

BOOLEANS = {
    **dict.fromkeys(("true", "on", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "off", "no", "n", "0"), False),
}


class Allowed(NamedTuple):
    """What a type allows, null aside."""

    kinds: list[Any]  # bool, int, float, str, list and groups
    choices: list[Any]  # of a Literal, or the names of groups
    limits: list[msgspec.Meta]
    item: Any  # the type of the items of a list
    description: str  # in words, if it has any


@cache
def allowed_by(hint: Any) -> Allowed:
    """Return what a type allows."""
    kinds: list[Any] = []
    choices: list[Any] = []
    limits, item, description = [], None, ""
    for part in _split(hint):
        if isinstance(part, msgspec.Meta):
            limits.append(part)
            description = part.description or description
        elif get_origin(part) is Literal:
            choices += get_args(part)
        elif get_origin(part) is list:
            kinds.append(list)
            (item,) = get_args(part)
        elif part is not types.NoneType:
            kinds.append(part)
            if tag := _tag(part):
                choices.append(tag)
    return Allowed(kinds, choices, limits, item, description)


def _split(hint: Any) -> Iterator[Any]:
    """Yield the alternatives of a union, and what annotates them."""
    if get_origin(hint) is Annotated:
        yield from _split(hint.__origin__)
        yield from hint.__metadata__
    elif get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _split(part)
    else:
        yield hint


def _tag(kind: Any) -> Any:
    return kind.__struct_config__.tag if hasattr(kind, "__struct_config__") else None


@cache
def fields_of(group: Any) -> dict[str, Any]:
    """Return the keys of a group and their types."""
    name = {"name": str} if _tag(group) else {}
    return name | {field.name: field.type for field in msgspec.structs.fields(group)}


def group_of(hint: Any, values: Mapping[str, Any]) -> Any:
    """Return the group that has these values, by their name if there are several, or None."""
    groups = [kind for kind in allowed_by(hint).kinds if hasattr(kind, "__struct_config__")]
    return next((kind for kind in groups if _tag(kind) in (None, values.get("name"))), None)


def list_keys(hint: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys and their types; a group with choices has the keys of all."""
    groups = [kind for kind in allowed_by(hint).kinds if hasattr(kind, "__struct_config__")]
    for group in groups:
        for name, inner in fields_of(group).items():
            yield from list_keys(inner, f"{above}.{name}" if above else name)
    if not groups:
        yield above, hint


def read_scalars(value: Any, hint: Any) -> Any:
    """Return a value in which scalars are of the type of their key: on is true, '5' is 5, 5 a text.

    YAML and the grammar of overrides do not know these types. What fits none is left as it is.
    """
    kinds, choices, _, item, _ = allowed_by(hint)
    if isinstance(value, dict):
        group = group_of(hint, value)
        if group is None:
            return value
        keys = {str(key): inner for key, inner in value.items()}
        hints = fields_of(group)
        return {key: read_scalars(inner, hints.get(key, Any)) for key, inner in keys.items()}
    if isinstance(value, list):
        return [read_scalars(inner, item) for inner in value]
    scalars = {*kinds, *map(type, choices)}
    if isinstance(value, str) and value not in choices:
        for kind in (bool, int, float):
            try:
                if kind in scalars:
                    return BOOLEANS[value.lower()] if kind is bool else kind(value)
            except (KeyError, ValueError):
                pass
    elif isinstance(value, (bool, int, float)) and scalars == {str}:
        return str(value)
    elif type(value) is int and scalars == {bool}:
        return BOOLEANS.get(str(value), value)
    return value
