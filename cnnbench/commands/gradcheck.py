"""`cnnbench gradcheck`: compare the reference implementation of a network with PyTorch's."""

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

# Numerical derivatives have an error that grows with their steps.
TOLERANCE = Differences(outputs=1e-9, gradients=1e-9, numerical=1e-6)
TIMES_ROUNDING = 10  # a network may differ by this many times its rounding: see `compare_network`
EXCEEDED = 6  # exit code: a difference beyond its tolerance
HEADER = ("layer", "kind", "outputs", "gradients", "numerical", "")
NETWORK_TOLERANCE = "of the network"  # the name of a row


@dataclass(frozen=True)
class Row:
    """A layer, loss or network and its differences: None without a reference implementation."""

    name: str
    kind: str
    differences: Differences | None
    tolerance: Differences = TOLERANCE

    @property
    def beyond(self) -> dict[str, float]:
        """Return the differences that exceed their tolerance, and those that are NaN."""
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
    rows: Iterable[Row] = _compare_all(config, network, images, len(dataset.classes), shapes)
    if not as_json:
        numbers = f"{' x '.join(map(str, shape))} random numbers, float64"
        print(f"{name} on {numbers}, {device.type}\n", flush=True)
        kinds = {layer: _layer_kind(network, layer) for layer in shapes}
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


def _layer_kind(network: nn.Module, layer: str) -> str:
    return type(network.get_submodule(layer)).__name__


def _compare_all(
    config: Config,
    network: nn.Module,
    images: torch.Tensor,
    num_classes: int,
    shapes: Mapping[str, torch.Size],
) -> Iterator[Row]:
    """Yield the rows of the layers in the order of their calls, of the loss and of the network."""
    for name, shape in shapes.items():
        layer = network.get_submodule(name)
        differences = compare_layer(layer, shape, images.device) if find_twin(layer) else None
        yield Row(name, _layer_kind(network, name), differences)
    reference_loss = make_losses(config.train, reference=True).loss
    torch_loss = make_losses(config.train).loss
    logits = torch.randn(len(images), num_classes, dtype=torch.float64, device=images.device)
    labels = torch.randint(num_classes, (len(images),), device=images.device)
    differences = compare(
        lambda x: reference_loss(x, labels), lambda x: torch_loss(x, labels), logits
    )
    yield Row("loss", config.train.loss, differences)
    differences, rounding = compare_network(network, images)
    allowed = asdict(TOLERANCE)
    for name, value in asdict(rounding).items():
        allowed[name] = max(allowed[name], TIMES_ROUNDING * value)
    yield Row("network", config.model.name, differences, Differences(**allowed))


def _print_rows(rows: Iterable[Row], kinds: Mapping[str, str]) -> list[Row]:
    """Print each row as soon as it is computed, then the tolerances; return the rows.

    `kinds` has the name and kind of each row, from which the widths of the columns follow.
    """
    widest = max((*kinds, NETWORK_TOLERANCE), key=len), max(kinds.values(), key=len), *HEADER[2:]

    def print_row(*cells: str) -> None:
        print(align([widest, cells], right=range(2, 5)).partition("\n")[2], flush=True)

    print_row(*HEADER)
    printed = []
    for row in rows:
        print_row(*_format_row(row))
        printed.append(row)
    for name, tolerance in (("tolerance", TOLERANCE), (NETWORK_TOLERANCE, printed[-1].tolerance)):
        print_row(name, "", *(f"{value:.0e}" for value in asdict(tolerance).values()), "")
    return printed


def _print_notes(rows: Sequence[Row], failed: Sequence[Row]) -> None:
    print(
        "\nThe largest differences of the reference implementation: from torch's outputs, from "
        "the gradients of autograd,\nand from numerical derivatives, each as a share of the "
        "largest number there is."
    )
    torch_only = sorted({row.kind for row in rows if row.differences is None})
    if torch_only:
        print(f"Without a reference implementation, torch's in both: {', '.join(torch_only)}.")
    if failed:
        print(f"Beyond the tolerance: {', '.join(row.name for row in failed)}.")


def _format_row(row: Row) -> tuple[str, ...]:
    if row.differences is None:
        return row.name, row.kind, "", "", "", ""
    values = (f"{value:.1e}" for value in asdict(row.differences).values())
    return row.name, row.kind, *values, "BEYOND" if row.beyond else ""
