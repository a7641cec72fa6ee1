"""From plain values to a `Config`, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from cnnbench.config.explain import explain, join_key
from cnnbench.config.fields import read_scalars
from cnnbench.config.schema import Config, Recipe
from cnnbench.errors import ConfigError

__all__ = ["as_dict", "from_dict", "load", "load_recipe", "parse", "to_yaml"]

T = TypeVar("T")

MAX_DEPTH = 20  # of a config.yaml; ours have three levels


def load(values: Mapping[str, Any]) -> Config:
    """Type and check plain values, as they were composed or read from a run directory.

    Raises:
        ConfigError: a key nobody knows, a value of the wrong type or out of range.
    """
    _refuse_references(values)
    train, model = values.get("train"), values.get("model")
    if isinstance(train, dict) and "clip_norm" in train:
        raise ConfigError(
            "This configuration was made by cnnbench 0.1, whose keys had other names, such as "
            "train.clip_norm. Train anew, or use cnnbench 0.1."
        )
    if isinstance(model, dict):
        known = {key: model[key] for key in ("name", "recipe") if key in model}
        arguments = {str(key): value for key, value in model.items() if key not in known}
        values = {**values, "model": {**known, "arguments": arguments}}
    return from_dict(Config, values)


def from_dict(schema: type[T], values: Mapping[str, Any], group: str = "") -> T:
    """Return an instance of `schema` with these plain values, which are those of the key `group`.

    Raises:
        ConfigError: a key nobody knows, a value of the wrong type or out of range.
    """
    read = read_scalars(values, schema)
    try:
        return msgspec.convert(read, schema)
    except msgspec.ValidationError as error:
        raise ConfigError(explain(error, schema, read, group)) from error


def load_recipe(path: Path) -> Recipe:
    """Return the recipe in the YAML of a network.

    Raises:
        ConfigError: it is not one.
    """
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return from_dict(Recipe, values["recipe"], "model.recipe")


def as_dict(config: Config) -> dict[str, Any]:
    """Return plain values, in the form that `load` takes."""
    values: dict[str, Any] = msgspec.to_builtins(config)
    values["model"] |= values["model"].pop("arguments")
    values["tracker"] = {name: each for name, each in values["tracker"].items() if each is not None}
    return values


def to_yaml(config: Config) -> str:
    """Return YAML that `load` takes back, for a run directory's config.yaml."""
    return str(yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True))


def parse(text: str) -> dict[str, Any]:
    """Return the values of an untrusted config.yaml, for `load`.

    What `to_yaml` never writes is refused: aliases, by which a small file grows without bound,
    nesting, which takes time by its square, and interpolations, which can look into this machine's
    environment.

    Raises:
        ConfigError: it is damaged or refused.
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
    except (yaml.YAMLError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise ConfigError(f"it is not YAML: {error}") from error
    except (AttributeError, RecursionError) as error:  # PyYAML at odd tags and deep nesting
        raise ConfigError(f"it is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError("it holds no keys.")
    return {str(key): value for key, value in values.items()}


def _refuse_references(value: Any, key: str = "") -> None:
    """Refuse a text that looks like an interpolation: Hydra would resolve it on a command line."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _refuse_references(inner, join_key(key, str(name)))
    elif isinstance(value, list):
        for inner in value:
            _refuse_references(inner, key)
    elif "${" in str(value):
        raise ConfigError(f"{key}={value} cannot be kept: it holds '${{'. Choose a name without.")
