"""docs/errata.md: where the course notes err, and that the right form is right."""

import math

import pytest
import torch
from torch import nn

from cnnbench import models
from cnnbench.analysis.layers import measure_layers
from cnnbench.reference.activations import Logistic
from cnnbench.reference.convolution import im2col
from cnnbench.reference.dropout import InvertedDropout
from cnnbench.reference.pooling import MaxPool2d


def test_sigmoid_needs_its_brackets() -> None:
    x = torch.tensor([0.0, 2.0], dtype=torch.float64)
    as_printed = 1 / 1 + torch.exp(-x)
    right = 1 / (1 + torch.exp(-x))
    torch.testing.assert_close(Logistic.apply(x), right)
    assert (as_printed[0].item(), right[0].item()) == (2.0, 0.5)


def test_additions_count_the_input_channels() -> None:
    with torch.device("meta"):
        network, image = models.build("lenet", image_size=28), torch.empty(1, 1, 28, 28)
    (second,) = (layer for layer in measure_layers(network, image) if layer.name == "features.3")
    assert second.additions == 16 * 10 * 10 * (6 * 5 * 5) == 240_000
    assert 16 * 10 * 10 * (5 * 5) == 40_000  # as printed


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_dropout_draws_from_the_uniform_distribution(p: float) -> None:
    generator, size = torch.Generator().manual_seed(0), 100_000
    as_printed = (torch.randn(size, generator=generator) > p).double().mean()
    right = (torch.rand(size, generator=generator) > p).double().mean()
    torch.manual_seed(0)
    kept = (InvertedDropout.apply(torch.ones(size), p) > 0).double().mean()
    normal_share = 0.5 * math.erfc(p / math.sqrt(2))  # 0.5 and 0.309
    assert as_printed.item() == pytest.approx(normal_share, abs=0.01)
    assert right.item() == pytest.approx(1 - p, abs=0.01)
    assert kept.item() == pytest.approx(1 - p, abs=0.01)


@pytest.mark.parametrize("pool", [nn.MaxPool2d, MaxPool2d])
def test_default_stride_of_pooling_is_the_window(pool: type[nn.MaxPool2d]) -> None:
    maps = torch.arange(81.0).view(1, 1, 9, 9)
    assert pool(3)(maps).shape[2:] == (3, 3)
    assert pool(3, stride=2)(maps).shape[2:] == (4, 4)
    assert torch.equal(pool(2)(maps), pool(2, stride=2)(maps))


@pytest.mark.parametrize("pool", [nn.MaxPool2d, MaxPool2d])
def test_size_after_pooling_depends_on_padding(pool: type[nn.MaxPool2d]) -> None:
    maps = torch.zeros(1, 1, 48, 48)
    assert pool(3, stride=2, padding=1)(maps).shape[2:] == (24, 24)
    assert (48 - 3) // 2 + 1 == 23  # as printed


def test_bottleneck_leaves_12_443_648_multiplications() -> None:
    pixels = 28 * 28
    direct = pixels * 32 * (192 * 5 * 5)
    reduced = pixels * 16 * 192 + pixels * 32 * (16 * 5 * 5)
    assert (direct, reduced) == (120_422_400, 12_443_648)


def test_im2col_has_the_window_of_all_channels() -> None:
    columns = im2col(torch.zeros(1, 3, 5, 5), (3, 3), (1, 1))
    assert columns[:, :, :, 0, 0, 0].numel() == 3 * 9
