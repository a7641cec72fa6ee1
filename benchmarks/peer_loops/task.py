"""The training that every tool does, and its data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DATA = "../data"  # d2l reads the files in DATA/FashionMNIST/raw

EndEpoch = Callable[[float], None]  # called with the test accuracy at the end of each epoch


@dataclass(frozen=True)
class Task:
    """A network and its training by SGD: all that the tools have in common.

    `arguments` are those of the network's constructor. `num_train` and `num_test` are the numbers
    of examples, the first ones of Fashion-MNIST. `device` is cuda, mps or cpu.
    """

    model: str
    arguments: dict[str, Any]
    image_size: int
    batch_size: int
    lr: float
    num_train: int
    num_test: int
    epochs: int
    device: str


def read_images(task: Task, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 28, 28) and labels (N,) as bytes; `part` is train or t10k."""
    raw = Path(DATA, "FashionMNIST", "raw")
    images = np.fromfile(raw / f"{part}-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 28, 28)
    labels = np.fromfile(raw / f"{part}-labels-idx1-ubyte", np.uint8)[8:]
    number = task.num_train if part == "train" else task.num_test
    return images[:number], labels[:number]
