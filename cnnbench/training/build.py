"""Build the step engine of a checked configuration."""

import logging

import torch
from torch import nn

from cnnbench import models
from cnnbench.analysis.format import truncate
from cnnbench.analysis.layers import measure_layers, sum_layers
from cnnbench.analysis.meta_shapes import check_forward
from cnnbench.config import Config
from cnnbench.data.augment import Augment
from cnnbench.data.catalog import Dataset
from cnnbench.data.datasets import normalization
from cnnbench.data.preprocess import Preprocess, per_channel
from cnnbench.errors import ConfigError
from cnnbench.reference.custom.layers import CustomLayer
from cnnbench.reference.custom.module import CustomModule, load_custom
from cnnbench.reference.custom.optimizers import CustomOptimizer
from cnnbench.runs.torchrun_env import processes
from cnnbench.training.batch_last import MIN_EXAMPLES, use_batch_last, uses_batch_last
from cnnbench.training.cuda_graph import GraphEngine
from cnnbench.training.device import (
    Device,
    device_config,
    images_per_step,
    resolve_device,
    setup_device,
)
from cnnbench.training.engine import EagerEngine
from cnnbench.training.init import initialize
from cnnbench.training.losses import make_losses
from cnnbench.training.optimizers import make_optimizers
from cnnbench.training.space_to_depth import use_space_to_depth

__all__ = ["balance_classes", "build_engine", "describe_engine", "on_meta", "prepare_images"]

log = logging.getLogger("cnnbench")


def build_engine(config: Config, dataset: Dataset, device: Device | None = None) -> EagerEngine:
    """Set up this process for the device, and build the network and its engine.

    `device` is the resolved device of the configuration; it is resolved here if it is None.
    """
    if device is None:
        device = resolve_device(
            device_config(config),
            lambda: (
                sum_layers(measure_layers(*on_meta(config, dataset, 1))).intensity
                * images_per_step(config.train)
            ),
        )
    setup_device(device, config.device, config.seed)
    name, channels, classes = config.model.name, dataset.in_channels, len(dataset.classes)
    model = models.build(name, channels, classes, config.data.resize, **config.model.arguments)
    initialize(model, config.train.init)
    # Only half precision on CUDA was faster with it (benchmarks/NOTES.md).
    if device.torch_device.type == "cuda" and device.autocast_dtype is not None:
        use_space_to_depth(model)
    reference = config.reference
    custom = None if reference.module is None else load_custom(reference.module)
    if reference.layers:
        # Imported here, so that other runs need not wait for it.
        from cnnbench.reference.swap import use_reference

        use_reference(model, custom)
    is_large = images_per_step(config.train) >= MIN_EXAMPLES
    if device.batch_last and is_large and not device.compile:
        use_batch_last(model, in_bf16=device.precision == "bf16")
    model = model.to(device.torch_device, device.dtype).to(memory_format=device.memory_format)
    preprocess, augment = prepare_images(config, dataset, device.torch_device, device.dtype)
    engine_class: type[EagerEngine] = GraphEngine if device.cuda_graphs else EagerEngine
    if processes().several:
        # Imported here, so that a single process need not wait for it.
        from cnnbench.training.distributed import DistributedEngine

        engine_class = DistributedEngine
    optimizers = make_optimizers(
        config.optimizer, model, device.torch_device, reference.optimizer, custom
    )
    engine = engine_class(
        model,
        optimizers,
        preprocess,
        augment,
        device,
        config,
    )
    if custom is not None:
        engine.loss = make_losses(config.train, reference=reference.loss, custom=custom).loss
        _log_custom_classes(config, custom, engine)
    return engine


def prepare_images(
    config: Config, dataset: Dataset, device: torch.device, dtype: torch.dtype
) -> tuple[Preprocess, Augment]:
    """Return what makes inputs of the network of uint8 images on `device`, and augments them."""
    means, stds = normalization(config.data, dataset)
    black = [-mean / std for mean, std in zip(means, stds, strict=True)]
    preprocess = Preprocess(config.data.resize, means, stds, device, dtype)
    return preprocess, Augment(config.augment, len(dataset.classes), per_channel(black, device))


def _log_custom_classes(config: Config, custom: CustomModule, engine: EagerEngine) -> None:
    """Log which classes of the user's file the run uses.

    Raises:
        ConfigError: it uses none.
    """
    kinds = {
        type(layer).__name__ for layer in engine.model.modules() if isinstance(layer, CustomLayer)
    }
    kinds |= {each.kind for each in engine.optimizers if isinstance(each, CustomOptimizer)}
    if config.reference.loss and config.train.loss == "cross_entropy":
        kinds |= custom.classes.keys() & {"CrossEntropyLoss"}
    if not kinds:
        raise ConfigError(
            f"reference.module={config.reference.module}: this run uses none of its classes: "
            f"{', '.join(custom.classes)}. Add reference.layers=true, reference.loss=true, "
            "reference.optimizer=true or reference=all, or check with cnnbench gradcheck."
        )
    log.info("%s computes %s", custom.path.name, ", ".join(sorted(kinds)))


def balance_classes(engine: EagerEngine, dataset: Dataset, labels: torch.Tensor) -> None:
    """Give each class the same weight in the loss, for data.class_weights=balanced.

    With n of the N training `labels` in one of K classes, its examples have the weight N / (K n).
    Their mean is 1.

    Raises:
        ConfigError: there are no training examples of a class.
    """
    counts = torch.bincount(labels.cpu(), minlength=len(dataset.classes))
    missing = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    if missing:
        raise ConfigError(
            "data.class_weights=balanced needs training examples of each class. "
            f"There are none of: {truncate(', '.join(missing), 200)}. "
            "Set data.class_weights=none, or take more examples."
        )
    weights = len(labels) / (len(counts) * counts.double())
    engine.class_weights = weights.to(engine.device.torch_device, engine.device.dtype)


def on_meta(config: Config, dataset: Dataset, batch_size: int) -> tuple[nn.Module, torch.Tensor]:
    """Return the network and a batch of images (N, C, H, W), both on the meta device."""
    size, channels, classes = config.data.resize, dataset.in_channels, len(dataset.classes)
    network = check_forward(config.model.name, channels, classes, size, **config.model.arguments)
    return network, torch.empty(batch_size, channels, size, size, device="meta")


def describe_engine(engine: EagerEngine) -> dict[str, object]:
    """Return the device and its settings as plain values, for the record of a run."""
    device = engine.device
    return {
        "device": device.torch_device.type,
        "chip": device.describe(),
        "precision": device.precision,
        "channels_last": device.channels_last,
        "batch_last": uses_batch_last(engine.model),
        "threads": torch.get_num_threads(),
        "engine": engine.name,
        "compile": device.compile,
        "world_size": processes().world_size,
        "backend": device.backend if processes().several else None,
        "tta": engine.config.tta,
    }
