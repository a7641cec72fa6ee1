"""The first convolutional networks of the course notes, layer by layer."""

from collections.abc import Callable

import pytest

Shapes = list[tuple[int, ...]]


def test_simple_cnn_map_shapes_match_notes(output_shapes: Callable[..., Shapes]) -> None:
    assert output_shapes("simple_cnn", 28) == [
        (10, 24, 24), (10, 12, 12), (20, 8, 8), (20, 4, 4), (320,), (10,),
    ]  # fmt: skip


def test_simple_cnn_pools_before_activation(layer_names: Callable[..., list[str]]) -> None:
    stages = ["Conv2d", "MaxPool2d", "ReLU"] * 2
    assert layer_names("simple_cnn", 28) == [*stages, "Flatten", "Linear"]


def test_three_conv_map_shapes_match_notes(output_shapes: Callable[..., Shapes]) -> None:
    assert output_shapes("three_conv", 28) == [
        (10, 24, 24), (10, 12, 12), (20, 10, 10), (20, 5, 5), (30, 4, 4), (30, 2, 2), (120,), (10,),
    ]  # fmt: skip


def test_three_conv_pools_after_activation(layer_names: Callable[..., list[str]]) -> None:
    stages = ["Conv2d", "ReLU", "MaxPool2d"] * 3
    assert layer_names("three_conv", 28) == [*stages, "Flatten", "Linear"]


@pytest.mark.parametrize(("name", "expected"), [("simple_cnn", 8_490), ("three_conv", 5_720)])
def test_number_of_parameters(name: str, expected: int, num_parameters: Callable[..., int]) -> None:
    assert num_parameters(name, 28) == expected


@pytest.mark.parametrize(("name", "expected"), [("simple_cnn", 467_200), ("three_conv", 363_600)])
def test_number_of_multiply_adds(
    name: str, expected: int, multiply_adds: Callable[..., int]
) -> None:
    assert multiply_adds(name, 28) == expected
