"""Convert plain values to a `Config` and back, and explain wrong values."""

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from cnnbench.config.field_types import FINITE
from cnnbench.config.fields import (
    Allowed,
    allowed_by,
    fields_of,
    group_of,
    join_key,
    list_keys,
)
from cnnbench.config.schema import FOLDER, TRACKERS, Config, Recipe
from cnnbench.errors import ConfigError, did_you_mean, find_similar

__all__ = [
    "as_dict",
    "find_key",
    "flatten",
    "from_dict",
    "load_config",
    "load_recipe",
    "parse",
    "to_yaml",
]

T = TypeVar("T")

MAX_DEPTH = 20  # levels of a config.yaml; cnnbench writes three
BOOLEANS = {
    **dict.fromkeys(("true", "on", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "off", "no", "n", "0"), False),
}
IN_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
}
MAX_SHOWN = 80  # characters of a value in a message
RANGE_WORDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
# keys that only some choices have, and those choices in words
COMES_WITH = {
    **{f"tracker.{name}": f"tracker={name}" for name in TRACKERS},
    **dict.fromkeys(("data.path", "data.image_size", "data.channels"), f"data={FOLDER}"),
    "data.skip_unreadable": f"data={FOLDER}",
    "data.root": "data sets that are fetched",
}


def load_config(values: Mapping[str, Any]) -> Config:
    """Return the configuration with these plain values, after checks of types and ranges.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type or is out of range.
    """
    _refuse_references(values)
    train, model = values.get("train"), values.get("model")
    if isinstance(train, dict) and "clip_norm" in train:
        raise ConfigError(
            "This configuration was made by cnnbench 0.1, whose keys had other names, such as "
            "train.clip_norm. Train anew, or use cnnbench 0.1."
        )
    if isinstance(model, dict):
        known = {key: model[key] for key in ("name", "recipe", "weights") if key in model}
        arguments = {str(key): value for key, value in model.items() if key not in known}
        values = {**values, "model": {**known, "arguments": arguments}}
    return from_dict(Config, values)


def from_dict(schema: type[T], values: Mapping[str, Any], group: str = "") -> T:
    """Return an instance of `schema` with these plain values, the values of the key `group`.

    Raises:
        ConfigError: see `load_config`.
    """
    read = _read_scalars(values, schema)
    try:
        return msgspec.convert(read, schema)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(error, schema, read, group)) from error
    except UnicodeEncodeError as error:  # the command line had bytes that are not UTF-8
        raise ConfigError(f"'{error.object}' is not UTF-8 text.") from error


def load_recipe(path: Path) -> Recipe:
    """Return the recipe in the YAML file of a network.

    Raises:
        ConfigError: a value is missing or wrong.
    """
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return from_dict(Recipe, values["recipe"], "model.recipe")


def as_dict(config: Config) -> dict[str, Any]:
    """Return the plain values of a configuration, in the form that `load_config` takes."""
    values: dict[str, Any] = msgspec.to_builtins(config)
    values["model"] |= values["model"].pop("arguments")
    trackers = values["tracker"].items()
    values["tracker"] = {name: tracker for name, tracker in trackers if tracker is not None}
    return values


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of nested groups by their dotted keys, such as optimizer.lr."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {join_key(str(key), name): inner for name, inner in flatten(value).items()}
        else:
            flat[str(key)] = value
    return flat


def to_yaml(config: Config) -> str:
    """Return a configuration as YAML, for the config.yaml of a run directory."""
    return str(yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True))


def parse(text: str) -> dict[str, Any]:
    """Return the values of an untrusted config.yaml, for `load_config`.

    Refuse constructs that `to_yaml` never writes: aliases, with which a small file grows without
    bound; deep nesting, whose parsing takes quadratic time; interpolations, which can read the
    environment of this machine.

    Raises:
        ConfigError: the file is damaged or refused.
    """
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            value = event.value if isinstance(event, yaml.ScalarEvent) else ""
            if "${" in value or isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
                refused = "aliases, interpolations or deep nesting"
                raise ConfigError(f"it has {refused}, which cnnbench never writes.")
        values = yaml.safe_load(text)
    except ConfigError:
        raise
    except Exception as error:  # PyYAML raises many kinds of errors at odd tags and deep nesting
        raise ConfigError(f"it is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError("it holds no keys.")
    return {str(key): value for key, value in values.items()}


def _refuse_references(value: Any, key: str = "") -> None:
    """Refuse texts that look like an interpolation, as Hydra would resolve them in an override."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _refuse_references(inner, join_key(key, str(name)))
    elif isinstance(value, list):
        for inner in value:
            _refuse_references(inner, key)
    elif "${" in str(value):
        raise ConfigError(f"{key}={value} cannot be kept: it holds '${{'. Choose a name without.")


def _read_scalars(value: Any, hint: Any) -> Any:
    """Convert the scalars of a value to the types of their keys: 'on' to true, '5' to 5.

    YAML and the grammar of overrides do not know these types. A scalar that fits no type stays.
    """
    allowed = allowed_by(hint)
    scalars = allowed.scalars
    if isinstance(value, dict):
        group = group_of(hint, value)
        if group is None:
            return value
        hints = fields_of(group)
        return {str(key): _read_scalars(value[key], hints.get(str(key), Any)) for key in value}
    if isinstance(value, list):
        return [_read_scalars(inner, allowed.item) for inner in value]
    if isinstance(value, str) and value not in allowed.choices:
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


def _explain(error: msgspec.ValidationError, schema: Any, values: Any, group: str) -> str:
    """Explain a validation error of `values`, the values of the key `group`, of type `schema`."""
    message, _, path = str(error).partition(" - at ")
    key, hint, value = group, schema, values
    for name in re.findall(r"[^.$`\[\]]+", path):
        if isinstance(value, list):
            if allowed_by(hint).description:  # it describes the whole list
                break
            hint, value = allowed_by(hint).item, value[int(name)]
        elif name in value:
            inner = group_of(hint, value)
            key, value = join_key(key, name), value[name]
            hint = fields_of(inner)[name] if inner else hint  # an unknown choice keeps the union
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
    given = f"{key}={format_value(value)}"
    if value is None:
        return f"{key}: null is not a value for it. Set {key}=..."
    if value == "" and kinds == [str]:
        return f"{key} is empty. Leave it out, or give it a value."
    if choices and (allowed.groups or not kinds):
        return f"{given} is not known. {did_you_mean(str(value), choices)}"
    if choices and not is_number:
        others = "true, false" if bool in kinds else "a number"
        return f"{given} is not known. Allowed: {others} or {', '.join(choices)}."
    if description or (is_number and limits):
        return f"{given} is out of range. It must be {description or _range(limits, value)}."
    if allowed.groups:
        first = next(iter(fields_of(kinds[0])))
        return f"{given}: {key} is a group of keys. Set one, such as {key}.{first}=..."
    advice = ""
    if kinds[0] is int and isinstance(value, float) and value.is_integer():
        advice = f" Write {key}={value:.0f}."
    return f"{given} is not {IN_WORDS.get(kinds[0], 'a group of keys')}.{advice}"


def format_value(value: Any) -> str:
    """Return a value as in an override, truncated to MAX_SHOWN characters."""
    is_text = isinstance(value, (int, float, str)) and not isinstance(value, bool)
    text = str(value) if is_text else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _range(limits: list[msgspec.Meta], value: float) -> str:
    """Return a range in words, such as "at least 0 and at most 1"."""
    words = ["finite"] if isinstance(value, float) and not math.isfinite(value) else []
    for limit in limits:
        ends = {word: getattr(limit, end) for end, word in RANGE_WORDS.items()}
        words += [f"{word} {end}" for word, end in ends.items() if end not in (None, FINITE)]
    return " and ".join(words)


def explain_unknown_key(key: str, siblings: Mapping[Any, Any]) -> str:
    """Return the error message for an unknown key, with the key that was probably meant.

    That is a key of the same name in another group, else the most similar of the `siblings`.
    """
    group, _, word = key.rpartition(".")
    unknown = f"There is no key '{key}'."
    if key in COMES_WITH:
        return f"{unknown} It comes with {COMES_WITH[key]}."
    for name, inner in siblings.items():
        if isinstance(inner, Mapping) and word in inner:
            return f"{unknown} Did you mean '{join_key(group, name)}.{word}'?"
    cutoff = 0.8 if find_similar(word, siblings) is None else 1
    other = find_key(word, cutoff)
    if other not in (None, key) and find_similar(word, siblings, cutoff=1) is None:
        return f"{unknown} Did you mean '{other}'?"
    return f"{unknown} {did_you_mean(word, TRACKERS if group == 'tracker' else siblings, group)}"


@cache
def _keys_by_name() -> dict[str, str]:
    """Return the keys of the schema by their last words. The shortest key of a word counts."""
    keys = [key for key, _ in list_keys(Config) if not key.endswith(".name")]
    keys.sort(key=lambda key: (key.count("."), key), reverse=True)
    groups = {name: name for name in (*fields_of(Config), "experiment")}
    return {key.rpartition(".")[2]: key for key in keys} | groups


def find_key(word: str, cutoff: float) -> str | None:
    """Return the dotted key that a word probably means, such as train.epochs for epoch; or None.

    `cutoff` is passed to `find_similar`.
    """
    keys = _keys_by_name()
    near = find_similar(word.rpartition(".")[2], keys, cutoff)
    return keys[near] if near else None
