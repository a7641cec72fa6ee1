"""Compute the figures of claims that need no training: pooling, padding and convolution."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cnnbench.analysis.judge import Estimate, mean
from cnnbench.config import DataConfig
from cnnbench.data import datasets
from cnnbench.models.lenet import POOLINGS

__all__ = ["compare_convolutions", "compute_figures", "measure_pooling"]

SIZE = 28
PADDING = 2  # pixels, as in the first layer of LeNet
PADDING_MODES = {"zeros": "constant", "reflect": "reflect"}  # names of Conv2d: names of pad


def compute_figures(data: DataConfig) -> dict[str, Estimate]:
    """Return all figures by name, computed on the CPU with fixed seeds.

    Raises:
        DataError: the test images of `data` cannot be found or downloaded.
    """
    _, arrays = datasets.load_dataset(data)
    images = torch.from_numpy(arrays.test_images.astype(np.float32))
    figures = measure_pooling(images) | _measure_borders()
    for dtype in (torch.float32, torch.float64):
        figures |= compare_convolutions(dtype)
    return figures


def measure_pooling(images: torch.Tensor) -> dict[str, Estimate]:
    """Return the mean change of brightness and texture by 2 x 2 pooling of images (N, ..., H, W).

    Black images are left out. `brightness` is the absolute change of an image's mean, divided by
    that mean. `texture` is the mean squared difference of neighboring pixels after pooling, divided
    by the same before pooling.
    """
    images = images[images.flatten(1).mean(1) > 0]
    before = images.flatten(1).mean(1)
    samples = {}
    for name, pooling in POOLINGS.items():
        pooled = pooling(kernel_size=2)(images)
        samples[f"brightness_{name}"] = (pooled.flatten(1).mean(1) - before).abs() / before
        samples[f"texture_{name}"] = _measure_texture(pooled) / _measure_texture(images)
    for name in ("brightness", "texture"):
        samples[f"more_{name}"] = samples[f"{name}_max"] - samples[f"{name}_avg"]
    return {name: mean(samples[name].tolist()) for name in samples}


def _measure_texture(images: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of neighboring pixels of each image (N)."""
    across = images.diff(dim=-1).square().flatten(1).mean(1)
    down = images.diff(dim=-2).square().flatten(1).mean(1)
    return across + down


def _measure_borders() -> dict[str, Estimate]:
    """Return the relative difference of outputs at the border of a uniform image and inside it.

    It is the mean absolute difference over the ring that padding reaches, divided by the mean
    absolute output inside. One kernel averages its window. The other kernels are the first layer of
    LeNet, initialized as in PyTorch, with the mean over all maps.
    """
    generator = torch.Generator().manual_seed(0)
    first_layer = torch.empty(6, 1, 5, 5, dtype=torch.float64)
    nn.init.kaiming_uniform_(first_layer, a=math.sqrt(5), generator=generator)
    kernels = {
        "smoothing": torch.full((1, 1, 5, 5), 1 / 25, dtype=torch.float64),
        "lenet": first_layer,
    }
    at_border = torch.ones(SIZE, SIZE, dtype=torch.bool)
    at_border[PADDING:-PADDING, PADDING:-PADDING] = False
    figures = {}
    for mode, padding in PADDING_MODES.items():
        image = torch.ones(1, 1, SIZE, SIZE, dtype=torch.float64)
        image = functional.pad(image, [PADDING] * 4, padding)
        for name, kernel in kernels.items():
            maps = functional.conv2d(image, kernel)
            inside = maps[..., SIZE // 2, SIZE // 2, None, None]  # the same at all inner pixels
            differences = (maps - inside).abs()[..., at_border]
            share = float(differences.mean() / inside.abs().mean())
            figures[f"border_{mode}_{name}"] = Estimate(share)
    return figures


def compare_convolutions(dtype: torch.dtype) -> dict[str, Estimate]:
    """Return the largest difference of two ways to convolve, divided by the largest output.

    `im2col` compares a convolution with a matrix product, `pointwise` a 1 x 1 convolution with a
    linear layer over channels. The images are random (8, 6, 28, 28), with 16 random kernels.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    images, kernels, points = random(8, 6, 28, 28), random(16, 6, 5, 5), random(16, 6, 1, 1)
    product = (kernels.flatten(1) @ functional.unfold(images, 5)).reshape(8, 16, 24, 24)
    linear = functional.linear(images.movedim(1, -1), points.flatten(1)).movedim(-1, 1)
    pairs = {
        "im2col": (product, functional.conv2d(images, kernels)),
        "pointwise": (linear, functional.conv2d(images, points)),
    }
    figures = {}
    for name, (product, convolution) in pairs.items():
        share = float((product - convolution).abs().max() / convolution.abs().max())
        figures[f"{name}_{str(dtype).removeprefix('torch.')}"] = Estimate(share)
    return figures
