"""What the tests of the data layer share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cnnbench.config import DataConfig
from cnnbench.data import storage
from cnnbench.data.catalog import get
from cnnbench.data.storage import Arrays

SAMPLE_YAML = Path(__file__).parents[2] / "conf" / "data" / "sample.yaml"


@pytest.fixture(scope="session")
def sample() -> Arrays:
    return storage.load(get("sample"))


@pytest.fixture
def data_config() -> Callable[..., DataConfig]:
    """Makes a configuration of which only the given keys differ from the sample's."""

    def make(**changes: object) -> DataConfig:
        values = OmegaConf.merge(OmegaConf.load(SAMPLE_YAML), {"resize": 28}, changes)
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DataConfig), values))
        assert isinstance(config, DataConfig)
        return config

    return make
