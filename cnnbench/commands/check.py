"""Everything about a configuration that can be known to be wrong before any data is read."""

from cnnbench.config import Config
from cnnbench.data import catalog
from cnnbench.data.splits import check_sizes

__all__ = ["check"]


def check(config: Config) -> None:
    """Check the data set's sizes, the device, and the network on one image without memory.

    Raises:
        ConfigError: the first thing that is wrong. What needs no torch is looked at first.
    """
    dataset = catalog.get(config.data.name)
    check_sizes(config.data, dataset)

    from cnnbench import models
    from cnnbench.training.device import choose

    choose(config.device)
    models.dry_run(
        config.model.name,
        dataset.in_channels,
        len(dataset.classes),
        config.data.resize,
        **config.model.arguments,
    )
