"""`cnnbench data`: list the data sets, download and verify some, or draw training images."""

import argparse
import textwrap
from pathlib import Path

from cnnbench.analysis.format import printable
from cnnbench.config import Config
from cnnbench.data import download
from cnnbench.data.catalog import CATALOG, PublicDataset
from cnnbench.data.public_files import find_files
from cnnbench.errors import ConfigError, did_you_mean, explain_write_error

__all__ = ["run", "show"]


def run(options: argparse.Namespace) -> None:
    """List all data sets or, with names, download and verify the named ones.

    Raises:
        ConfigError: there is no data set of that name.
        DataError: a data set could not be downloaded.
    """
    for name in options.words:
        if "=" in name:
            raise ConfigError(f"{name} is for --show FILE, which draws training images.")
        if name not in CATALOG:
            raise ConfigError(f"There is no data set '{name}'. {did_you_mean(name, CATALOG)}")
    named = [CATALOG[name] for name in options.words]
    for dataset in named:
        download.load_public_dataset(dataset, options.root)
    for dataset in named or CATALOG.values():
        _describe(dataset, options.root)
    if not named:
        print("Your own images are a data set too: data=folder data.path=DIR")


def show(config: Config, path: Path) -> None:
    """Draw the first training images as the network sees them into the SVG or PNG `path`.

    Raises:
        ConfigError: the data set has too few examples, or the file cannot be written.
        DataError: the data cannot be found or downloaded.
    """
    # imported here, so that the list need not wait for it
    from cnnbench.data import datasets

    datasets.prefetch_dataset(config.data)  # while PyTorch is imported
    from cnnbench.reports.batch_sheet import draw_training_batch, make_training_batch

    dataset, arrays = datasets.load_dataset(config.data)
    batch = make_training_batch(config, dataset, arrays)
    try:
        caption = draw_training_batch(path, dataset.title, batch)
    except OSError as error:
        raise explain_write_error(path, error, "Name another place: --show FILE.") from error
    print(printable("\n".join([dataset.title, caption, *dataset.notes, "", str(path)])))


def _describe(dataset: PublicDataset, root: str | None) -> None:
    print(f"{dataset.name}: {dataset.title}, license {dataset.licence}")
    print(
        f"  {dataset.train_examples:,} training and {dataset.test_examples:,} test images of "
        f"{dataset.image_size} x {dataset.image_size}, {len(dataset.classes)} classes:"
    )
    classes = ", ".join(dataset.classes)
    print(textwrap.fill(classes, 96, initial_indent="    ", subsequent_indent="    "))
    found = find_files(dataset, root)
    for attempt in found.tried:
        print(f"  passed over {attempt}")
    if found.missing:
        print(f"  not on this machine: {', '.join(found.missing)}")
    else:
        print(f"  verified in {found.folders}")
