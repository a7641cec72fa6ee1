"""How networks are built by name, and the YAML of each."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import CONF
from omegaconf import OmegaConf
from torch import nn

from cnnbench import models
from cnnbench.analysis.meta_shapes import check_forward
from cnnbench.config import Recipe
from cnnbench.errors import ConfigError

MODEL_CONF = CONF / "model"
NAMES = models.names()
GIVEN = ("in_channels", "num_classes", "image_size")


def yaml_of(name: str) -> dict[str, Any]:
    values: Any = OmegaConf.to_container(OmegaConf.load(MODEL_CONF / f"{name}.yaml"))
    return {str(key): value for key, value in values.items()}


def yaml_arguments(name: str) -> dict[str, Any]:
    return {key: value for key, value in yaml_of(name).items() if key not in ("name", "recipe")}


PADDING = [name for name in NAMES if "padding_mode" in yaml_arguments(name)]


def test_yamls_match_registry() -> None:
    assert {path.stem for path in MODEL_CONF.glob("*.yaml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_name_matches_network(name: str) -> None:
    assert yaml_of(name)["name"] == name


@pytest.mark.parametrize("name", NAMES)
def test_yaml_lists_arguments_of_constructor(name: str) -> None:
    parameters = inspect.signature(models.REGISTRY[name].build).parameters
    assert list(yaml_arguments(name)) == [key for key in parameters if key not in GIVEN]


@pytest.mark.parametrize("name", NAMES)
def test_yaml_holds_defaults_of_constructor(name: str) -> None:
    size = yaml_of(name)["recipe"]["resize"]
    with torch.device("meta"):
        by_yaml, by_default = (
            models.build(name, image_size=size, **yaml_arguments(name)),
            models.build(name, 1, 10, size),
        )
    assert repr(by_yaml) == repr(by_default)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_recipe_is_complete(name: str) -> None:
    assert list(yaml_of(name)["recipe"]) == list(Recipe.__struct_fields__)


@pytest.mark.parametrize("name", NAMES)
def test_check_forward_passes_at_recipe_size(name: str) -> None:
    check_forward(name, 1, 10, yaml_of(name)["recipe"]["resize"], **yaml_arguments(name))


def test_unknown_name_error_suggests_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model\.name=lennet .*Did you mean 'lenet'\?"):
        models.build("lennet")


def test_unknown_argument_error_suggests_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'model\.dropuot'.*Did you mean 'dropout'\?"):
        models.build("alexnet", image_size=96, dropuot=0.1)


def test_argument_for_network_without_arguments_raises() -> None:
    with pytest.raises(
        ConfigError, match=r"simple_cnn takes no argument 'model\.dropout'. It takes none\."
    ):
        models.build("simple_cnn", dropout=0.1)


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("alexnet", "dropout", "x"),
        ("alexnet", "dropout", True),
        ("alexnet", "dropout", None),
        ("mlp", "widths", "a"),
        ("mlp", "widths", 5),
        ("mlp", "widths", [1.5]),
        ("mlp", "widths", [True]),
        ("mlp", "widths", ["5"]),
    ],
)
def test_argument_of_wrong_type_raises(name: str, argument: str, value: object) -> None:
    shown = "null" if value is None else value
    with pytest.raises(
        ConfigError, match=re.escape(f"model.{argument}={shown} has the wrong type")
    ):
        models.build(name, image_size=96, **{argument: value})


@pytest.mark.parametrize(
    ("name", "argument", "value", "shown"),
    [
        *[
            (name, "depth", 10**6, "model.depth=1000000")
            for name in NAMES
            if "depth" in yaml_arguments(name)
        ],
        ("mlp", "widths", [1] * 10_001, "model.widths with 10,001 entries"),
    ],
)
def test_excessive_depth_raises_before_building(
    name: str, argument: str, value: object, shown: str
) -> None:
    with pytest.raises(
        ConfigError, match=rf"{shown} is out of range\. It must be at most 10,000: "
    ):
        models.build(name, image_size=32, **{argument: value})


@pytest.mark.parametrize(
    ("name", "argument", "value"), [("alexnet", "dropout", 0), ("mlp", "widths", None)]
)
def test_integer_for_float_and_none_for_optional_are_accepted(
    name: str, argument: str, value: object
) -> None:
    with torch.device("meta"):
        assert isinstance(models.build(name, image_size=96, **{argument: value}), nn.Module)


@pytest.mark.parametrize(
    ("name", "argument", "value", "answer"),
    [
        ("alexnet", "dropout", 2.0, r"between 0 and 1, but got 2\.0"),
        ("mlp", "widths", [8, 0], r"widths=\[8, 0\]: every width must be at least 1"),
        ("resnet18", "stem", "tiny", r"stem=tiny is not known\. Allowed: imagenet, small\."),
        ("lenet", "pooling", "median", r"pooling=median is not known\. .*Allowed: avg, max, min\."),
        (
            "lenet",
            "activation",
            "gelu",
            r"activation=gelu is not known\. .*Allowed: relu, sigmoid, tanh\.",
        ),
        (
            "preact_resnet110",
            "shortcut",
            "gated",
            r"shortcut=gated is not known\. Allowed: constant_scaling, conv1x1, ",
        ),
        (
            "preact_resnet110",
            "activation_order",
            "none",
            r"order=none is not known\. Allowed: bn_after_addition, full_",
        ),
        *[
            (name, "padding_mode", "wrap", r"mode=wrap is not known\. Allowed: circular, reflect, ")
            for name in PADDING
        ],
    ],
)
def test_invalid_argument_error_lists_allowed_values(
    name: str, argument: str, value: object, answer: str
) -> None:
    size = yaml_of(name)["recipe"]["resize"]
    with torch.device("meta"), pytest.raises(ConfigError, match=answer):
        models.build(name, image_size=size, **{argument: value})


CUSTOM = """
from torch import nn

class MyNet(nn.Sequential):
    def __init__(self, in_channels: int, num_classes: int, image_size: int, bias: bool = True) -> None:
        super().__init__(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes, bias=bias))

class Deep(MyNet):
    def __init__(self, in_channels: int, num_classes: int, image_size: int, depth: int) -> None:
        super().__init__(in_channels, num_classes, image_size)

class Anything(MyNet):
    def __init__(self, in_channels: int, num_classes: int, image_size: int, **rest: object) -> None:
        super().__init__(in_channels, num_classes, image_size)
        self.rest = rest

def no_network(in_channels: int, num_classes: int, image_size: int) -> dict[str, int]:
    return {}
"""


@pytest.fixture
def custom_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of one's own that can be imported."""
    name = "networks_of_my_own"
    (tmp_path / f"{name}.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_custom_model_is_built(custom_module: str) -> None:
    network = models.build(f"{custom_module}:MyNet", 3, 7, 4, bias=False)
    assert network(torch.zeros(2, 3, 4, 4)).shape == (2, 7)


def test_custom_model_argument_types_are_checked(custom_module: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.bias=1 has the wrong type"):
        models.build(f"{custom_module}:MyNet", bias=1)


def test_custom_model_depth_has_no_limit(custom_module: str) -> None:
    assert isinstance(models.build(f"{custom_module}:Deep", depth=10**6), nn.Module)


def test_custom_model_with_keywords_gets_any_argument(custom_module: str) -> None:
    assert models.build(f"{custom_module}:Anything", depth=3).rest == {"depth": 3}


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


class Probe(nn.Module):
    """A network of one weight that returns what a test wants."""

    def __init__(self, forward: Callable[[torch.Tensor, torch.Tensor], object]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(10))
        self.returns = forward

    def forward(self, images: torch.Tensor) -> object:
        return self.returns(images, self.weight)


ProbeMaker = Callable[[Callable[[torch.Tensor, torch.Tensor], object]], str]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> ProbeMaker:
    """Puts a network into the registry and gives its name."""

    def register(forward: Callable[[torch.Tensor, torch.Tensor], object]) -> str:
        monkeypatch.setitem(
            models.REGISTRY, "probe", models.ModelSpec(lambda **_: Probe(forward), 1, "a test")
        )
        return "probe"

    return register


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (lambda images, weight: weight, r"\(10,\)"),
        (lambda images, weight: weight.expand(1, 1, 10), r"\(1, 1, 10\)"),
        (lambda images, weight: weight[:9].unsqueeze(0), r"\(1, 9\)"),
        (lambda images, weight: [weight.unsqueeze(0)], "list"),
    ],
    ids=["no batch", "too many dimensions", "too few classes", "no tensor"],
)
def test_check_forward_rejects_wrong_output(
    output: Callable[[torch.Tensor, torch.Tensor], object], shown: str, probe: ProbeMaker
) -> None:
    with pytest.raises(ConfigError, match=rf"must return logits of shape \(1, 10\).*not {shown}"):
        check_forward(probe(output), 1, 10, 28)


def test_check_forward_reports_failing_network(probe: ProbeMaker) -> None:
    with pytest.raises(ConfigError, match="probe fails on an image of 28 pixels: "):
        check_forward(probe(lambda images, weight: images @ weight), 1, 10, 28)


def test_check_forward_runs_on_meta_device(probe: ProbeMaker) -> None:
    devices: list[str] = []

    def forward(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        devices.extend((images.device.type, weight.device.type))
        return weight.unsqueeze(0)

    check_forward(probe(forward), 1, 10, 28)
    assert devices == ["meta", "meta"]
