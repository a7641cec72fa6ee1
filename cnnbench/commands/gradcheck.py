"""`cnnbench gradcheck`: the layers of a network by hand, against those of PyTorch."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn

from cnnbench import models
from cnnbench.analysis.format import align
from cnnbench.analysis.meta_shapes import check_forward
from cnnbench.config import Config
from cnnbench.data import datasets
from cnnbench.reference.checking import (
    Differences,
    compare,
    compare_layer,
    compare_network,
    record_input_shapes,
)
from cnnbench.reference.swap import find_twin
from cnnbench.training.device import resolve_device
from cnnbench.training.init import initialize
from cnnbench.training.losses import make_losses

__all__ = ["run"]

# numerical derivatives err by their steps
TOLERANCE = Differences(outputs=1e-9, gradients=1e-9, numerical=1e-6)
TIMES_ROUNDING = 10  # of a network, what it may differ by if it is more: see `compare_network`
EXCEEDED = 6  # exit code: a difference beyond its tolerance
HEADER = ("layer", "kind", "outputs", "gradients", "numerical", "")
OF_NETWORK = "of the network"  # the row of its tolerance


@dataclass(frozen=True)
class Row:
    """A layer, loss or network and its differences: None if there is nothing to compare with."""

    name: str
    kind: str
    differences: Differences | None
    tolerance: Differences = TOLERANCE

    @property
    def beyond(self) -> dict[str, float]:
        """The differences that exceed their tolerance; what is not a number does."""
        found = asdict(self.differences) if self.differences else {}
        allowed = asdict(self.tolerance)
        return {name: value for name, value in found.items() if not value <= allowed[name]}


def run(config: Config, batch_size: int, as_json: bool = False) -> int:
    """Print the table of differences; return the exit code.

    Raises:
        ConfigError: the network cannot be built as configured, or the device has no float64.
    """
    dataset = datasets.dataset_info(config.data)
    device = resolve_device(config.device).torch_device
    torch.manual_seed(config.seed)
    name, size, arguments = config.model.name, config.data.resize, config.model.arguments
    check_forward(name, dataset.in_channels, len(dataset.classes), size, **arguments)
    network = models.build(name, dataset.in_channels, len(dataset.classes), size, **arguments)
    initialize(network, config.train.init)
    network = network.to(device, torch.float64)
    shape = (batch_size, dataset.in_channels, size, size)
    images = torch.randn(shape, dtype=torch.float64, device=device)
    shapes = record_input_shapes(network, images)
    rows: Iterable[Row] = _rows(config, network, images, len(dataset.classes), shapes)
    if not as_json:
        numbers = f"{' x '.join(map(str, shape))} random numbers, float64"
        print(f"{name} on {numbers}, {device.type}\n", flush=True)
        kinds = {layer: _kind(network, layer) for layer in shapes}
        rows = _print_rows(rows, {**kinds, "loss": config.train.loss, "network": name})
    rows = list(rows)
    failed = [row for row in rows if row.beyond]
    if as_json:
        compared = [{**asdict(row), "beyond": row.beyond} for row in rows]
        report = {"model": name, "passed": not failed, "compared": compared}
        print(json.dumps(report, indent=2))
    else:
        _print_notes(rows, failed)
    return EXCEEDED if failed else 0


def _kind(network: nn.Module, layer: str) -> str:
    return type(network.get_submodule(layer)).__name__


def _rows(
    config: Config,
    network: nn.Module,
    images: torch.Tensor,
    num_classes: int,
    shapes: Mapping[str, torch.Size],
) -> Iterator[Row]:
    """Compare the layers in the order of their calls, then the loss, then the network."""
    for name, shape in shapes.items():
        layer = network.get_submodule(name)
        differences = compare_layer(layer, shape, images.device) if find_twin(layer) else None
        yield Row(name, _kind(network, name), differences)
    by_hand = make_losses(config.train, reference=True).loss
    library = make_losses(config.train).loss
    logits = torch.randn(len(images), num_classes, dtype=torch.float64, device=images.device)
    labels = torch.randint(num_classes, (len(images),), device=images.device)
    yield Row(
        "loss",
        config.train.loss,
        compare(lambda x: by_hand(x, labels), lambda x: library(x, labels), logits),
    )
    differences, rounding = compare_network(network, images)
    allowed = asdict(TOLERANCE)
    for name, value in asdict(rounding).items():
        allowed[name] = max(allowed[name], TIMES_ROUNDING * value)
    yield Row("network", config.model.name, differences, Differences(**allowed))


def _print_rows(rows: Iterable[Row], kinds: Mapping[str, str]) -> list[Row]:
    """Print each row as soon as it is known, then the tolerances; return the rows.

    `kinds` are those of the rows, by name, for columns wide enough for all of them.
    """
    widest = max((*kinds, OF_NETWORK), key=len), max(kinds.values(), key=len), *HEADER[2:]

    def print_row(*cells: str) -> None:
        print(align([widest, cells], right=range(2, 5)).partition("\n")[2], flush=True)

    print_row(*HEADER)
    printed = []
    for row in rows:
        print_row(*_cells(row))
        printed.append(row)
    for name, tolerance in (("tolerance", TOLERANCE), (OF_NETWORK, printed[-1].tolerance)):
        print_row(name, "", *(f"{value:.0e}" for value in asdict(tolerance).values()), "")
    return printed


def _print_notes(rows: Sequence[Row], failed: Sequence[Row]) -> None:
    print(
        "\nThe largest differences of what is computed by hand: from torch's outputs, from the gradients of autograd,\n"
        "and from numerical derivatives, each as a share of the largest number there is."
    )
    alone = sorted({row.kind for row in rows if row.differences is None})
    if alone:
        print(f"Not written by hand, and torch's in both: {', '.join(alone)}.")
    if failed:
        print(f"Beyond the tolerance: {', '.join(row.name for row in failed)}.")


def _cells(row: Row) -> tuple[str, ...]:
    if row.differences is None:
        return row.name, row.kind, "", "", "", ""
    values = (f"{value:.1e}" for value in asdict(row.differences).values())
    return row.name, row.kind, *values, "BEYOND" if row.beyond else ""
