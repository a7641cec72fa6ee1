"""The training loop against the book's own, `train_ch6` of the package d2l: the same accuracies."""

import copy
from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from helpers.config_changes import change
from helpers.devices import MakeEngine
from helpers.training_states import make_state

from cnnbench.config import Config
from cnnbench.data.device_data import Examples, epoch_order
from cnnbench.models import build
from cnnbench.runs.directory import RunDirectory
from cnnbench.training import loop
from cnnbench.training.device import Device
from cnnbench.training.init import initialize

d2l = pytest.importorskip("d2l.torch", reason="needs the package d2l, which `make test` installs")

BATCH_SIZE, EPOCHS = 8, 4


class Batches:
    """The batches of each epoch in the order in which cnnbench trains on them."""

    def __init__(self, examples: Examples, seed: int) -> None:
        self.pixels, self.labels = examples.images.float() / 255, examples.labels
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return -(-len(self.labels) // BATCH_SIZE)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.epoch += 1
        for indices in epoch_order(len(self.labels), self.seed, self.epoch).split(BATCH_SIZE):
            yield self.pixels[indices], self.labels[indices]


class Curves:
    """In place of the animated plot of the book: the figures that it would show."""

    drawn: ClassVar["Curves"]

    def __init__(self, **axes: object) -> None:
        self.points: list[tuple[float | None, ...]] = []
        Curves.drawn = self

    def add(self, epoch: float, values: tuple[float | None, ...]) -> None:
        self.points.append(values)


@pytest.fixture
def examples() -> Examples:
    """Return 61 images with a bright quarter for each class: batches of 8 end with one of 5."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(61) % 4
    images = torch.randint(0, 128, (61, 1, 28, 28), dtype=torch.uint8, generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = 14 * (label // 2), 14 * (label % 2)
        image[:, row : row + 14, column : column + 14] += 128
    return Examples(images, labels)


def test_same_weights_and_order_give_the_figures_of_the_book(
    sgd_config: Config,
    device: Device,
    examples: Examples,
    run_directory: RunDirectory,
    make_engine: MakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = sgd_config
    change(config, data__resize=28, data__validation=0, train__last_batch="full")
    change(config, train__epochs=EPOCHS, train__batch_size=BATCH_SIZE)
    torch.manual_seed(0)
    network = build("mlp", num_classes=4)
    initialize(network, "xavier_uniform")
    book_network = copy.deepcopy(network)
    monkeypatch.setattr(book_network, "apply", lambda _init: None)  # keeps these weights
    monkeypatch.setattr(d2l, "Animator", Curves)

    engine = make_engine(network, config, device)
    rows = list(loop.fit(make_state(config, engine, examples, run_directory)))
    batches = Batches(examples, config.seed)
    in_order = [(batches.pixels, batches.labels)]
    d2l.train_ch6(book_network, batches, in_order, EPOCHS, config.optimizer.lr, torch.device("cpu"))

    points = Curves.drawn.points
    tests = [accuracy for _, _, accuracy in points if accuracy is not None]
    ends = [points[i - 1][:2] for i, point in enumerate(points) if point[2] is not None]
    assert [row["test_accuracy"] for row in rows] == pytest.approx(tests)
    assert [(row["train_loss"], row["train_accuracy"]) for row in rows] == [
        pytest.approx(end, rel=1e-4) for end in ends
    ]
    assert tests[0] < tests[-1] > 0.9
    torch.testing.assert_close(network.state_dict(), book_network.state_dict())
