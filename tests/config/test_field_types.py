"""Ranges of the numbers in a configuration."""

import re
from typing import Any

import pytest
from helpers.config_values import replace_values

from cnnbench import config
from cnnbench.config import Config
from cnnbench.errors import ConfigError

OUT_OF_RANGE = {
    "at least 0": "seed=-1 data.validation=-1 data.validation=-0.1 augment.translate=-1 "
    "augment.cutout=-1 augment.mixup=-0.1 augment.cutmix=-0.1 train.l1=-0.1 "
    "optimizer.weight_decay=-0.1 scheduler.warmup_epochs=-1.0",
    "above 0": "train.grad_clip_norm=0.0 optimizer.lr=-1.0 optimizer.lr=0.0 optimizer.lr=nan "
    "optimizer.lr=inf optimizer.eps=0.0 scheduler.step_epochs=0.0",
    "at least 1": "data.resize=0 data.train_examples=0 data.test_examples=0 train.epochs=0 "
    "train.batch_size=0 train.log_every=0",
    "at least 0 and at most 1": "augment.random_erasing=-0.1 augment.random_erasing=1.5 "
    "train.label_smoothing=-0.1 train.label_smoothing=1.5 train.ema_decay=-0.1 train.ema_decay=1.1 "
    "optimizer.alpha=1.5 optimizer.momentum=-0.1 optimizer.momentum=2.0 scheduler.gamma=1.5",
    "at least 1 and at most 1024": "device.threads=0 device.threads=1000000",
    "at most 4096": "data.resize=5000",
    "finite": "augment.mixup=inf augment.cutmix=inf",
    "a share of them below 1": "data.validation=1.0 data.validation=nan",
    "a whole number of examples, or a share": "data.validation=x data.validation=True",
    "at most 27, with images of data.resize=28": "augment.translate=28",
    "at most 28, with images of data.resize=28": "augment.cutout=29",
}


CASES_OUT_OF_RANGE = [
    (override, allowed)
    for allowed, overrides in OUT_OF_RANGE.items()
    for override in overrides.split()
]


@pytest.mark.parametrize(("override", "allowed"), CASES_OUT_OF_RANGE)
def test_value_out_of_range_is_reported_with_the_range(
    override: str, allowed: str, values: dict[str, Any]
) -> None:
    key, _, value = override.partition("=")
    with pytest.raises(
        ConfigError, match=re.escape(f"{override} is out of range") + f".*{allowed}"
    ):
        config.load_config(replace_values(values, **{key.replace(".", "__"): value}))


FOLDER = {"data__name": "folder", "data__path": "photos"}


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2**63 - 1, "train__label_smoothing": 1.0, "augment__cutmix": 1.0},
        {"optimizer__momentum": 0.0, "augment__translate": 27, "augment__cutout": 28},
        {"optimizer__momentum": 1.0, "augment__random_erasing": 1.0, "augment__mixup": 0.2},
        {"data__train_examples": 1, "train__l1": 1},
        {"device__threads": "auto", "device__channels_last": "auto", "data__validation": 0.5},
        {"device__threads": 1, "device__channels_last": True, "data__validation": 0.0},
        {"data__folds": 2, "data__fold": 1},
        FOLDER,
        {**FOLDER, "data__channels": 3, "data__image_size": 1},
        {"train__fail_if_not_learning": True, "train__epochs": 2},
        {"train__grad_clip_norm": 0.1, "train__ema_decay": 0.0, "train__tta": "hflip"},
        {"device__compile": True, "device__cuda_graphs": False},
    ],
    ids=str,
)
def test_ends_of_ranges_are_allowed(changes: dict[str, object], values: dict[str, Any]) -> None:
    assert isinstance(config.load_config(replace_values(values, **changes)), Config)
