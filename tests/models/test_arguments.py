"""The arguments of networks: names, types and depth."""

import inspect
import re

import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.errors import ConfigError


def names_with(argument: str) -> list[str]:
    """Return the networks whose constructor takes the argument."""
    names = []
    for name in models.names():
        if argument in inspect.signature(models.REGISTRY[name].build).parameters:
            names.append(name)
    return names


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
        ("lenet", "kernel_size", 2.5),
        ("lenet", "channels", 6),
        ("lenet", "hidden", None),
        ("lenet", "padding_value", "gray"),
        ("alexnet", "width", "x"),
        ("inception_net", "bottleneck", 1),
    ],
)
def test_argument_of_wrong_type_raises(name: str, argument: str, value: object) -> None:
    shown = "null" if value is None else value
    with pytest.raises(
        ConfigError, match=re.escape(f"model.{argument}={shown} has the wrong type")
    ):
        models.build(name, image_size=96, **{argument: value})


def test_wrong_type_error_describes_expected_type() -> None:
    with pytest.raises(ConfigError, match=r"mlp wants a list of whole numbers or null\."):
        models.build("mlp", widths=5)


@pytest.mark.parametrize(
    ("name", "argument", "value", "shown"),
    [
        *[(name, "depth", 10**6, "model.depth=1000000") for name in names_with("depth")],
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
            r"activation=gelu is not known\. .*Allowed: relu, sigmoid, step, tanh\.",
        ),
        (
            "mlp",
            "activation",
            "stepp",
            r"activation=stepp is not known\. Did you mean 'step'\? "
            r"Allowed: relu, sigmoid, step, tanh\.",
        ),
        (
            "lenet",
            "padding_mode",
            "wrap",
            r"mode=wrap is not known\. Allowed: circular, constant, reflect, replicate, zeros\.",
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
            for name in names_with("padding_mode")
            if name != "lenet"
        ],
    ],
)
def test_invalid_argument_error_lists_allowed_values(
    name: str, argument: str, value: object, answer: str
) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=answer):
        models.build(name, image_size=224, **{argument: value})


def test_custom_model_argument_types_are_checked(custom_module: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.bias=1 has the wrong type"):
        models.build(f"{custom_module}:MyNet", bias=1)


def test_custom_model_depth_has_no_limit(custom_module: str) -> None:
    assert isinstance(models.build(f"{custom_module}:Deep", depth=10**6), nn.Module)


def test_custom_model_with_keywords_gets_any_argument(custom_module: str) -> None:
    assert models.build(f"{custom_module}:Anything", depth=3).rest == {"depth": 3}
