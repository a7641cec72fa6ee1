"""LeNet and the improved LeNet of the course notes, layer by layer."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench import models
from cnnbench.errors import ConfigError

Shapes = list[tuple[int, ...]]


def test_lenet_map_shapes_match_book(output_shapes: Callable[[str, int], Shapes]) -> None:
    assert output_shapes("lenet", 28) == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,),
    ]  # fmt: skip


def test_lenet_relu_map_shapes_match_notes(output_shapes: Callable[[str, int], Shapes]) -> None:
    assert output_shapes("lenet_relu", 28) == [
        (6, 24, 24), (6, 12, 12), (10, 8, 8), (10, 4, 4), (160,), (120,), (84,), (10,),
    ]  # fmt: skip


def test_lenet_has_average_pooling_and_sigmoid(
    layer_names: Callable[[str, int], list[str]],
) -> None:
    assert layer_names("lenet", 28) == [
        "Conv2d", "Sigmoid", "AvgPool2d", "Conv2d", "Sigmoid", "AvgPool2d",
        "Flatten", "Linear", "Sigmoid", "Linear", "Sigmoid", "Linear",
    ]  # fmt: skip


def test_lenet_relu_has_max_pooling_and_sigmoid_classifier(
    layer_names: Callable[[str, int], list[str]],
) -> None:
    assert layer_names("lenet_relu", 28) == [
        "Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d",
        "Flatten", "Linear", "Sigmoid", "Linear", "Sigmoid", "Linear",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), [("lenet", 61_706), ("lenet_relu", 32_000)])
def test_number_of_parameters(
    name: str, expected: int, num_parameters: Callable[[str, int], int]
) -> None:
    assert num_parameters(name, 28) == expected


@pytest.mark.parametrize(("name", "expected"), [("lenet", 416_520), ("lenet_relu", 212_520)])
def test_number_of_multiply_adds(
    name: str, expected: int, multiply_adds: Callable[[str, int], int]
) -> None:
    assert multiply_adds(name, 28) == expected


def test_default_weights_and_logits_equal_book_layers_of_same_seed() -> None:
    torch.manual_seed(0)
    book = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(),
        nn.Linear(84, 10),
    )  # fmt: skip
    torch.manual_seed(0)
    network = models.build("lenet")
    weights, expected = network.state_dict(), book.state_dict()
    layers = ("features.0", "features.3", "classifier.1", "classifier.3", "classifier.5")
    assert list(weights) == [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    assert all(map(torch.equal, weights.values(), expected.values()))
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(network(images), book(images))


@pytest.mark.parametrize(
    ("kernel_size", "second_side", "parameters"),
    [
        # 10 x 6 + 55 x 16 + 577 x 120 + 121 x 84 + 85 x 10
        (3, 12, 60 + 880 + 69_240 + 10_164 + 850),
        # 50 x 6 + 295 x 16 + 257 x 120 + 121 x 84 + 85 x 10
        (7, 8, 300 + 4_720 + 30_840 + 10_164 + 850),
    ],
)
def test_kernel_size_argument_keeps_first_maps_and_shrinks_second(
    kernel_size: int,
    second_side: int,
    parameters: int,
    output_shapes: Callable[..., Shapes],
    num_parameters: Callable[..., int],
) -> None:
    pooled = second_side // 2
    assert output_shapes("lenet", 28, kernel_size=kernel_size) == [
        (6, 28, 28), (6, 14, 14), (16, second_side, second_side), (16, pooled, pooled),
        (16 * pooled * pooled,), (120,), (84,), (10,),
    ]  # fmt: skip
    assert num_parameters("lenet", 28, kernel_size=kernel_size) == parameters


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7, 9, 11, 13])
def test_smallest_image_for_kernel_size_leaves_one_pixel(
    kernel_size: int, output_shapes: Callable[..., Shapes]
) -> None:
    size = max(12, 2 * kernel_size + 2)
    side = (size // 2 - kernel_size + 1) // 2
    assert output_shapes("lenet", size, kernel_size=kernel_size)[3] == (16, side, side)
    assert side == 1 or kernel_size < 5


@pytest.mark.parametrize(
    ("kernel_size", "size", "answer"),
    [
        (4, 28, r"must be odd and at least 1"),
        (0, 28, r"must be odd and at least 1"),
        (-1, 28, r"must be odd and at least 1"),
        (15, 28, r"maps of 14 x 14\. Take at most kernel_size=13, or at least data\.resize=32\."),
        (7, 14, r"maps of 7 x 7\. Take at most kernel_size=5, or at least data\.resize=16\."),
        (7, 12, r"maps of 6 x 6\. Take at most kernel_size=5, or at least data\.resize=16\."),
    ],
)
def test_kernel_size_out_of_range_raises(kernel_size: int, size: int, answer: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model lenet: kernel_size={kernel_size} .*{answer}"):
        models.build("lenet", image_size=size, kernel_size=kernel_size)


def test_channels_and_hidden_arguments_set_widths(output_shapes: Callable[..., Shapes]) -> None:
    assert output_shapes("lenet", 28, channels=[20, 50], hidden=[500]) == [
        (20, 28, 28), (20, 14, 14), (50, 10, 10), (50, 5, 5), (1250,), (500,), (10,),
    ]  # fmt: skip


def test_empty_hidden_argument_leaves_layer_of_logits(
    output_shapes: Callable[..., Shapes],
) -> None:
    assert output_shapes("lenet", 28, hidden=[])[4:] == [(400,), (10,)]


@pytest.mark.parametrize("channels", [[0, 16], [6, -1], [6], [6, 16, 32], []])
def test_channels_out_of_range_raise(channels: list[int]) -> None:
    shown = re.escape(str(channels))
    with pytest.raises(
        ConfigError, match=f"^model lenet: channels={shown} must be two numbers of at least 1"
    ):
        models.build("lenet", channels=channels)


def test_hidden_layer_without_features_raises() -> None:
    with pytest.raises(ConfigError, match=r"hidden=\[120, 0\]: every layer needs at least 1"):
        models.build("lenet", hidden=[120, 0])


@pytest.mark.parametrize(
    ("activation", "layer"),
    [("sigmoid", "Sigmoid"), ("tanh", "Tanh"), ("relu", "ReLU"), ("step", "Step")],
)
def test_activation_argument_sets_all_activations(
    activation: str, layer: str, layer_names: Callable[..., list[str]]
) -> None:
    names = layer_names("lenet", 28, activation=activation)
    assert [name for name in names if name in ("Sigmoid", "Tanh", "ReLU", "Step")] == [layer] * 4


def test_step_is_one_above_zero_only() -> None:
    step = models.build("lenet", activation="step").get_submodule("features.1")
    inputs = torch.tensor([-torch.inf, -2.0, -0.0, 0.0, 1e-30, 0.5, 3.0, torch.inf])
    assert step(inputs).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_step_passes_gradient_of_zero_to_all_layers_but_the_last() -> None:
    torch.manual_seed(0)
    network = models.build("lenet", activation="step")
    functional.cross_entropy(network(torch.randn(4, 1, 28, 28)), torch.arange(4)).backward()
    learning = []
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None
        if parameter.grad.any():
            learning.append(key)
    assert learning == ["classifier.5.weight", "classifier.5.bias"]


@pytest.mark.parametrize(("pooling", "expected"), [("avg", 2.75), ("max", 5.0), ("min", 1.0)])
def test_pooling_argument_sets_poolings(pooling: str, expected: float) -> None:
    network = models.build("lenet", pooling=pooling)
    kinds = (nn.AvgPool2d, nn.MaxPool2d)
    pools = [layer for layer in network.modules() if isinstance(layer, kinds)]
    window = torch.tensor([[[1.0, 2.0], [3.0, 5.0]]])
    assert [pool(window).tolist() for pool in pools] == [[[[expected]]]] * 2


@pytest.mark.parametrize("pooling", ["max", "min"])
def test_lenet_map_shapes_do_not_depend_on_pooling(
    pooling: str, output_shapes: Callable[..., Shapes]
) -> None:
    assert output_shapes("lenet", 28, pooling=pooling) == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,),
    ]  # fmt: skip


def test_min_pooling_returns_minimum_of_window() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 6, 28, 28)
    minima = maps.unflatten(3, (14, 2)).unflatten(2, (14, 2)).amin(dim=(3, 5))
    pool = models.build("lenet", pooling="min").get_submodule("features.2")
    torch.testing.assert_close(pool(maps), minima)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_mode_reaches_padded_convolution(
    mode: str, padding_modes: Callable[..., set[str]]
) -> None:
    assert padding_modes("lenet", 28, padding_mode=mode) == {mode}


def make_constant(value: float, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return models.build("lenet", padding_mode="constant", padding_value=value, **arguments)


def test_constant_padding_has_map_shapes_of_book(output_shapes: Callable[..., Shapes]) -> None:
    shapes = output_shapes("lenet", 28, padding_mode="constant", padding_value=0.5)
    assert shapes == output_shapes("lenet", 28)


def test_constant_padding_of_zero_equals_zeros() -> None:
    constant = make_constant(0.0)
    torch.manual_seed(0)
    zeros = models.build("lenet")
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(constant(images), zeros(images))


@pytest.mark.parametrize("kernel_size", [1, 5, 7])
def test_constant_padding_adds_value_to_all_sides(kernel_size: int) -> None:
    pad = make_constant(0.5, kernel_size=kernel_size).get_submodule("features.0")
    width = kernel_size // 2
    padded = pad(torch.zeros(1, 1, 28, 28))
    assert padded.shape == (1, 1, 28 + 2 * width, 28 + 2 * width)
    assert padded.sum() == 0.5 * ((28 + 2 * width) ** 2 - 28**2)
    assert not padded[..., width : 28 + width, width : 28 + width].any()


def test_constant_padding_of_uniform_image_makes_no_edge() -> None:
    torch.manual_seed(0)
    images = torch.full((1, 1, 28, 28), 0.5)
    for value, is_uniform in ((0.5, True), (0.0, False)):
        padded, conv = list(make_constant(value).get_submodule("features").children())[:2]
        maps = conv(padded(images))
        assert torch.allclose(maps, maps[..., 14:15, 14:15]) == is_uniform


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ({"padding_mode": "constant"}, "needs a finite padding_value, such as 0.5, not null"),
        (
            {"padding_mode": "constant", "padding_value": float("nan")},
            "needs a finite padding_value, such as 0.5, not nan",
        ),
        (
            {"padding_mode": "reflect", "padding_value": 0.5},
            "padding_value=0.5 needs padding_mode=constant",
        ),
    ],
)
def test_padding_value_without_use_or_missing_raises(
    arguments: dict[str, object], answer: str
) -> None:
    with pytest.raises(ConfigError, match=f"^model lenet: .*{answer}"):
        models.build("lenet", **arguments)
