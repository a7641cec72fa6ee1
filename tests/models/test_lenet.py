"""LeNet and the course notes' LeNet, layer by layer."""

from collections.abc import Callable

import pytest

Shapes = list[tuple[int, ...]]


def test_lenet_has_the_maps_of_the_book(output_shapes: Callable[[str, int], Shapes]) -> None:
    assert output_shapes("lenet", 28) == [
        (6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (400,), (120,), (84,), (10,),
    ]  # fmt: skip


def test_lenet_relu_has_the_maps_of_the_notes(output_shapes: Callable[[str, int], Shapes]) -> None:
    assert output_shapes("lenet_relu", 28) == [
        (6, 24, 24), (6, 12, 12), (10, 8, 8), (10, 4, 4), (160,), (120,), (84,), (10,),
    ]  # fmt: skip


def test_lenet_pools_by_average_and_is_sigmoid_throughout(layer_names: Callable[[str, int], list[str]]) -> None:
    assert layer_names("lenet", 28) == [
        "Conv2d", "Sigmoid", "AvgPool2d", "Conv2d", "Sigmoid", "AvgPool2d",
        "Flatten", "Linear", "Sigmoid", "Linear", "Sigmoid", "Linear",
    ]  # fmt: skip


def test_lenet_relu_pools_by_maximum_and_is_sigmoid_at_the_end(layer_names: Callable[[str, int], list[str]]) -> None:
    assert layer_names("lenet_relu", 28) == [
        "Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "MaxPool2d",
        "Flatten", "Linear", "Sigmoid", "Linear", "Sigmoid", "Linear",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), [("lenet", 61_706), ("lenet_relu", 32_000)])
def test_number_of_parameters(name: str, expected: int, num_parameters: Callable[[str, int], int]) -> None:
    assert num_parameters(name, 28) == expected


@pytest.mark.parametrize(("name", "expected"), [("lenet", 416_520), ("lenet_relu", 212_520)])
def test_number_of_multiply_adds(name: str, expected: int, multiply_adds: Callable[[str, int], int]) -> None:
    assert multiply_adds(name, 28) == expected
