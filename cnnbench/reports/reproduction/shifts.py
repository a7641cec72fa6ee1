"""Measure how much the maps of a trained network change with small shifts of its images."""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from cnnbench.data.eval_set import load_eval_set
from cnnbench.training.load_model import TrainedModel, load_trained_model

__all__ = ["compare_shifts", "measure_shift_ratio"]

SHIFTS = (1, 2, 3)  # pixels
NUM_IMAGES = 2000  # of the test set


def measure_shift_ratio(directory: Path, conf: Path) -> float | None:
    """Return the ratio of `compare_shifts` for the network of a run and its test images.

    Raises:
        CnnbenchError: the network or its data cannot be loaded.
    """
    trained = load_trained_model(directory, [], conf, "reproduce")
    device = trained.engine.device.torch_device
    test = load_eval_set(trained.config, trained.dataset, directory, (), device)
    return compare_shifts(trained, test.examples.images[:NUM_IMAGES])


def compare_shifts(trained: TrainedModel, images: torch.Tensor) -> float | None:
    """Return how much maps change after the first pooling, divided by how much before it.

    The change is the norm of the difference that a shift of an image makes, divided by the norm of
    the maps: the mean over uint8 images (N, C, H, W), which are shifted to the right by 1 to 3
    pixels. Black pixels follow from the left. The ratio is None for a network without pooling or
    without changes before it.
    """
    poolings = (nn.MaxPool2d, nn.AvgPool2d)
    pooling = next((part for part in trained.model.modules() if isinstance(part, poolings)), None)
    if pooling is None:
        return None
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def record(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen.append((inputs[0].float(), output.float()))

    handle = pooling.register_forward_hook(record)
    with torch.inference_mode():
        for shift in (0, *SHIFTS):
            width = images.shape[-1] - shift
            trained(functional.pad(images[..., :width], (shift, 0)))
    handle.remove()
    before, after = (
        torch.stack([_relative_change(seen[0][place], maps[place]) for maps in seen[1:]]).mean()
        for place in (0, 1)
    )
    return float(after / before) if before > 0 else None


def _relative_change(maps: torch.Tensor, shifted: torch.Tensor) -> torch.Tensor:
    """Return the mean over images of the norm of the difference, divided by that of the maps."""
    difference, norms = (
        (shifted - maps).flatten(1).norm(dim=1),
        maps.flatten(1).norm(dim=1).clamp_min(torch.finfo(maps.dtype).tiny),
    )
    change: torch.Tensor = (difference / norms).mean()
    return change
