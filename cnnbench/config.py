"""The types of the configuration; its values are the YAML files in conf/.

`load` turns what was composed, or what a run directory's config.yaml holds, into a `Config`. Nothing
here imports torch, so a mistake in a value is reported at once.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from cnnbench.errors import ConfigError, did_you_mean

__all__ = [
    "OPTIMIZERS",
    "SCHEDULERS",
    "Config",
    "DataConfig",
    "DeviceConfig",
    "ModelConfig",
    "Recipe",
    "Schema",
    "TrainConfig",
    "as_dict",
    "explain",
    "load",
    "to_yaml",
]

INITS = ("default", "kaiming_normal", "normal", "xavier_uniform")
LOSSES = ("cross_entropy", "mse", "nll")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "bf16", "fp16", "fp32", "tf32")
AUGMENTS = ("none",)


@dataclass
class Recipe:
    """What the network's source trains it with; the other groups default to it."""

    resize: int
    batch_size: int
    lr: float
    momentum: float
    epochs: int


@dataclass
class ModelConfig:
    """A network of the registry, or ``my_module:MyNet``, and the arguments of its constructor."""

    name: str
    recipe: Recipe
    arguments: dict[str, Any]


@dataclass
class DataConfig:
    name: str
    root: str | None
    resize: int
    validation: int
    train_examples: int | None
    test_examples: int | None
    folds: int | None
    fold: int | None


@dataclass
class AugmentConfig:
    name: str


@dataclass
class SgdConfig:
    """Also ``momentum`` and ``nesterov``: stochastic gradient descent with a momentum of its own."""

    name: str
    lr: float
    momentum: float
    weight_decay: float


@dataclass
class AdagradConfig:
    name: str
    lr: float
    eps: float
    weight_decay: float


@dataclass
class AdamConfig:
    """Also ``adamw``."""

    name: str
    lr: float
    betas: list[float]
    eps: float
    weight_decay: float


@dataclass
class RMSpropConfig:
    name: str
    lr: float
    alpha: float
    eps: float
    momentum: float
    weight_decay: float


OptimizerConfig = SgdConfig | AdagradConfig | AdamConfig | RMSpropConfig

OPTIMIZERS: dict[str, type[OptimizerConfig]] = {
    "sgd": SgdConfig,
    "momentum": SgdConfig,
    "nesterov": SgdConfig,
    "adagrad": AdagradConfig,
    "adam": AdamConfig,
    "adamw": AdamConfig,
    "rmsprop": RMSpropConfig,
}


@dataclass
class ConstantConfig:
    name: str
    warmup_epochs: float


@dataclass
class StepConfig:
    name: str
    step_epochs: float
    gamma: float
    warmup_epochs: float


@dataclass
class ExponentialConfig:
    name: str
    gamma: float
    warmup_epochs: float


@dataclass
class CosineConfig:
    name: str
    min_lr_ratio: float
    warmup_epochs: float


@dataclass
class OneCycleConfig:
    name: str
    pct_start: float
    div_factor: float
    final_div_factor: float


SchedulerConfig = ConstantConfig | StepConfig | ExponentialConfig | CosineConfig | OneCycleConfig

SCHEDULERS: dict[str, type[SchedulerConfig]] = {
    "constant": ConstantConfig,
    "step": StepConfig,
    "exponential": ExponentialConfig,
    "cosine": CosineConfig,
    "onecycle": OneCycleConfig,
}


@dataclass
class DeviceConfig:
    name: str
    precision: str
    channels_last: Any  # bool | Literal["auto"]; OmegaConf 2.3 fails to merge unions
    threads: Any  # int | Literal["auto"]
    deterministic: bool


@dataclass
class TrainConfig:
    epochs: int
    batch_size: int
    init: str
    loss: str
    label_smoothing: float
    l1: float
    require_learning: bool


@dataclass
class _Common:
    data: DataConfig
    augment: AugmentConfig
    device: DeviceConfig
    train: TrainConfig
    seed: int
    sweep: str


@dataclass
class Schema(_Common):
    """What Hydra composes: groups whose fields depend on the choice made are plain mappings."""

    model: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]


@dataclass
class Config(_Common):
    """A whole, typed and checked configuration."""

    model: ModelConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig


def load(composed: DictConfig | Mapping[str, Any]) -> Config:
    """Type, convert and check a composed configuration.

    Raises:
        ConfigError: a key nobody knows, a value of the wrong type or out of range.
    """
    fields = _strict(Schema, composed, "")
    values = {field.name: getattr(fields, field.name) for field in dataclasses.fields(_Common)}
    config = Config(
        **values,
        model=_model(fields.model),
        optimizer=_variant(OPTIMIZERS, fields.optimizer, "optimizer"),
        scheduler=_variant(SCHEDULERS, fields.scheduler, "scheduler"),
    )
    validate(config)
    return config


def as_dict(config: Config) -> dict[str, Any]:
    """Plain values, in the form that `load` takes."""
    values = dataclasses.asdict(config)
    arguments = values["model"].pop("arguments")
    values["model"] |= arguments
    return values


def to_yaml(config: Config) -> str:
    """YAML that `load` takes back, for a run directory's config.yaml."""
    return OmegaConf.to_yaml(OmegaConf.create(as_dict(config)))


T = TypeVar("T")


def _strict(schema: type[T], values: Any, group: str) -> T:
    """An instance of the dataclass `schema`; unknown, missing and mistyped keys are ConfigErrors."""
    try:
        plain = OmegaConf.to_container(OmegaConf.create(values), resolve=True)  # typed nodes let extra keys pass
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
    _check_name(f"{group}.name", name, variants)
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
    word = key.rpartition(".")[2]
    parent = error.parent_node
    if isinstance(parent, DictConfig):
        for group, child in parent.items_ex(resolve=False):
            if group != "hydra" and isinstance(child, DictConfig) and word in child:
                return f"Did you mean '{_join(key.rpartition('.')[0], str(group))}.{word}'?"
        return did_you_mean(word, [str(name) for name in parent if name != "hydra"])
    assert dataclasses.is_dataclass(error.object_type)
    return did_you_mean(word, [field.name for field in dataclasses.fields(error.object_type)])


def _check_name(key: str, name: str, allowed: Any) -> None:
    if name not in allowed:
        raise ConfigError(f"{key}={name} is not known. {did_you_mean(name, allowed)}")


def _check_auto(key: str, value: object, kind: type, allowed: str) -> None:
    if value != "auto" and type(value) is not kind:
        raise ConfigError(f"{key}={value} is not known. Allowed: {allowed} or auto.")


def _check_range(key: str, value: float | None, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """`value` must lie in [low, high], or in (low, high] with `above`; None is let through."""
    if value is None:
        return
    if not math.isfinite(value) or value > high or (value <= low if above else value < low):
        allowed = ("" if math.isfinite(value) else "finite and ") + (f"above {low:g}" if above else f"at least {low:g}")
        allowed += "" if high == math.inf else f" and at most {high:g}"
        raise ConfigError(f"{key}={value} is out of range. It must be {allowed}.")


_POSITIVE = {"lr", "eps", "step_epochs", "div_factor", "final_div_factor"}
_RATIOS = {"momentum", "alpha", "gamma", "min_lr_ratio", "pct_start"}


def validate(config: Config) -> None:
    """Check ranges, and what fields mean together.

    Raises:
        ConfigError: naming the key, its value and what is allowed.
    """
    _check_range("seed", config.seed, 0, 2**63 - 1)
    _validate_data(config.data)
    _validate_train(config.train)
    _check_name("augment.name", config.augment.name, AUGMENTS)
    _check_name("device.name", config.device.name, DEVICES)
    _check_name("device.precision", config.device.precision, PRECISIONS)
    _check_auto("device.channels_last", config.device.channels_last, bool, "true, false")
    _check_auto("device.threads", config.device.threads, int, "a number")
    if isinstance(config.device.threads, int):
        _check_range("device.threads", config.device.threads, 1)
    for group, part in (("optimizer", config.optimizer), ("scheduler", config.scheduler)):
        for field in dataclasses.fields(part):
            key, value = f"{group}.{field.name}", getattr(part, field.name)
            if field.name in _POSITIVE:
                _check_range(key, value, 0, above=True)
            elif field.name in _RATIOS:
                _check_range(key, value, 0, 1)
            elif field.name in ("weight_decay", "warmup_epochs"):
                _check_range(key, value, 0)
    if isinstance(config.optimizer, AdamConfig):
        betas = config.optimizer.betas
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ConfigError(f"optimizer.betas={betas} must be two numbers from 0 up to, not including, 1.")
    if config.optimizer.name == "nesterov":
        assert isinstance(config.optimizer, SgdConfig)
        _check_range("optimizer.momentum", config.optimizer.momentum, 0, above=True)


def _validate_data(data: DataConfig) -> None:
    _check_range("data.resize", data.resize, 1, 4096)
    _check_range("data.validation", data.validation, 0)
    _check_range("data.train_examples", data.train_examples, 1)
    _check_range("data.test_examples", data.test_examples, 1)
    _check_range("data.folds", data.folds, 2)
    if (data.folds is None) != (data.fold is None):
        raise ConfigError("Cross-validation needs both keys, such as data.folds=5 data.fold=0.")
    if data.folds is not None:
        _check_range("data.fold", data.fold, 0, data.folds - 1)


def _validate_train(train: TrainConfig) -> None:
    _check_range("train.epochs", train.epochs, 1)
    _check_range("train.batch_size", train.batch_size, 1)
    _check_name("train.init", train.init, INITS)
    _check_name("train.loss", train.loss, LOSSES)
    _check_range("train.label_smoothing", train.label_smoothing, 0, 1)
    _check_range("train.l1", train.l1, 0)
    if train.label_smoothing > 0 and train.loss != "cross_entropy":
        raise ConfigError(
            f"train.label_smoothing={train.label_smoothing} is for train.loss=cross_entropy, not {train.loss}."
        )
    if train.require_learning and train.epochs < 2:
        raise ConfigError("train.require_learning=true compares epochs: it needs train.epochs=2 or more.")
