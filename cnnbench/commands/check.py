"""Everything about a configuration that can be known to be wrong before any data is read."""

from cnnbench.config import Config
from cnnbench.data import catalog
from cnnbench.data.splits import check_sizes
from cnnbench.errors import ConfigError

__all__ = ["check"]


def check(config: Config) -> None:
    """Check the data set's sizes, the device, and the network on one image without memory.

    Raises:
        ConfigError: the first thing that is wrong. What needs no torch is looked at first.
    """
    dataset = catalog.get(config.data.name)
    num_train = check_sizes(config.data, dataset)

    import torch

    from cnnbench import models
    from cnnbench.models.meta import ShapeRules
    from cnnbench.training.device import choose

    choose(config.device)
    size = config.data.resize
    network = models.dry_run(
        config.model.name, dataset.in_channels, len(dataset.classes), size, **config.model.arguments
    )
    batch_size = min(config.train.batch_size, num_train)
    if (num_train % batch_size or batch_size) == 1:
        try:
            with ShapeRules(), torch.no_grad():
                network.train()(torch.empty(1, dataset.in_channels, size, size, device="meta"))
        except ValueError as error:  # what batch normalisation of 1 x 1 maps raises
            raise ConfigError(
                f"train.batch_size={config.train.batch_size} leaves a batch of one alone of {num_train:,} training "
                f"examples. {config.model.name} at {size} pixels cannot train on that: {error}.\n"
                f"Take another train.batch_size, or fewer examples: data.train_examples={num_train - 1}."
            ) from error
