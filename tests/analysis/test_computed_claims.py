"""What claims 6, 9 and 10 rest on that needs no training, on tensors that can be worked out by hand."""

from typing import Literal

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnnbench.analysis.claims import measure_border, measure_brightness, measure_texture
from cnnbench.commands.reproduce import compare_convolutions, compute
from cnnbench.config import DataConfig


def test_the_brightness_of_an_average_is_that_of_the_image() -> None:
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    deviation = measure_brightness(functional.avg_pool2d(images, 2), images)
    torch.testing.assert_close(deviation, torch.zeros(5), atol=1e-6, rtol=0)


def test_the_brightness_changes_by_a_share_of_that_of_the_image() -> None:
    image = torch.tensor([[[[0.0, 8.0], [0.0, 0.0]]]])  # its mean is 2, its maximum 8
    assert measure_brightness(functional.max_pool2d(image, 2), image).tolist() == [3.0]


def test_texture_is_the_mean_of_squared_differences_across_and_down() -> None:
    image = torch.tensor([[[[0.0, 2.0], [1.0, 1.0]]]])  # across 2 and 0, down 1 and -1
    assert measure_texture(image).tolist() == [(4 + 0) / 2 + (1 + 1) / 2]


def smoothing(padding_mode: Literal["zeros", "reflect"]) -> nn.Conv2d:
    layer = nn.Conv2d(1, 1, 5, padding=2, padding_mode=padding_mode, bias=False, dtype=torch.float64)
    nn.init.constant_(layer.weight, 1 / 25)
    return layer


def test_zeros_around_a_uniform_image_darken_its_border() -> None:
    inside = torch.tensor([3, 4, *[5] * 24, 4, 3], dtype=torch.float64) / 5  # of five rows, how many are in the image
    ring = torch.ones(28, 28, dtype=torch.bool)
    ring[2:-2, 2:-2] = False
    expected = (1 - torch.outer(inside, inside))[ring].mean()
    assert measure_border(smoothing("zeros")) == pytest.approx(float(expected))


def test_a_uniform_image_that_is_mirrored_has_no_border() -> None:
    assert measure_border(smoothing("reflect")) < 1e-15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_convolutions_two_ways_differ_by_rounding_alone(dtype: torch.dtype) -> None:
    found = compare_convolutions(dtype)
    assert 0 <= found.im2col < found.rounding
    assert 0 <= found.one_by_one < found.rounding
    assert found.rounding == 150 * torch.finfo(dtype).eps


def test_what_is_computed_is_the_same_each_time() -> None:
    data = DataConfig(
        name="sample",
        resize=28,
        validation=0,
        train_examples=None,
        test_examples=None,
        normalize=True,
        folds=None,
        fold=None,
    )
    first = compute(data)
    assert first == compute(data)
    assert first.num_images == 1000
