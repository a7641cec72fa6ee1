"""What is wrong with a value: its key, what was given, what is allowed."""

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from cnnbench.config.fields import Allowed, allowed_by, fields_of, group_of
from cnnbench.config.schema import FINITE, FOLDER, TRACKERS
from cnnbench.errors import did_you_mean

__all__ = ["explain", "explain_unknown_key", "join_key"]

# keys that only some choices have
COMES_WITH = {
    **{f"tracker.{name}": f"tracker={name}" for name in TRACKERS},
    **dict.fromkeys(("data.path", "data.image_size", "data.channels"), f"data={FOLDER}"),
    "data.root": "data sets that are fetched",
}

IN_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
}


def explain(error: msgspec.ValidationError, schema: Any, values: Any, group: str = "") -> str:
    """Say what is wrong with `values` of the type `schema`, which are those of the key `group`."""
    message, _, path = str(error).partition(" - at ")
    key, hint, value = group, schema, values
    for name in re.findall(r"[^.$`\[\]]+", path):
        if isinstance(value, list):
            if allowed_by(hint).description:  # of the whole list
                break
            hint, value = allowed_by(hint).item, value[int(name)]
        elif name in value:
            inner = group_of(hint, value)
            key, value = join_key(key, name), value[name]
            hint = fields_of(inner)[name] if inner else hint  # of an unknown choice stays the union
    field = re.search("`(.*)`", message)
    if field and message.startswith("Object missing"):
        missing = join_key(key, field[1])
        return f"{missing} has no value. Set {missing}=..."
    if field and message.startswith("Object contains unknown"):
        siblings = {name: value.get(name) for name in fields_of(group_of(hint, value))}
        return explain_unknown_key(join_key(key, field[1]), siblings)
    return _explain_value(key, value, allowed_by(hint))


def _explain_value(key: str, value: Any, allowed: Allowed) -> str:
    kinds, choices, limits, _, description = allowed
    is_number = type(value) in kinds or (type(value) is int and float in kinds)
    is_group = hasattr(next(iter(kinds), None), "__struct_config__")
    if value is None:
        return f"{key}: null is not a value for it. Set {key}=..."
    if value == "" and kinds == [str]:
        return f"{key} is empty. Leave it out, or give it a value."
    if choices and (is_group or not kinds):
        return f"{key}={value} is not known. {did_you_mean(str(value), choices)}"
    if choices and not is_number:
        others = "true, false" if bool in kinds else "a number"
        return f"{key}={value} is not known. Allowed: {others} or {', '.join(choices)}."
    if description or (is_number and limits):
        return f"{key}={value} is out of range. It must be {description or _range(limits, value)}."
    wanted = IN_WORDS.get(kinds[0], "a group of keys")
    return f"{key}: Value '{value}' of type '{type(value).__name__}' is not {wanted}"


def _range(limits: list[msgspec.Meta], value: float) -> str:
    """Return a range in words, such as at least 0 and at most 1."""
    words = ["finite"] if isinstance(value, float) and not math.isfinite(value) else []
    for limit in limits:
        ends = (
            ("above", limit.gt),
            ("at least", limit.ge),
            ("below", limit.lt),
            ("at most", limit.le),
        )
        words += [f"{word} {end}" for word, end in ends if end not in (None, FINITE)]
    return " and ".join(words)


def explain_unknown_key(key: str, siblings: Mapping[Any, Any]) -> str:
    """Say that there is no such key, and which one was meant.

    It is the key of this very name in a group among the `siblings`, else the most alike of these.
    """
    group, _, word = key.rpartition(".")
    unknown = f"There is no key '{key}'."
    if key in COMES_WITH:
        return f"{unknown} It comes with {COMES_WITH[key]}."
    for name, inner in siblings.items():
        if isinstance(inner, Mapping) and word in inner:
            return f"{unknown} Did you mean '{join_key(group, name)}.{word}'?"
    return f"{unknown} {did_you_mean(word, TRACKERS if group == 'tracker' else siblings)}"


def join_key(group: str, key: str) -> str:
    return f"{group}.{key}" if group and key else group or key
