"""Untrained subjects of `cnnbench inspect`, and readers of the figures."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from cnnbench.analysis.receptive_field import Traced, trace
from cnnbench.reports.inspection.layers import find_main_layers
from cnnbench.reports.inspection.pictures import ClassifiedImage
from cnnbench.reports.inspection.sections import Subject

__all__ = ["IMAGE", "make_layer", "make_subject", "picture_colors", "tick_labels"]

IMAGE = ClassifiedImage(7, torch.full((1, 28, 28), 255, dtype=torch.uint8), "Shirt", "Coat", 0.97)


def make_subject(network: nn.Module, channels: int = 1, size: int = 28) -> Subject:
    twin, image = network.to("meta"), torch.empty(1, channels, size, size, device="meta")
    layers = find_main_layers(trace(twin, image))
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    engine: Any = SimpleNamespace(eval_model=network, logits=network, inputs=torch.Tensor.float)
    return Subject(Path(), "a network", engine, layers, 1, channels, size)


def make_layer(name: str, *shape: int, field: Any = None) -> Traced:
    return Traced(name, name, nn.Conv2d(1, 1, 3), shape, field)


def tick_labels(rows: Sequence[Any]) -> list[str]:
    return [label.get_text() for row in rows for label in row.get_xticklabels()]


def picture_colors(axes: Any) -> list[Any]:
    """Return the color in the middle of each picture of a row."""
    images = [image.to_rgba(image.get_array()) for image in axes.images]
    return [tuple(np.round(image[len(image) // 2, len(image) // 2, :3], 2)) for image in images]
