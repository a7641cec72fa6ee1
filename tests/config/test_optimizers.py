"""Configuration fields of optimizers and schedulers."""

from typing import Any

import pytest
from helpers.config_values import replace_values

from cnnbench import config
from cnnbench.errors import ConfigError

MULTISTEP = {
    "name": "multistep",
    "milestones": [1.0],
    "gamma": 0.1,
    "warmup_epochs": 0.0,
    "warmup_ratio": None,
}


ONECYCLE = {"name": "onecycle", "pct_start": 0.3, "div_factor": 25.0, "final_div_factor": 1e4}


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ({"name": "cosine", "min_lr_ratio": 1.5, "warmup_epochs": 0.0}, r"\.min_lr_ratio=1\.5"),
        (MULTISTEP | {"milestones": [0.0]}, r"scheduler\.milestones=0\.0 is out of range"),
        (
            MULTISTEP | {"milestones": [1.0, float("nan")]},
            r"scheduler\.milestones=nan is out of range",
        ),
        (MULTISTEP | {"gamma": 1.5}, r"scheduler\.gamma=1\.5"),
        (MULTISTEP | {"warmup_ratio": 1.5}, r"scheduler\.warmup_ratio=1\.5"),
        (MULTISTEP | {"warmup_epochs": -1.0}, r"scheduler\.warmup_epochs=-1\.0"),
        (ONECYCLE | {"pct_start": 1.5}, r"pct_start=1\.5"),
        (ONECYCLE | {"div_factor": 0.0}, r"\.div_factor=0"),
        (ONECYCLE | {"final_div_factor": 0.0}, "final_div_factor=0"),
    ],
)
def test_ranges_of_scheduler_keys_are_checked(
    scheduler: dict[str, Any], message: str, values: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load_config(replace_values(values, scheduler=scheduler))


@pytest.mark.parametrize(
    "betas", [[0.9], [0.9, 0.99, 0.999], [0.9, 1.0], [-0.1, 0.9], [0.9, float("nan")]], ids=repr
)
def test_betas_are_two_numbers_below_one(betas: list[float], values: dict[str, Any]) -> None:
    adam = {"name": "adam", "lr": 0.001, "betas": betas, "eps": 1e-8, "weight_decay": 0.0}
    with pytest.raises(ConfigError, match=r"optimizer\.betas=.* must be two numbers"):
        config.load_config(replace_values(values, optimizer=adam))


def test_nesterov_needs_a_momentum(values: dict[str, Any]) -> None:
    nesterov = {"name": "nesterov", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    with pytest.raises(ConfigError, match=r"optimizer\.momentum=0\.0 is out of range"):
        config.load_config(replace_values(values, optimizer=nesterov))


def test_key_of_another_optimizer_is_unknown(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"There is no key 'optimizer\.betas'\..*Allowed: alpha"):
        config.load_config(replace_values(values, optimizer__betas=[0.9, 0.999]))


def test_milestones_are_converted_to_numbers(values: dict[str, Any]) -> None:
    settings = config.load_config(
        replace_values(values, scheduler=MULTISTEP | {"milestones": ["03", 5]})
    )
    assert isinstance(settings.scheduler, config.MultiStepConfig)
    assert settings.scheduler.milestones == [3.0, 5.0]
