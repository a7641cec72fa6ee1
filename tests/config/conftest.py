"""Plain values of a configuration, for tests that change them."""

import copy
from typing import Any

import pytest
from helpers.config_values import compose_values

from cnnbench import config


@pytest.fixture(scope="session")
def plain_values() -> dict[str, Any]:
    """Return plain values that have as many keys as possible in every group. Do not change them."""
    return config.as_dict(config.load_config(compose_values("optimizer=rmsprop", "scheduler=step")))


@pytest.fixture
def values(plain_values: dict[str, Any]) -> dict[str, Any]:
    """Return plain values to change."""
    return copy.deepcopy(plain_values)
