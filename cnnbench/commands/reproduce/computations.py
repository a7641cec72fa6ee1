"""What claims 6, 9 and 10 rest on that needs no training: pooled images, padded borders, convolutions two ways."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cnnbench.config import DataConfig
from cnnbench.data import sources
from cnnbench.models.lenet import POOLINGS, PaddingMode
from cnnbench.reference.convolution import CrossCorrelation, pointwise
from cnnbench.reports.reproduction.computed import Computed, Convolutions, Pooled
from cnnbench.reports.reproduction.verdicts import Figure

__all__ = ["border_deviation", "compute", "convolutions", "deviation_of_brightness", "texture"]

MOST_IMAGES = 10_000
SIZE = 28
PADDED = 2  # pixels
PADDING_MODES: tuple[PaddingMode, ...] = ("zeros", "reflect")


def compute(data: DataConfig) -> Computed:
    """All of it, on the CPU, the same each time: of the test images of `data`.

    Raises:
        DataError: the data are not to be had.
    """
    _, arrays = sources.load(data)
    images = torch.from_numpy(arrays.test_images[:MOST_IMAGES].astype(np.float32))
    images = images.unsqueeze(1) if images.ndim == 3 else images
    images = images[images.flatten(1).mean(1) > 0]  # shares of a black image are none
    brightness, textures = {}, {}
    for name, pooling in POOLINGS.items():
        pooled = pooling(kernel_size=2)(images)
        brightness[name] = deviation_of_brightness(pooled, images)
        textures[name] = texture(pooled) / texture(images)
    return Computed(
        len(images),
        {name: Pooled(_mean(brightness[name]), _mean(textures[name])) for name in POOLINGS},
        _mean(brightness["max"] - brightness["avg"]),
        _mean(textures["max"] - textures["avg"]),
        {mode: {name: border_deviation(layer) for name, layer in _layers(mode).items()} for mode in PADDING_MODES},
        {str(dtype).removeprefix("torch."): convolutions(dtype) for dtype in (torch.float32, torch.float64)},
    )


def deviation_of_brightness(pooled: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """How far the mean of each pooled image is from that of the image, as a share of it (N)."""
    before = images.flatten(1).mean(1)
    return (pooled.flatten(1).mean(1) - before).abs() / before


def texture(images: torch.Tensor) -> torch.Tensor:
    """The mean squared difference of pixels beside and above one another, of each image (N)."""
    across = images.diff(dim=-1).square().flatten(1).mean(1)
    down = images.diff(dim=-2).square().flatten(1).mean(1)
    return across + down


def _mean(values: torch.Tensor) -> Figure:
    """With the standard error over the images; where two ways are compared, `values` are differences by image."""
    return Figure(float(values.mean()), float(values.std()) / math.sqrt(len(values)), len(values) - 1)


def _layers(padding_mode: PaddingMode) -> dict[str, nn.Conv2d]:
    """A kernel that averages, and the first layer of LeNet as PyTorch makes it: 5 x 5, padded by 2, no bias."""
    generator = torch.Generator().manual_seed(0)
    smoothing = nn.Conv2d(1, 1, 5, padding=PADDED, padding_mode=padding_mode, bias=False, dtype=torch.float64)
    nn.init.constant_(smoothing.weight, 1 / 25)
    first = nn.Conv2d(1, 6, 5, padding=PADDED, padding_mode=padding_mode, bias=False, dtype=torch.float64)
    nn.init.kaiming_uniform_(first.weight, a=math.sqrt(5), generator=generator)
    return {"smoothing kernel": smoothing, "first layer of LeNet": first}


@torch.no_grad()
def border_deviation(layer: nn.Module) -> float:
    """How far outputs at the border of a uniform image are from those inside.

    The mean of their absolute differences over the ring that padding reaches, as a share of the mean of absolute
    outputs inside; both over all maps.
    """
    maps = layer(torch.ones(1, 1, SIZE, SIZE, dtype=torch.float64))
    inside = maps[..., SIZE // 2 : SIZE // 2 + 1, SIZE // 2 : SIZE // 2 + 1]  # all outputs inside are alike
    differences = (maps - inside).abs()
    at_border = torch.ones(SIZE, SIZE, dtype=torch.bool)
    at_border[PADDED:-PADDED, PADDED:-PADDED] = False
    return float(differences[..., at_border].mean() / inside.abs().mean())


@torch.no_grad()
def convolutions(dtype: torch.dtype) -> Convolutions:
    """Convolutions of PyTorch beside those by hand: as a matrix product, and of 1 x 1 as a layer over channels.

    Random images (8, 6, 28, 28) and 16 kernels of 5 x 5, and of 1 x 1. Sums of 150 products may differ by the rounding
    of each: 150 times the machine epsilon.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 6, SIZE, SIZE, generator=generator, dtype=torch.float64).to(dtype)
    kernels = torch.randn(16, 6, 5, 5, generator=generator, dtype=torch.float64).to(dtype)
    points = torch.randn(16, 6, 1, 1, generator=generator, dtype=torch.float64).to(dtype)
    product = CrossCorrelation.apply(images, kernels, None, (1, 1), 1)
    linear = pointwise(images, points.flatten(1), torch.zeros(16, dtype=dtype))
    return Convolutions(
        _largest_difference(product, functional.conv2d(images, kernels)),
        _largest_difference(linear, functional.conv2d(images, points)),
        kernels[0].numel() * torch.finfo(dtype).eps,
    )


def _largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())
