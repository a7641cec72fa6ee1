"""The configuration: typed, converted and checked.

`load` turns what was composed, or what a run directory's config.yaml holds, into a `Config`. Nothing
here imports torch, so a mistake in a value is reported at once.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from cnnbench.config.schema import (
    AUGMENTS,
    DEVICES,
    FOLDER,
    INITS,
    LOSSES,
    OPTIMIZERS,
    PRECISIONS,
    RESTS,
    SCHEDULERS,
    TRACKERS,
    AdagradConfig,
    AdamConfig,
    AugmentConfig,
    CheckpointEvery,
    CommonConfig,
    Config,
    ConstantConfig,
    CosineConfig,
    DataConfig,
    DeviceConfig,
    ExponentialConfig,
    MlflowConfig,
    ModelConfig,
    MultiStepConfig,
    MuonConfig,
    OneCycleConfig,
    OptimizerConfig,
    Recipe,
    RMSpropConfig,
    SchedulerConfig,
    Schema,
    SgdConfig,
    StepConfig,
    TensorboardConfig,
    TrackerConfig,
    TrainConfig,
)
from cnnbench.config.validation import check_name, validate
from cnnbench.errors import ConfigError, did_you_mean

__all__ = [
    "AUGMENTS",
    "CHANGEABLE",
    "DEVICES",
    "FOLDER",
    "INITS",
    "LOSSES",
    "NEED_CONSENT",
    "NOT_OF_THE_JOB",
    "OF_USE",
    "OPTIMIZERS",
    "PRECISIONS",
    "RESTS",
    "SCHEDULERS",
    "TRACKERS",
    "AdagradConfig",
    "AdamConfig",
    "AugmentConfig",
    "CheckpointEvery",
    "CommonConfig",
    "Config",
    "ConstantConfig",
    "CosineConfig",
    "DataConfig",
    "DeviceConfig",
    "ExponentialConfig",
    "MlflowConfig",
    "ModelConfig",
    "MultiStepConfig",
    "MuonConfig",
    "OneCycleConfig",
    "OptimizerConfig",
    "RMSpropConfig",
    "Recipe",
    "SchedulerConfig",
    "Schema",
    "SgdConfig",
    "StepConfig",
    "TensorboardConfig",
    "TrackerConfig",
    "TrainConfig",
    "as_dict",
    "changed",
    "chosen",
    "explain",
    "load",
    "load_recipe",
    "of_the_job",
    "parse",
    "parse_changes",
    "require_same",
    "to_yaml",
    "validate",
]


def load(composed: DictConfig | Mapping[str, Any]) -> Config:
    """Type, convert and check a composed configuration.

    Raises:
        ConfigError: a key nobody knows, a value of the wrong type or out of range.
    """
    fields = _strict(Schema, _plain(composed), "")
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
    return _strict(Recipe, _plain(OmegaConf.load(path).recipe), "model.recipe")


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
            if "${" in text or isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
                raise ConfigError("it has aliases, interpolations or deep nesting, which cnnbench never writes.")
        values = OmegaConf.to_container(OmegaConf.create(text))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise ConfigError(f"it is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError("it holds no keys.")
    return {str(key): value for key, value in values.items()}


# what may differ in a run that goes on
CHANGEABLE = (
    *("train.epochs", "train.checkpoint_every.*", "train.on_divergence", "train.clip_norm"),
    *("optimizer.lr", "device.*", "data.root", "data.path", "tracker", "tracker.*"),
)

# what a run directory of a stranger may not decide by itself
NEED_CONSENT = {
    "data.root": "keeps its data in a folder of its own",
    "tracker.mlflow.uri": "is tracked by a server that it names (tracker=none goes on without)",
}


# what may differ where a network that was trained is used
OF_USE = ("data", "data.*", "device", "device.*", "train.batch_size", "train.flip_averaging")


def parse_changes(overrides: list[str], changeable: Sequence[str], where: str) -> dict[str, Any]:
    """Keys and values from KEY=VALUE, of the keys that are `changeable`; `where` ends what is said of others.

    Raises:
        ConfigError: it is not of that form, or a key that may not change.
    """
    changes = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}' is not an override. Write KEY=VALUE, such as train.epochs=20.")
        if not any(fnmatch(key, each) for each in changeable):
            raise ConfigError(f"{key} cannot be changed {where}. Allowed: {', '.join(changeable)}.")
        try:
            changes[key] = _plain(OmegaConf.from_dotlist([f"value={value}"]))["value"]
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            raise ConfigError(f"{override} has no value that can be read.") from error
    return changes


def chosen(changes: Mapping[str, Any], conf: Path) -> dict[str, Any]:
    """`changes` with the keys of each group that was chosen, such as data=mnist, from its YAML in the folder `conf`.

    Raises:
        ConfigError: there is no such choice.
    """
    keys: dict[str, Any] = {}
    for group, name in changes.items():
        if "." not in group:
            check_name(group, str(name), [path.stem for path in (conf / group).glob("*.yaml")])
            values = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(conf / group / f"{name}.yaml")))
            keys |= {f"{group}.{key}": value for key, value in {**_defaults(group), **values}.items()}
    return keys | {key: value for key, value in changes.items() if "." in key}


def _defaults(group: str) -> dict[str, Any]:
    """What the keys of a group mean that its YAMLs need not have: those of a choice before are not to stay."""
    kind = next(field.type for field in dataclasses.fields(CommonConfig) if field.name == group)
    fields = dataclasses.fields(cast("Any", kind))
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """The configuration with these plain values, after changes to some keys.

    Raises:
        ConfigError: there is no such key, or as `load`.
    """
    load(values)  # in what is not a configuration, keys cannot be changed
    try:
        merged = OmegaConf.create(dict(values))
        if "tracker" in changes:  # first, whatever the order: its other keys change what was chosen
            OmegaConf.update(merged, "tracker", _trackers(changes["tracker"]), merge=False)
        for key, value in changes.items():
            if key != "tracker":
                OmegaConf.update(merged, key, value)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    return load(merged)


def _trackers(choice: Any) -> dict[str, Any]:
    """What the choice of a tracker, or of a list of them, stands for."""
    names = choice if isinstance(choice, list) else [choice]
    for name in names:
        check_name("tracker", str(name), (*TRACKERS, "none"))
    return {name: {} for name in names if name != "none"}


# keys that say nothing about what a run computes
NOT_OF_THE_JOB = ("sweep", "sweep_on_error", "tracker", "tracker.mlflow.uri", "tracker.mlflow.experiment")


def of_the_job(values: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a configuration that say what a run computes, and on what."""
    return {key: value for key, value in values.items() if key not in NOT_OF_THE_JOB}


def require_same(place: Path, recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that the run in `place` was made with the values that are wanted.

    Raises:
        ConfigError: it has others.
    """
    differences = _differences(of_the_job(recorded), of_the_job(wanted))
    if differences:
        raise ConfigError(
            f"{place} holds a run with other values: {', '.join(differences)}. "
            "Name another sweep=NAME, or change what the run goes on with: cnnbench resume."
        )


def _differences(recorded: Any, wanted: Any, key: str = "") -> list[str]:
    """The keys whose values are not the same, such as ``train.epochs=5 instead of 10``."""
    if isinstance(recorded, dict) and isinstance(wanted, dict):
        names = {**recorded, **wanted}
        return [each for name in names for each in _differences(recorded.get(name), wanted.get(name), f"{key}{name}.")]
    return [] if recorded == wanted else [f"{key[:-1]}={recorded} instead of {wanted}"]


T = TypeVar("T")


def _plain(values: DictConfig | Mapping[str, Any]) -> Any:
    """The values without references to each other, nor the types of Hydra's nodes, which let extra keys pass."""
    try:
        return OmegaConf.to_container(OmegaConf.create(values) if isinstance(values, dict) else values, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error


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
