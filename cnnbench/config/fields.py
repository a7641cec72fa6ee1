"""The fields of the schema: which keys there are, and what each may hold."""

import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from cnnbench.config.schema import Group

__all__ = ["Allowed", "allowed_by", "fields_of", "group_of", "join_key", "list_keys"]


class Allowed(NamedTuple):
    """Hold what a type allows, null aside."""

    kinds: list[Any]  # bool, int, float, str, list and groups
    choices: list[Any]  # of a Literal, or the names of groups
    limits: list[Meta]
    item: Any  # the type of the items of a list
    description: str  # in words, if it has any

    @property
    def scalars(self) -> set[Any]:
        """The types of single values; a group with choices has that of their names."""
        return {*self.kinds, *map(type, self.choices)}

    @property
    def groups(self) -> list[type[Group]]:
        return [kind for kind in self.kinds if hasattr(kind, "__struct_config__")]


@cache
def allowed_by(hint: Any) -> Allowed:
    """Return what a type allows."""
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


def group_of(hint: Any, values: Mapping[str, Any]) -> type[Group] | None:
    """Return the group that has these values, by their name if there are several, or None."""
    groups = allowed_by(hint).groups
    return next((group for group in groups if _tag(group) in (None, values.get("name"))), None)


def list_keys(hint: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys and their types; a group with choices has the keys of all."""
    groups = allowed_by(hint).groups
    for group in groups:
        for name, inner in fields_of(group).items():
            yield from list_keys(inner, join_key(above, name))
    if not groups:
        yield above, hint


def join_key(group: str, key: str) -> str:
    return f"{group}.{key}" if group and key else group or key
