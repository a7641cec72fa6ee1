"""`cnnbench data`: list the data sets, or fetch and verify those named."""

import argparse
import textwrap

from cnnbench.data import catalog, storage
from cnnbench.data.catalog import CATALOG, Dataset

__all__ = ["run"]


def run(arguments: list[str]) -> None:
    """List all data sets; with names, make sure that those are there and whole.

    Raises:
        ConfigError: no data set of that name.
        DataError: one could not be fetched.
    """
    parser = argparse.ArgumentParser(
        prog="cnnbench data",
        description="List the data sets and where they are; with names, fetch and verify those.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CATALOG))
    parser.add_argument("--root", metavar="DIR", help=f"the cache folder (default: {storage.cache_folder(None)})")
    parsed = parser.parse_args(arguments)
    named = [catalog.get(name) for name in parsed.names]
    for dataset in named:
        storage.load(dataset, parsed.root)
    for dataset in named or CATALOG.values():
        _describe(dataset, parsed.root)
    if not named:
        print("Your own images are a data set too: data=folder data.path=DIR")


def _describe(dataset: Dataset, root: str | None) -> None:
    tried: list[str] = []
    places = {name: storage.find(dataset, name, root, tried)[0] for name in dataset.files}
    folders = sorted({str(place.parent) for place in places.values() if place is not None})
    missing = [name for name, place in places.items() if place is None]
    print(f"{dataset.name}: {dataset.title}, licence {dataset.licence}")
    print(
        f"  {dataset.train_examples:,} training and {dataset.test_examples:,} test images of "
        f"{dataset.image_size} x {dataset.image_size}, {len(dataset.classes)} classes:"
    )
    print(textwrap.fill(", ".join(dataset.classes), 96, initial_indent="    ", subsequent_indent="    "))
    for attempt in tried:
        print(f"  passed over {attempt}")
    print(f"  verified in {', '.join(folders)}" if not missing else f"  not on this machine: {', '.join(missing)}")
