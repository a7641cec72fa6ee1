"""What values may be, and what they mean together."""

import dataclasses
import math
from typing import Any

from cnnbench.config.schema import (
    AUGMENTS,
    DEVICES,
    FOLDER,
    INITS,
    LOSSES,
    MUON_FALLBACKS,
    ON_ERROR,
    ON_NONFINITE_LOSS,
    PRECISIONS,
    TTAS,
    AdamConfig,
    AugmentConfig,
    Config,
    DataConfig,
    MultiStepConfig,
    MuonConfig,
    SgdConfig,
    TrainConfig,
)
from cnnbench.errors import ConfigError, did_you_mean

__all__ = ["check_name", "validate"]


def check_name(key: str, name: str, allowed: Any) -> None:
    if name not in allowed:
        raise ConfigError(f"{key}={name} is not known. {did_you_mean(name, allowed)}")


def _check_auto(key: str, value: object, kind: type, allowed: str) -> None:
    if value != "auto" and type(value) is not kind:
        raise ConfigError(f"{key}={value} is not known. Allowed: {allowed} or auto.")


def _check_range(
    key: str, value: float | None, low: float, high: float = math.inf, *, above: bool = False, given: str = ""
) -> None:
    """`value` must lie in [low, high], or in (low, high] with `above`; None is let through.

    `given` ends the message: what the range depends on.
    """
    if value is None:
        return
    if not math.isfinite(value) or value > high or (value <= low if above else value < low):
        allowed = ("" if math.isfinite(value) else "finite and ") + (f"above {low:g}" if above else f"at least {low:g}")
        allowed += "" if high == math.inf else f" and at most {high:g}"
        raise ConfigError(f"{key}={value} is out of range. It must be {allowed}{given}.")


_POSITIVE = {"lr", "fallback_lr", "eps", "step_epochs", "div_factor", "final_div_factor"}
_RATIOS = {"momentum", "alpha", "gamma", "min_lr_ratio", "pct_start", "warmup_ratio"}


def validate(config: Config) -> None:
    """Check ranges, and what fields mean together.

    Raises:
        ConfigError: naming the key, its value and what is allowed.
    """
    _check_range("seed", config.seed, 0, 2**63 - 1)
    check_name("sweep_on_error", config.sweep_on_error, ON_ERROR)
    _validate_data(config.data)
    _validate_train(config.train)
    _validate_augment(config.augment, config.data.resize)
    _validate_reference(config)
    check_name("device.name", config.device.name, DEVICES)
    check_name("device.precision", config.device.precision, PRECISIONS)
    _check_auto("device.channels_last", config.device.channels_last, bool, "true, false")
    _check_auto("device.cuda_graphs", config.device.cuda_graphs, bool, "true, false")
    _check_auto("device.threads", config.device.threads, int, "a number")
    if isinstance(config.device.threads, int):
        _check_range("device.threads", config.device.threads, 1, 1024)
    if config.tracker.mlflow is not None:
        for key in ("uri", "experiment"):
            if getattr(config.tracker.mlflow, key) == "":
                raise ConfigError(f"tracker.mlflow.{key} is empty. Leave it out, or give it a value.")
    for group, part in (("optimizer", config.optimizer), ("scheduler", config.scheduler)):
        for field in dataclasses.fields(part):
            key, value = f"{group}.{field.name}", getattr(part, field.name)
            if field.name in _POSITIVE:
                _check_range(key, value, 0, above=True)
            elif field.name in _RATIOS:
                _check_range(key, value, 0, 1)
            elif field.name in ("weight_decay", "warmup_epochs"):
                _check_range(key, value, 0)
    if isinstance(config.scheduler, MultiStepConfig):
        for milestone in config.scheduler.milestones or []:
            _check_range("scheduler.milestones", milestone, 0, above=True)
    if isinstance(config.optimizer, AdamConfig):
        betas = config.optimizer.betas
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ConfigError(f"optimizer.betas={betas} must be two numbers from 0 up to, not including, 1.")
    if isinstance(config.optimizer, MuonConfig):
        check_name("optimizer.fallback", config.optimizer.fallback, MUON_FALLBACKS)
    if config.optimizer.name == "nesterov":
        assert isinstance(config.optimizer, SgdConfig)
        _check_range("optimizer.momentum", config.optimizer.momentum, 0, above=True)


def _validate_data(data: DataConfig) -> None:
    _check_range("data.resize", data.resize, 1, 4096)
    share = type(data.validation) is float and 0 <= data.validation < 1
    if not share and not (type(data.validation) is int and data.validation >= 0):
        raise ConfigError(
            f"data.validation={data.validation} is out of range. It must be at least 0: a whole number of examples, or "
            "a share of them below 1."
        )
    _check_range("data.train_examples", data.train_examples, 1)
    _check_range("data.test_examples", data.test_examples, 1)
    _check_range("data.folds", data.folds, 2)
    if (data.folds is None) != (data.fold is None):
        raise ConfigError("Cross-validation needs both keys, such as data.folds=5 data.fold=0.")
    if data.folds is not None:
        _check_range("data.fold", data.fold, 0, data.folds - 1)
    _validate_folder(data)


def _validate_folder(data: DataConfig) -> None:
    """What goes with data=folder, and with that alone."""
    if data.name != FOLDER:
        for key in ("path", "image_size", "channels"):
            if getattr(data, key) is not None:
                raise ConfigError(f"data.{key}={getattr(data, key)} is for data=folder, not for data={data.name}.")
        return
    if not data.path:
        raise ConfigError(
            "data=folder needs data.path=DIR, the folder of your images: a folder in it for each class, or IDX files."
        )
    if data.root is not None:
        raise ConfigError(f"data.root={data.root} is for data sets that are fetched. Your images are in data.path.")
    _check_range("data.image_size", data.image_size, 1, 4096)
    if data.channels not in (None, 1, 3):
        raise ConfigError(
            f"data.channels={data.channels} is not known. Allowed: 1 for grey, 3 for colour, null for either."
        )


def _validate_augment(augment: AugmentConfig, size: int) -> None:
    check_name("augment.name", augment.name, AUGMENTS)
    of_size = f", with images of data.resize={size}"
    _check_range("augment.translate", augment.translate, 0, size - 1, given=of_size)
    _check_range("augment.cutout", augment.cutout, 0, size, given=of_size)
    _check_range("augment.random_erasing", augment.random_erasing, 0, 1)
    _check_range("augment.mixup", augment.mixup, 0)
    _check_range("augment.cutmix", augment.cutmix, 0)
    if augment.mixup > 0 and augment.cutmix > 0:
        raise ConfigError(
            f"augment.mixup={augment.mixup} and augment.cutmix={augment.cutmix} both mix images: "
            "one of them must be 0. Set augment.mixup=0 or augment.cutmix=0."
        )


REFERENCE_OPTIMIZERS = ("adagrad", "adam", "momentum", "sgd")  # those in cnnbench/reference


def _validate_reference(config: Config) -> None:
    """Check that there is a reference of what it shall compute."""
    name, precision = config.optimizer.name, config.device.precision
    if config.reference.optimizer and name not in REFERENCE_OPTIMIZERS:
        known = ", ".join(REFERENCE_OPTIMIZERS)
        raise ConfigError(f"reference.optimizer=true is for {known}, not for {name}.")
    if config.reference.layers and precision in ("bf16", "fp16"):
        raise ConfigError(
            "reference.layers=true computes in fp32, tf32 or fp64, not in "
            f"device.precision={precision}: autocast knows PyTorch's own operations alone."
        )
    if config.reference.layers and config.device.sync_batchnorm:
        raise ConfigError("reference.layers=true and device.sync_batchnorm=true both replace batch normalization.")


def _validate_train(train: TrainConfig) -> None:
    _check_range("train.epochs", train.epochs, 1)
    _check_range("train.batch_size", train.batch_size, 1, 100_000)
    check_name("train.init", train.init, INITS)
    check_name("train.loss", train.loss, LOSSES)
    check_name("train.tta", train.tta, TTAS)
    check_name("train.on_nonfinite_loss", train.on_nonfinite_loss, ON_NONFINITE_LOSS)
    _check_range("train.checkpoint_every.epochs", train.checkpoint_every.epochs, 1)
    _check_range("train.checkpoint_every.steps", train.checkpoint_every.steps, 1)
    _check_range("train.checkpoint_every.minutes", train.checkpoint_every.minutes, 0)
    _check_range("train.label_smoothing", train.label_smoothing, 0, 1)
    _check_range("train.l1", train.l1, 0)
    _check_range("train.grad_clip_norm", train.grad_clip_norm, 0, above=True)
    _check_range("train.ema_decay", train.ema_decay, 0, 1)
    if train.ema_decay == 1:
        raise ConfigError("train.ema_decay=1 keeps the initial weights for ever. It must be below 1, such as 0.99.")
    if train.label_smoothing > 0 and train.loss != "cross_entropy":
        raise ConfigError(
            f"train.label_smoothing={train.label_smoothing} is for train.loss=cross_entropy, not {train.loss}."
        )
    if train.fail_if_not_learning and train.epochs < 2:
        raise ConfigError("train.fail_if_not_learning=true compares epochs: it needs train.epochs=2 or more.")
