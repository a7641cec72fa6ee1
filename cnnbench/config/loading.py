"""From what was composed, or what a config.yaml holds, to a `Config`, and back."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from cnnbench.config.schema import (
    OPTIMIZERS,
    SCHEDULERS,
    TRACKERS,
    CommonConfig,
    Config,
    ModelConfig,
    Recipe,
    Schema,
    TrackerConfig,
)
from cnnbench.config.validation import check_name, validate
from cnnbench.errors import ConfigError, did_you_mean

__all__ = ["as_dict", "explain", "load", "load_recipe", "parse", "plain", "to_yaml"]


def load(composed: DictConfig | Mapping[str, Any]) -> Config:
    """Type, convert and check a composed configuration.

    Raises:
        ConfigError: a key nobody knows, a value of the wrong type or out of range.
    """
    fields = _strict(Schema, plain(composed), "")
    values = {field.name: getattr(fields, field.name) for field in dataclasses.fields(CommonConfig)}
    config = Config(
        **values,
        model=_model(fields.model),
        optimizer=_variant(OPTIMIZERS, fields.optimizer, "optimizer"),
        scheduler=_variant(SCHEDULERS, fields.scheduler, "scheduler"),
        tracker=_strict(TrackerConfig, fields.tracker, "tracker"),
    )
    validate(config)
    return config


def load_recipe(path: Path) -> Recipe:
    """The recipe in the YAML of a network.

    Raises:
        ConfigError: it is not one.
    """
    return _strict(Recipe, plain(OmegaConf.load(path).recipe), "model.recipe")


def as_dict(config: Config) -> dict[str, Any]:
    """Plain values, in the form that `load` takes."""
    values = dataclasses.asdict(config)
    arguments = values["model"].pop("arguments")
    values["model"] |= arguments
    values["tracker"] = {name: each for name, each in values["tracker"].items() if each is not None}
    return values


def to_yaml(config: Config) -> str:
    """YAML that `load` takes back, for a run directory's config.yaml."""
    return OmegaConf.to_yaml(OmegaConf.create(as_dict(config)))


DEEPEST = 20  # level of nesting in a config.yaml; ours have three


def parse(text: str) -> dict[str, Any]:
    """The values of a config.yaml that may be anyone's, for `load`.

    What `to_yaml` never writes is refused: aliases, by which a small file grows without bound, nesting, which
    takes time by its square, and interpolations, which can look into this machine's environment.

    Raises:
        ConfigError: it is damaged or refused.
    """
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            value = event.value if isinstance(event, yaml.ScalarEvent) else ""
            if "${" in value or isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
                raise ConfigError("it has aliases, interpolations or deep nesting, which cnnbench never writes.")
        values = OmegaConf.to_container(OmegaConf.create(text))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise ConfigError(f"it is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError("it holds no keys.")
    return {str(key): value for key, value in values.items()}


T = TypeVar("T")


def plain(values: DictConfig | Mapping[str, Any]) -> Any:
    """Return the values without references to each other, and without the types of Hydra's nodes.

    These would let extra keys pass.

    Raises:
        ConfigError: a reference leads nowhere, or is left as a text.
    """
    try:
        resolved = OmegaConf.to_container(
            OmegaConf.create(values) if isinstance(values, dict) else values, resolve=True
        )
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    _refuse_references(resolved)
    return resolved


def _refuse_references(value: Any, key: str = "") -> None:
    """Refuse a text that looks like a reference: whoever reads it next would resolve it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_references(inner, _join(key, str(name)))
    elif isinstance(value, list):
        for inner in value:
            _refuse_references(inner, key)
    elif "${" in str(value):
        raise ConfigError(f"{key}={value} cannot be kept: it holds '${{'. Choose a name without.")


def _strict(schema: type[T], plain: Any, group: str) -> T:
    """An instance of the dataclass `schema`; unknown, missing and mistyped keys are ConfigErrors."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), plain)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ConfigError(f"{_join(group, missing[0])} has no value. Set {_join(group, missing[0])}=...")
        instance = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, group)) from error
    assert isinstance(instance, schema)
    return instance


def _variant(variants: Mapping[str, type[T]], values: dict[str, Any], group: str) -> T:
    name = str(values.get("name"))
    check_name(f"{group}.name", name, variants)
    return _strict(variants[name], values, group)


def _model(values: dict[str, Any]) -> ModelConfig:
    arguments = {key: value for key, value in values.items() if key not in ("name", "recipe")}
    for key in ("in_channels", "num_classes", "image_size"):
        if key in arguments:
            raise ConfigError(f"model.{key} cannot be set: it follows from the data set and data.resize.")
    known = {key: values[key] for key in ("name", "recipe") if key in values}
    return _strict(ModelConfig, {**known, "arguments": arguments}, "model")


def _join(group: str, key: str) -> str:
    return f"{group}.{key}" if group and key else group or key


_WORDINGS = {
    "could not be converted to Integer": "is not a whole number",
    "could not be converted to Float": "is not a number",
    "is not a valid bool": "is not true or false",
}


def explain(error: OmegaConfBaseException, group: str = "") -> str:
    """An OmegaConf error as a message for people. `group` is put before the key the error names."""
    key = _join(group, str(error.full_key or ""))
    if isinstance(error, (ConfigKeyError, AttributeError)):
        return f"There is no key '{key}'. {_nearest_key(key, error)}"
    first_line = str(error.msg or error).splitlines()[0]
    for theirs, ours in _WORDINGS.items():
        first_line = first_line.replace(theirs, ours)
    return f"{key}: {first_line}" if key else first_line


def _nearest_key(key: str, error: OmegaConfBaseException) -> str:
    """The key that was meant: one further down with this very name, else the most alike where it was given."""
    group_key, _, word = key.rpartition(".")
    if group_key == "tracker":
        return f"It comes with tracker={word}." if word in TRACKERS else did_you_mean(word, TRACKERS)
    parent = error.parent_node
    if isinstance(parent, DictConfig):
        for group, child in parent.items_ex(resolve=False):
            if group != "hydra" and isinstance(child, DictConfig) and word in child:
                return f"Did you mean '{_join(group_key, str(group))}.{word}'?"
        return did_you_mean(word, [str(name) for name in parent if name != "hydra"])
    assert dataclasses.is_dataclass(error.object_type)
    return did_you_mean(word, [field.name for field in dataclasses.fields(error.object_type)])
