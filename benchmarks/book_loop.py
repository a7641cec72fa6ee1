"""Train LeNet by the book's own loop (d2l 1.0.3) and by cnnbench, seed by seed.

    pip install --no-deps d2l==1.0.3
    pip install pandas scipy matplotlib-inline ipython requests
    python benchmarks/book_loop.py [--seeds 0 1 2] [--epochs 10]

Network, initialization, learning rate, batch size and pixels are the same; random weights and the
order of the examples differ. Prints the test accuracy after the last epoch: by the book's
`train_ch6`, unchanged, and by cnnbench with train.last_batch=full and weighted.
"""

import argparse
import contextlib
import io
import statistics
import warnings
from typing import ClassVar

import torch
from torch.utils.data import DataLoader, TensorDataset

import cnnbench
from cnnbench import models
from cnnbench.data import catalog
from cnnbench.data.download import load_public_dataset

warnings.filterwarnings("ignore")

BATCH_SIZE, LEARNING_RATE = 256, 0.9


class Record:
    """In place of the book's animated plot: keeps the test accuracy of each epoch."""

    accuracies: ClassVar[list[float]] = []

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.accuracies.clear()

    def add(self, epoch: float, values: tuple[float | None, ...]) -> None:
        if values[2] is not None:
            self.accuracies.append(values[2])


def train_by_the_book(seed: int, epochs: int) -> float:
    """Return the test accuracy after the last epoch."""
    from d2l import torch as d2l

    d2l.Animator = Record
    _, arrays = load_public_dataset(catalog.get("fashion_mnist"))
    loaders = []
    for name in ("train", "test"):
        images, labels = getattr(arrays, f"{name}_images"), getattr(arrays, f"{name}_labels")
        pixels = torch.from_numpy(images).view(-1, 1, 28, 28).float() / 255
        part = TensorDataset(pixels, torch.from_numpy(labels).long())
        loaders.append(DataLoader(part, BATCH_SIZE, shuffle=name == "train"))
    torch.manual_seed(seed)
    network = models.build("lenet")
    with contextlib.redirect_stdout(io.StringIO()):
        d2l.train_ch6(network, *loaders, epochs, LEARNING_RATE, torch.device("cpu"))
    return Record.accuracies[-1]


def train_by_cnnbench(seed: int, epochs: int, last_batch: str) -> float:
    overrides = ("experiment=book/lenet", f"seed={seed}", f"train.epochs={epochs}", "device=cpu")
    result = cnnbench.api.train(
        *overrides, "device.precision=fp32", f"train.last_batch={last_batch}"
    )
    assert result.test_accuracy is not None
    return result.test_accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    columns: dict[str, list[float]] = {"the book's loop": [], "full": [], "weighted": []}
    print("seed", *columns, sep="  ")
    for seed in options.seeds:
        columns["the book's loop"].append(train_by_the_book(seed, options.epochs))
        for last_batch in ("full", "weighted"):
            columns[last_batch].append(train_by_cnnbench(seed, options.epochs, last_batch))
        print(seed, *(f"{values[-1]:.4f}" for values in columns.values()), sep="  ", flush=True)
    for name, values in columns.items():
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        print(f"{name}: {statistics.mean(values):.4f}{spread}")


if __name__ == "__main__":
    main()
