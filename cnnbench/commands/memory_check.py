"""Whether a machine has the memory that training takes. Without this a system ends the process, and nobody says why."""

from dataclasses import asdict

import torch
from torch import nn

from cnnbench.analysis.format import format_bytes
from cnnbench.analysis.memory import TrainingMemory, estimate_fixed_memory, estimate_memory
from cnnbench.config import FOLDER, Config
from cnnbench.data.catalog import Dataset
from cnnbench.errors import ConfigError
from cnnbench.training.device import Device

__all__ = ["check_memory"]


def check_memory(config: Config, dataset: Dataset, device: Device, network: nn.Module, images: torch.Tensor) -> None:
    """Compare the least that training on batches such as `images`, on the meta device, takes with all there is.

    Raises:
        ConfigError: it cannot fit, whatever else is running.
    """
    if config.data.name == FOLDER:  # those of the catalog are small
        _compare_images(dataset, device)
    _compare(config, device, estimate_fixed_memory(network, config.optimizer))
    # A GPU's libraries, a compiler and a network of one's own may keep less than what is estimated.
    if device.kind.type == "cpu" and not device.compile and ":" not in config.model.name:
        dtype = device.autocast_dtype or device.dtype
        _compare(config, device, estimate_memory(network, images, config.optimizer, dtype))


def _compare_images(dataset: Dataset, device: Device) -> None:
    whole, size = device.whole_memory(), dataset.image_size
    number = dataset.train_examples + dataset.test_examples
    if number * dataset.in_channels * size**2 > whole:
        raise ConfigError(
            f"The memory of the device does not suffice: {number:,} images of {size} x {size} pixels in "
            f"{dataset.title} take {format_bytes(number * dataset.in_channels * size**2)}, and {device.kind} has "
            f"{format_bytes(whole)} in all.\nLower data.image_size, or take fewer images."
        )


def _compare(config: Config, device: Device, memory: TrainingMemory) -> None:
    whole = device.whole_memory()
    if memory.least <= whole:
        return
    parts = ", ".join(f"{name.replace('_', ' ')} {format_bytes(number)}" for name, number in asdict(memory).items())
    smaller = "train.batch_size or data.resize" if memory.activations else "data.resize, or take a smaller network"
    raise ConfigError(
        f"The memory of the device does not suffice: training {config.model.name} with "
        f"train.batch_size={config.train.batch_size} data.resize={config.data.resize} takes at least "
        f"{format_bytes(memory.least)} ({parts}), and {device.kind} has {format_bytes(whole)} in all.\n"
        f"Lower {smaller}. cnnbench summary estimates what training takes."
    )
