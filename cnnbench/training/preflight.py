"""Check a configuration before training: whatever can be checked without reading the data."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cnnbench.analysis.format import format_bytes, format_count
from cnnbench.config import FOLDER, TRACKERS, Config
from cnnbench.data import datasets
from cnnbench.data.splits import check_sizes, count_validation
from cnnbench.errors import ConfigError
from cnnbench.reference.custom.module import load_custom
from cnnbench.runs.torchrun_env import processes

if TYPE_CHECKING:  # errors that need no PyTorch are reported before it is imported
    import torch
    from torch import nn

    from cnnbench.analysis.memory import TrainingMemory
    from cnnbench.data.catalog import Dataset
    from cnnbench.training.device import Device
    from cnnbench.training.start_weights import StartWeights

__all__ = ["Preflight", "advise_accumulate", "check"]

log = logging.getLogger("cnnbench")


@dataclass(frozen=True)
class Preflight:
    """The result of checking a configuration: the device, and the cost of one image.

    `heading` is the first log line of the run. `is_announced` is true if it has been logged.
    `start` has the weights to start from, if model.weights names some.
    """

    device: Device
    multiply_adds: int
    heading: str
    is_announced: bool
    start: StartWeights | None = None


def check(config: Config, *, announce: bool = False, starts: bool = True) -> Preflight:
    """Check trackers, sizes of the data set, the network on one image, the device and its memory.

    With `announce`, log the heading of the run before PyTorch is imported, which takes seconds.
    With `starts`, read model.weights too. A run that resumes has its weights in the checkpoint.

    Raises:
        ConfigError: a check failed. Checks that need no PyTorch come first.
        CheckpointError: model.weights is damaged or refused.
    """
    _check_trackers(config)
    if config.reference.loss and config.data.class_weights != "none":
        raise ConfigError(
            "reference.loss=true has no weights of classes. "
            "Set data.class_weights=none or reference.loss=false."
        )
    if config.reference.module is not None:
        load_custom(config.reference.module)
    dataset = datasets.dataset_info(config.data)
    num_train = check_sizes(config.data, dataset)
    datasets.prefetch_dataset(
        config.data
    )  # while PyTorch is imported; `load_dataset` raises the errors
    _check_selection(config, dataset)
    heading = _describe_run(config, dataset, num_train)
    if announce:
        log.info(heading)

    import torch

    from cnnbench.analysis.layers import measure_layers, sum_layers
    from cnnbench.analysis.meta_shapes import check_forward
    from cnnbench.training.device import device_config, images_per_step, resolve_device

    name, size = config.model.name, config.data.resize
    channels, classes = dataset.in_channels, len(dataset.classes)
    network = check_forward(name, channels, classes, size, **config.model.arguments)
    if not list(network.parameters()):
        raise ConfigError(f"{name} has no parameters: there is nothing to train.")
    image = torch.empty(1, channels, size, size, device="meta")
    cost = sum_layers(measure_layers(network, image))
    device = resolve_device(
        device_config(config), lambda: cost.intensity * images_per_step(config.train)
    )
    _check_last_batch(config, network, image, num_train)
    if config.data.name == FOLDER:  # the data sets of the catalog are small
        _check_images_fit(dataset, device)
    micro_batch = math.ceil(min(config.train.batch_size, num_train) / config.train.accumulate)
    _check_memory(config, network, image.new_empty(micro_batch, channels, size, size), device)
    start = None
    if starts and config.model.weights is not None and processes().rank == 0:
        from cnnbench.training.start_weights import match_weights, read_weights

        start = match_weights(config, network, read_weights(config.model.weights), dataset.classes)
    return Preflight(device, cost.multiplications, heading, announce, start)


def _describe_run(config: Config, dataset: Dataset, num_train: int) -> str:
    """Return a line with the network, the data set and the numbers of examples."""
    data = config.data
    return (
        f"{config.model.name} on {dataset.title} at {data.resize} x {data.resize}: "
        f"{num_train:,} training, {count_validation(data, dataset):,} validation "
        f"and {data.test_examples or dataset.test_examples:,} test examples"
    )


def _check_trackers(config: Config) -> None:
    """Check that the packages of the trackers are installed.

    They are not imported, as an import takes a second and changes the process.
    """
    for name in TRACKERS:
        if getattr(config.tracker, name) is None:
            continue
        package = find_spec(name)
        if package is None or package.origin is None:  # without origin: only a folder of that name
            raise ConfigError(
                f"The packages of tracker={name} are not installed. "
                f"Train without (tracker=none), or install them: pip install 'cnnbench[{name}]'"
            )


def _check_selection(config: Config, dataset: Dataset) -> None:
    """Check that there is a validation set if a figure of it shall choose or end something."""
    train = config.train
    wanted = [] if train.patience is None else [f"train.patience={train.patience}"]
    wanted += ["train.select_by=loss"] if train.select_by == "loss" else []
    if wanted and not count_validation(config.data, dataset):
        raise ConfigError(
            f"A validation set is needed for {' and '.join(wanted)}, as the test set must not "
            f"choose anything: data.validation={config.data.validation} leaves none."
        )


def _check_last_batch(
    config: Config, network: nn.Module, image: torch.Tensor, num_train: int
) -> None:
    """Check that every process has a share of a batch, and that the last batch is large enough."""
    from cnnbench.analysis.meta_shapes import check_training_forward

    world_size, batch_size = processes().world_size, min(config.train.batch_size, num_train)
    if batch_size < world_size:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} with "
            f"{format_count(num_train, 'training example')}: "
            f"a batch of {batch_size} has no example for each of {world_size} processes. "
            "Take a larger batch, or start fewer processes."
        )
    last = num_train % batch_size or batch_size
    share = max(1, last // world_size)
    normalized = last if config.device.sync_batchnorm else share  # images of one set of statistics
    micro_batch = normalized // min(config.train.accumulate, share)
    try:
        images = image.new_empty(micro_batch, *image.shape[1:])
        check_training_forward(config.model.name, network, images)
    except ConfigError as error:
        if micro_batch > 1:
            raise
        if normalized > 1:
            raise ConfigError(
                f"{error}\nThat is a micro-batch of the last batch, of "
                f"{format_count(normalized, 'example')}: "
                f"train.accumulate={config.train.accumulate} splits it too far. "
                "Lower it, or take another train.batch_size."
            ) from error
        advice = f", or data.train_examples={num_train - 1}" if batch_size > 1 else ""
        raise ConfigError(
            f"{error}\nThat is the last batch of "
            f"{format_count(num_train, 'training example')}. "
            f"Take another train.batch_size{advice}."
        ) from error


def _check_memory(config: Config, network: nn.Module, images: torch.Tensor, device: Device) -> None:
    """Check that training on batches like `images` can fit into the memory of the device.

    Otherwise the operating system would kill the process without an error message.
    """
    from cnnbench.analysis.memory import estimate_fixed_memory, estimate_memory

    _check_fits(config, device, estimate_fixed_memory(network, config.optimizer), len(images))
    # GPU libraries, a compiler or a custom model may need less than the estimate of activations.
    on_cpu = device.torch_device.type == "cpu"
    if on_cpu and not device.compile and ":" not in config.model.name:
        dtype = device.autocast_dtype or device.dtype
        memory = estimate_memory(network, images, config.optimizer, dtype)
        _check_fits(config, device, memory, len(images))


def advise_accumulate(
    config: Config, memory: TrainingMemory, micro_batch: int, device_bytes: int, at_least: int = 1
) -> str:
    """Return the advice to split the batch into micro-batches that fit, "" if no number does.

    `memory` is that of `micro_batch` images, with the present train.accumulate. A quarter of the
    memory is left to other programs, and to what the estimate does not count.
    """
    batch_size = micro_batch * config.train.accumulate
    room = device_bytes * 3 // 4 - memory.total + memory.activations
    fitting = micro_batch * room // max(1, memory.activations)  # images
    if fitting < 1:
        return ""
    number = max(at_least, math.ceil(batch_size / fitting))
    if number > batch_size:
        return ""
    images = format_count(math.ceil(batch_size / number), "image")
    return f", or split the batch by train.accumulate={number} into micro-batches of {images}"


def _check_images_fit(dataset: Dataset, device: Device) -> None:
    """Check that the images of a folder data set fit into the memory of the device."""
    device_bytes, size = device.whole_memory(), dataset.image_size
    num_images = dataset.train_examples + dataset.test_examples
    num_bytes = num_images * dataset.in_channels * size**2
    if num_bytes > device_bytes:
        raise ConfigError(
            f"Out of memory: {format_count(num_images, 'image')} of {size} x {size} "
            f"pixels in {dataset.title} take {format_bytes(num_bytes)}, and "
            f"{device.torch_device} has {format_bytes(device_bytes)} in all.\n"
            "Lower data.image_size, or take fewer images."
        )


def _check_fits(config: Config, device: Device, memory: TrainingMemory, micro_batch: int) -> None:
    """Check that the least memory of training fits into the memory of the device."""
    device_bytes = device.whole_memory()
    if memory.least <= device_bytes:
        return
    sizes = asdict(memory).items()
    parts = ", ".join(f"{name.replace('_', ' ')} {format_bytes(size)}" for name, size in sizes)
    remedy = "data.resize, or take a smaller network"
    if memory.activations:
        split = advise_accumulate(config, memory, micro_batch, device_bytes)
        remedy = f"train.batch_size or data.resize{split}"
    raise ConfigError(
        f"Out of memory: training {config.model.name} with "
        f"train.batch_size={config.train.batch_size} data.resize={config.data.resize} "
        f"takes at least {format_bytes(memory.least)} ({parts}), and {device.torch_device} has "
        f"{format_bytes(device_bytes)} in all.\n"
        f"Lower {remedy}. cnnbench summary estimates what training takes."
    )
