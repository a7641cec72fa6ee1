"""The registry of networks, their YAMLs, and custom models."""

import inspect
from typing import Any

import pytest
import torch
from helpers.paths import CONF
from omegaconf import OmegaConf

from cnnbench import models
from cnnbench.analysis.meta_shapes import check_forward
from cnnbench.config import Recipe
from cnnbench.errors import ConfigError

MODEL_CONF = CONF / "model"
NAMES = models.names()
COMMON_ARGUMENTS = ("in_channels", "num_classes", "image_size")


def load_yaml(name: str) -> dict[str, Any]:
    values: Any = OmegaConf.to_container(OmegaConf.load(MODEL_CONF / f"{name}.yaml"))
    return {str(key): value for key, value in values.items()}


def yaml_arguments(name: str) -> dict[str, Any]:
    return {key: value for key, value in load_yaml(name).items() if key not in ("name", "recipe")}


def test_yamls_match_registry() -> None:
    assert {path.stem for path in MODEL_CONF.glob("*.yaml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_name_matches_network(name: str) -> None:
    assert load_yaml(name)["name"] == name


@pytest.mark.parametrize("name", NAMES)
def test_yaml_lists_arguments_of_constructor(name: str) -> None:
    parameters = inspect.signature(models.REGISTRY[name].build).parameters
    assert list(yaml_arguments(name)) == [key for key in parameters if key not in COMMON_ARGUMENTS]


@pytest.mark.parametrize("name", NAMES)
def test_yaml_holds_defaults_of_constructor(name: str) -> None:
    size = load_yaml(name)["recipe"]["resize"]
    with torch.device("meta"):
        from_yaml = models.build(name, image_size=size, **yaml_arguments(name))
        from_defaults = models.build(name, 1, 10, size)
    assert repr(from_yaml) == repr(from_defaults)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_recipe_is_complete(name: str) -> None:
    assert list(load_yaml(name)["recipe"]) == list(Recipe.__struct_fields__)


@pytest.mark.parametrize("name", NAMES)
def test_check_forward_passes_at_recipe_size(name: str) -> None:
    check_forward(name, 1, 10, load_yaml(name)["recipe"]["resize"], **yaml_arguments(name))


def test_unknown_name_error_suggests_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model\.name=lennet .*Did you mean 'lenet'\?"):
        models.build("lennet")


def test_custom_model_is_built(custom_module: str) -> None:
    network = models.build(f"{custom_module}:MyNet", 3, 7, 4, bias=False)
    assert network(torch.zeros(2, 3, 4, 4)).shape == (2, 7)


@pytest.mark.parametrize(
    "name", ["no_such_module:MyNet", "collections:NoSuchClass", ":MyNet", "collections:"]
)
def test_missing_module_or_class_raises_config_error(name: str) -> None:
    with pytest.raises(ConfigError, match=f"model.name={name}"):
        models.build(name)


@pytest.mark.parametrize("name", ["math:pi", "json:JSONDecoder", "torch.nn:Linear"])
def test_custom_model_that_cannot_be_built_raises_config_error(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: "):
        models.build(name)


def test_custom_model_that_is_not_a_module_raises_config_error(custom_module: str) -> None:
    with pytest.raises(ConfigError, match=r"must be a torch\.nn\.Module, not dict"):
        check_forward(f"{custom_module}:no_network", 1, 10, 28)
