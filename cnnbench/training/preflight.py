"""Everything about a configuration that can be known to be wrong before any data is read."""

import math
from importlib.util import find_spec

from cnnbench.config import TRACKERS, Config
from cnnbench.data import sources
from cnnbench.data.splits import check_sizes
from cnnbench.errors import ConfigError
from cnnbench.runs.processes import processes

__all__ = ["check"]


def check(config: Config) -> None:
    """Check the trackers, the data set's sizes, the device, the network on one image without memory, and its memory.

    Raises:
        ConfigError: the first thing that is wrong. What needs no torch is looked at first.
    """
    _check_trackers(config)
    dataset = sources.facts(config.data)
    num_train = check_sizes(config.data, dataset)
    sources.read_ahead(config.data)  # while PyTorch is imported; `load` tells what is wrong with them

    import torch

    from cnnbench.analysis.meta_shapes import check_forward, check_training_forward
    from cnnbench.commands.memory_check import check_memory
    from cnnbench.training.device import choose, device_config

    device = choose(
        device_config(config), lambda: math.inf
    )  # bf16 wherever it may come to that, which takes less memory
    size = config.data.resize
    network = check_forward(
        config.model.name, dataset.in_channels, len(dataset.classes), size, **config.model.arguments
    )
    if not list(network.parameters()):
        raise ConfigError(f"{config.model.name} has no parameters: there is nothing to train.")
    ours, batch_size = processes(), min(config.train.batch_size, num_train)
    if batch_size < ours.world_size:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} with {num_train:,} training examples: a batch of {batch_size} "
            f"has no example for each of {ours.world_size} processes. Take a larger batch, or start fewer processes."
        )
    last = num_train % batch_size or batch_size
    if not config.device.sync_batchnorm:
        last = max(1, last // ours.world_size)
    try:
        images = torch.empty(last, dataset.in_channels, size, size, device="meta")
        check_training_forward(config.model.name, network, images)
    except ConfigError as error:
        if last > 1:
            raise
        advice = f", or data.train_examples={num_train - 1}" if batch_size > 1 else ""
        raise ConfigError(
            f"{error}\nThat is the last batch of {num_train:,} training examples. "
            f"Take another train.batch_size{advice}."
        ) from error
    check_memory(
        config, dataset, device, network, torch.empty(batch_size, dataset.in_channels, size, size, device="meta")
    )


def _check_trackers(config: Config) -> None:
    """Their packages are looked for, not imported: that takes a second, and what they do to a process stays with it."""
    for name in (each for each in TRACKERS if getattr(config.tracker, each) is not None):
        package = find_spec(name)
        if package is None or package.origin is None:  # a mere folder of that name
            raise ConfigError(
                f"The packages of tracker={name} are not installed: pip install 'cnnbench[{name}]'. "
                "Without a tracker: tracker=none."
            )
