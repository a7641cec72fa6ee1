"""Keys that may differ between a recorded run and a new one."""

from pathlib import Path
from typing import Any

from helpers.paths import CONF
from omegaconf import OmegaConf

from cnnbench import config


def test_runs_that_differ_only_in_bookkeeping_are_the_same(plain_values: dict[str, Any]) -> None:
    tracked = {**plain_values, "tracker": {"tensorboard": {}}}
    config.require_same(Path("run"), {**plain_values, "sweep": "other"}, tracked)


def test_names_of_jobs_exclude_bookkeeping_keys() -> None:
    excluded = OmegaConf.load(CONF / "train.yaml").hydra.job.config.override_dirname.exclude_keys
    keys = config.KEYS | config.GROUPS
    assert set(excluded) == {key for key in keys if config.is_below(key, config.BOOKKEEPING_KEYS)}
