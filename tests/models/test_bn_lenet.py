"""LeNet with batch normalization, layer by layer."""

from collections.abc import Callable

Shapes = list[tuple[int, ...]]


def test_map_shapes_match_book(output_shapes: Callable[..., Shapes]) -> None:
    assert output_shapes("bn_lenet", 28) == [
        (6, 24, 24), (6, 12, 12), (16, 8, 8), (16, 4, 4), (256,), (120,), (84,), (10,),
    ]  # fmt: skip


def test_batch_normalization_precedes_each_sigmoid(layer_names: Callable[..., list[str]]) -> None:
    assert layer_names("bn_lenet", 28) == [
        *["Conv2d", "BatchNorm2d", "Sigmoid", "AvgPool2d"] * 2,
        "Flatten",
        *["Linear", "BatchNorm1d", "Sigmoid"] * 2,
        "Linear",
    ]  # fmt: skip


def test_number_of_parameters(num_parameters: Callable[..., int]) -> None:
    layers = [
        6 * 1 * 25 + 6 + 2 * 6,
        16 * 6 * 25 + 16 + 2 * 16,
        120 * 256 + 120 + 2 * 120,
        84 * 120 + 84 + 2 * 84,
        10 * 84 + 10,
    ]
    assert num_parameters("bn_lenet", 28) == sum(layers)


def test_number_of_multiply_adds(multiply_adds: Callable[..., int]) -> None:
    layers = [24 * 24 * 6 * 1 * 25, 8 * 8 * 16 * 6 * 25, 120 * 256, 84 * 120, 10 * 84]
    assert multiply_adds("bn_lenet", 28) == sum(layers)
