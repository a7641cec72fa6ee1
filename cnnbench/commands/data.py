"""`cnnbench data`: list the data sets, or download and verify some."""

import argparse
import textwrap

from cnnbench.data import download
from cnnbench.data.catalog import CATALOG, PublicDataset
from cnnbench.data.public_files import find_files
from cnnbench.errors import ConfigError, did_you_mean

__all__ = ["run"]


def run(options: argparse.Namespace) -> None:
    """List all data sets or, with names, download and verify the named ones.

    Raises:
        ConfigError: there is no data set of that name.
        DataError: a data set could not be downloaded.
    """
    for name in options.words:
        if name not in CATALOG:
            raise ConfigError(f"There is no data set '{name}'. {did_you_mean(name, CATALOG)}")
    named = [CATALOG[name] for name in options.words]
    for dataset in named:
        download.load_public_dataset(dataset, options.root)
    for dataset in named or CATALOG.values():
        _describe(dataset, options.root)
    if not named:
        print("Your own images are a data set too: data=folder data.path=DIR")


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
