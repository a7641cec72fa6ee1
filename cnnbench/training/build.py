"""From a checked configuration to an engine, as training and benchmarks need it."""

import torch
from torch import nn

from cnnbench import models
from cnnbench.analysis.layers import measure_layers, sum_layers
from cnnbench.analysis.meta_shapes import check_forward
from cnnbench.config import Config
from cnnbench.data.augment import Augment
from cnnbench.data.catalog import Dataset
from cnnbench.data.sources import normalization
from cnnbench.data.transforms import Preprocess, per_channel
from cnnbench.runs.processes import processes
from cnnbench.training.cuda_graph import GraphEngine
from cnnbench.training.device import device_config, select
from cnnbench.training.engine import EagerEngine
from cnnbench.training.init import initialize
from cnnbench.training.optimizers import make_optimizers
from cnnbench.training.space_to_depth import use_space_to_depth

__all__ = ["build_engine", "describe", "multiply_adds", "on_meta"]


def build_engine(config: Config, dataset: Dataset) -> EagerEngine:
    """Set this process up for the device, and build the network and what trains it there."""
    device = select(device_config(config), config.seed, lambda: _intensity(config, dataset))
    model = models.build(
        config.model.name, dataset.in_channels, len(dataset.classes), config.data.resize, **config.model.arguments
    )
    initialize(model, config.train.init)
    if device.kind.type == "cuda" and device.autocast_dtype is not None:  # where it was measured to help
        use_space_to_depth(model)
    if config.reference.layers:
        from cnnbench.reference.swap import use_reference  # all of its chapters, which other runs need not wait for

        use_reference(model)
    model = model.to(device.kind, device.dtype).to(memory_format=device.memory_format)
    means, stds = normalization(config.data, dataset)
    black = [-mean / std for mean, std in zip(means, stds, strict=True)]
    kind: type[EagerEngine] = GraphEngine if device.cuda_graphs else EagerEngine
    if processes().several:
        from cnnbench.training.distributed import DistributedEngine  # which one process need not wait for

        kind = DistributedEngine
    return kind(
        model,
        make_optimizers(config.optimizer, model, device.kind, config.reference.optimizer),
        Preprocess(config.data.resize, means, stds, device.kind, device.dtype),
        Augment(config.augment, len(dataset.classes), per_channel(black, device.kind)),
        device,
        config,
    )


def on_meta(config: Config, dataset: Dataset, batch_size: int) -> tuple[nn.Module, torch.Tensor]:
    """The network and a batch of images (N, C, H, W) on the meta device: with shapes, without memory."""
    size, channels = config.data.resize, dataset.in_channels
    network = check_forward(config.model.name, channels, len(dataset.classes), size, **config.model.arguments)
    return network, torch.empty(batch_size, channels, size, size, device="meta")


def multiply_adds(config: Config, dataset: Dataset) -> int:
    """Of the network, forward, for one image: see analysis/layers.py for what is counted."""
    return sum_layers(measure_layers(*on_meta(config, dataset, 1))).multiplications


def _intensity(config: Config, dataset: Dataset) -> float:
    """Multiply-adds per parameter and image."""
    whole = sum_layers(measure_layers(*on_meta(config, dataset, 1)))
    return whole.multiplications / max(1, whole.parameters)


def describe(engine: EagerEngine) -> dict[str, object]:
    """What the device is and what was chosen for it, in plain values."""
    device = engine.device
    return {
        "device": device.kind.type,
        "chip": device.describe(),
        "precision": device.precision,
        "channels_last": device.channels_last,
        "threads": torch.get_num_threads(),
        "engine": engine.name,
        "compile": device.compile,
        "world_size": engine.world_size,
        "backend": engine.backend,
        "tta": engine.config.tta,
    }
