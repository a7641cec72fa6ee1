"""Compute the figures of claims that need no training: of pooled images and padded borders."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from cnnbench.analysis.verdicts import Figure
from cnnbench.config import DataConfig
from cnnbench.data import datasets
from cnnbench.models.lenet import POOLINGS, PaddingMode

__all__ = [
    "Computed",
    "Convolutions",
    "Pooled",
    "compute_claims",
    "measure_border",
    "measure_brightness",
    "measure_texture",
]

MAX_IMAGES = 10_000
SIZE = 28
PADDED = 2  # pixels
PADDING_MODES: tuple[PaddingMode, ...] = ("zeros", "reflect")


@dataclass(frozen=True)
class Pooled:
    """What pooling by 2 x 2 keeps of test images: means over them with their standard errors.

    `brightness` is the change of an image's mean, as a share of it. `texture` is the mean squared
    difference of neighboring pixels after pooling, as a share of that before.
    """

    brightness: Figure
    texture: Figure


@dataclass(frozen=True)
class Convolutions:
    """Largest differences of two computations, as shares of the largest output.

    `rounding` is the difference that rounding explains.
    """

    im2col: float
    one_by_one: float
    rounding: float


@dataclass(frozen=True)
class Computed:
    """The figures of claims 6, 9 and 10.

    `pooled` is by avg, max and min; `more_brightness` and `more_texture` are max less avg by image.
    `border` is by padding_mode: how far outputs at the border of a uniform image are from those
    inside, as a share of them, of a smoothing kernel and of a newly built first layer.
    `convolutions` is by the name of the dtype.
    """

    num_images: int
    pooled: Mapping[str, Pooled]
    more_brightness: Figure
    more_texture: Figure
    border: Mapping[str, Mapping[str, float]]
    convolutions: Mapping[str, Convolutions]


def compute_claims(data: DataConfig, convolutions: Mapping[str, Convolutions]) -> Computed:
    """Compute the figures of the test images of `data`, on the CPU, the same each time.

    Raises:
        DataError: the data cannot be found or fetched.
    """
    _, arrays = datasets.load(data)
    images = torch.from_numpy(arrays.test_images[:MAX_IMAGES].astype(np.float32))
    images = images.unsqueeze(1) if images.ndim == 3 else images
    images = images[images.flatten(1).mean(1) > 0]  # shares of a black image are none
    brightness, textures = {}, {}
    for name, pooling in POOLINGS.items():
        pooled = pooling(kernel_size=2)(images)
        brightness[name] = measure_brightness(pooled, images)
        textures[name] = measure_texture(pooled) / measure_texture(images)
    return Computed(
        len(images),
        {name: Pooled(_mean(brightness[name]), _mean(textures[name])) for name in POOLINGS},
        _mean(brightness["max"] - brightness["avg"]),
        _mean(textures["max"] - textures["avg"]),
        {mode: {name: measure_border(layer) for name, layer in _layers(mode).items()} for mode in PADDING_MODES},
        convolutions,
    )


def measure_brightness(pooled: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return the change of each image's mean by pooling, as a share of the mean (N)."""
    before = images.flatten(1).mean(1)
    return (pooled.flatten(1).mean(1) - before).abs() / before


def measure_texture(images: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of neighboring pixels of each image (N)."""
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
def measure_border(layer: nn.Module) -> float:
    """Return how far outputs at the border of a uniform image are from those inside.

    The mean of their absolute differences over the ring that padding reaches, as a share of the mean of absolute
    outputs inside; both over all maps.
    """
    maps = layer(torch.ones(1, 1, SIZE, SIZE, dtype=torch.float64))
    inside = maps[..., SIZE // 2 : SIZE // 2 + 1, SIZE // 2 : SIZE // 2 + 1]  # all outputs inside are alike
    differences = (maps - inside).abs()
    at_border = torch.ones(SIZE, SIZE, dtype=torch.bool)
    at_border[PADDED:-PADDED, PADDED:-PADDED] = False
    return float(differences[..., at_border].mean() / inside.abs().mean())
