"""Read the keys of the schema, and the values that each key allows, from the types."""

import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from cnnbench.config.field_types import Group

__all__ = ["Allowed", "allowed_by", "fields_of", "group_of", "join_key", "list_keys"]


class Allowed(NamedTuple):
    """Values that a type allows, besides null."""

    kinds: list[Any]  # bool, int, float, str, list and groups
    choices: list[Any]  # the values of a Literal, or the names of groups
    limits: list[Meta]
    item: Any  # the type of the items, for a list
    description: str  # the description of the type in words, or ""

    @property
    def scalars(self) -> set[Any]:
        """Return the types of single values. The name of a choice counts as a value."""
        return {*self.kinds, *map(type, self.choices)}

    @property
    def groups(self) -> list[type[Group]]:
        return [kind for kind in self.kinds if hasattr(kind, "__struct_config__")]


@cache
def allowed_by(hint: Any) -> Allowed:
    """Return the values that a type allows."""
    kinds: list[Any] = []
    choices: list[Any] = []
    limits, item, description = [], None, ""
    for part in _split(hint):
        if isinstance(part, Meta):
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
    """Yield the alternatives of a union and their annotations."""
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
    """Return the type of each key of a group."""
    name = {"name": str} if _tag(group) else {}
    return name | {field.name: field.type for field in msgspec.structs.fields(group)}


def group_of(hint: Any, values: Mapping[str, Any]) -> type[Group] | None:
    """Return the group with these values, or None. A group with choices is found by its name."""
    groups = allowed_by(hint).groups
    return next((group for group in groups if _tag(group) in (None, values.get("name"))), None)


def list_keys(hint: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dotted key and its type, including the keys of all choices of a group."""
    groups = allowed_by(hint).groups
    for group in groups:
        for name, inner in fields_of(group).items():
            yield from list_keys(inner, join_key(above, name))
    if not groups:
        yield above, hint


def join_key(group: str, key: str) -> str:
    return f"{group}.{key}" if group and key else group or key
