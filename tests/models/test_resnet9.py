"""ResNet-9, stage by stage, compared with the network of How to Train Your ResNet."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench import models
from cnnbench.errors import ConfigError

Shapes = list[tuple[int, ...]]

STAGES = [
    *("prep", "layer1.0", "layer1", "layer2.0", "layer2", "layer3.0", "layer3"),
    *("classifier.0", "classifier"),
]


@pytest.mark.parametrize(("size", "sides"), [(32, [32, 16, 8, 4]), (28, [28, 14, 7, 3])])
def test_layers_halve_maps_and_double_channels(
    size: int, sides: list[int], stage_shapes: Callable[..., Shapes]
) -> None:
    first, second, third, fourth = sides
    assert stage_shapes(STAGES, "resnet9", size) == [
        (64, first, first),
        (128, first, first), (128, second, second),
        (256, second, second), (256, third, third),
        (512, third, third), (512, fourth, fourth),
        (512, 1, 1), (10,),
    ]  # fmt: skip


def test_width_sets_channels_of_first_convolution(stage_shapes: Callable[..., Shapes]) -> None:
    shapes = stage_shapes(["prep", "layer1", "layer2", "layer3"], "resnet9", 32, width=16)
    assert [shape[0] for shape in shapes] == [16, 32, 64, 128]


def test_number_of_parameters_matches_formula(num_parameters: Callable[..., int]) -> None:
    convolutions = [
        *((3, 64), (64, 128), (128, 128), (128, 128)),
        *((128, 256), (256, 512), (512, 512), (512, 512)),
    ]
    weights = sum(9 * in_channels * out_channels for in_channels, out_channels in convolutions)
    normalization = sum(2 * out_channels for _, out_channels in convolutions)
    assert num_parameters("resnet9", 32, 3) == weights + normalization + 512 * 10


def test_number_of_multiply_adds_matches_formula(multiply_adds: Callable[..., int]) -> None:
    at_28 = 9 * (1 * 64 + 64 * 128) * 28 * 28
    at_14 = 9 * (2 * 128 * 128 + 128 * 256) * 14 * 14
    at_7 = 9 * 256 * 512 * 7 * 7
    at_3 = 9 * 2 * 512 * 512 * 3 * 3
    assert multiply_adds("resnet9", 28) == at_28 + at_14 + at_7 + at_3 + 512 * 10


def test_logits_match_functional_implementation(randomize: Callable[[nn.Module], None]) -> None:
    network = models.build("resnet9", 3, image_size=32, width=4, scale=0.25).eval()
    randomize(network)
    weights = network.state_dict()

    def conv(maps: torch.Tensor, key: str) -> torch.Tensor:
        mean, var, weight, bias = (
            weights[f"{key}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        maps = functional.conv2d(maps, weights[f"{key}.0.weight"], padding=1)
        return functional.batch_norm(maps, mean, var, weight, bias).relu()

    def residual(maps: torch.Tensor, key: str) -> torch.Tensor:
        return maps + conv(conv(maps, f"{key}.residual.0"), f"{key}.residual.1")

    images = torch.randn(2, 3, 32, 32)
    maps = residual(functional.max_pool2d(conv(conv(images, "prep"), "layer1.0"), 2), "layer1.2")
    maps = functional.max_pool2d(conv(maps, "layer2.0"), 2)
    maps = residual(functional.max_pool2d(conv(maps, "layer3.0"), 2), "layer3.2")
    expected = 0.25 * (functional.max_pool2d(maps, 4).flatten(1) @ weights["classifier.2.weight"].T)
    torch.testing.assert_close(network(images), expected)


def test_last_pooling_covers_whole_map() -> None:
    pool = models.build("resnet9", image_size=28).get_submodule("classifier.0")
    maps = torch.randn(2, 512, 3, 3)
    torch.testing.assert_close(pool(maps).flatten(1), maps.amax((2, 3)))


def test_only_normalization_has_biases(meta_network: Callable[..., nn.Module]) -> None:
    layers = meta_network("resnet9", 32).modules()
    assert {layer.bias for layer in layers if isinstance(layer, (nn.Conv2d, nn.Linear))} == {None}


@pytest.mark.parametrize(
    ("argument", "value", "answer"),
    [
        ("width", 0, r"width=0 must be at least 1"),
        ("width", -64, r"width=-64 must be at least 1"),
        ("scale", 0.0, r"scale=0\.0 must be finite and above 0"),
        ("scale", float("inf"), r"scale=inf must be finite and above 0"),
        ("scale", float("nan"), r"scale=nan must be finite and above 0"),
    ],
)
def test_width_or_scale_out_of_range_raises(
    argument: str, value: float, answer: str, meta_network: Callable[..., nn.Module]
) -> None:
    with pytest.raises(ConfigError, match=answer):
        meta_network("resnet9", 32, **{argument: value})
