"""`cnnbench models`: list the networks."""

import argparse
from pathlib import Path

import torch

from cnnbench import models
from cnnbench.analysis.format import align
from cnnbench.analysis.layers import count_parameters
from cnnbench.config import load_recipe

__all__ = ["run"]

HEADER = (
    *("model", "parameters", "smallest", "recipe: size", "batch"),
    *("lr", "momentum", "epochs", "source"),
)


def run(options: argparse.Namespace, conf: Path) -> None:
    """Print the registry as a table; `conf` is the folder with the YAMLs."""
    rows: list[tuple[str, ...]] = [HEADER]
    for name, spec in models.REGISTRY.items():
        recipe = load_recipe(conf / "model" / f"{name}.yaml")
        with torch.device("meta"):
            network = models.build(name, image_size=recipe.resize)
        parameters = count_parameters(network.parameters())
        sizes = (str(spec.min_image_size), str(recipe.resize), str(recipe.batch_size))
        rates = (f"{recipe.lr:g}", f"{recipe.momentum:g}")
        rows.append((name, f"{parameters:,}", *sizes, *rates, str(recipe.epochs), spec.source))
    print(align(rows, right=range(1, 8)))
    print(
        "\nSizes are in pixels. Parameters are for one channel and 10 classes at the size of the "
        "recipe. The recipe\nis that of the source: of Dive into Deep Learning the first "
        "edition's, whose rates are larger, if the\nnetwork is in it. To see the layers of one: "
        "cnnbench summary model=lenet"
    )
