"""`cnnbench gradcheck`: compare the reference implementation of a network with PyTorch's."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain

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
from cnnbench.reference.custom import optimizer_mistakes
from cnnbench.reference.custom.checks import WeightDifference, list_checks
from cnnbench.reference.custom.mistakes import explain
from cnnbench.reference.custom.module import OPTIMIZERS, CustomCodeError, CustomModule, load_custom
from cnnbench.reference.swap import find_twin
from cnnbench.training.device import resolve_device
from cnnbench.training.init import initialize
from cnnbench.training.losses import make_losses

__all__ = ["run"]

# Numerical derivatives have an error that grows with their steps.
TOLERANCE = Differences(outputs=1e-9, gradients=1e-9, numerical=1e-6)
OPTIMIZER_TOLERANCE = WeightDifference(outputs=optimizer_mistakes.TOLERANCE)
TIMES_ROUNDING = 10  # a network may differ by this many times its rounding: see `compare_network`
EXCEEDED = 6  # exit code: a difference beyond its tolerance
HEADER = ("layer", "kind", "outputs", "gradients", "numerical", "")
NETWORK_TOLERANCE = "of the network"  # the name of a row


@dataclass(frozen=True)
class Row:
    """A layer, loss, optimizer or network and its differences from PyTorch's.

    The differences are None without a reference implementation, and if the user's class fails.
    `problems` are sentences on what is wrong in this class.
    """

    name: str
    kind: str
    differences: Differences | WeightDifference | None
    tolerance: Differences | WeightDifference = TOLERANCE
    problems: tuple[str, ...] = ()

    @property
    def beyond(self) -> dict[str, float]:
        """Return the differences that exceed their tolerance, and those that are NaN."""
        found = asdict(self.differences) if self.differences else {}
        allowed = asdict(self.tolerance)
        return {name: value for name, value in found.items() if not value <= allowed[name]}

    @property
    def is_wrong(self) -> bool:
        return bool(self.beyond or self.problems)


def run(
    config: Config, batch_size: int, limit_s: float | None = None, as_json: bool = False
) -> int:
    """Print the table of differences; return the exit code.

    With reference.module the classes in the user's file are compared, too. A call of them may take
    `limit_s`.

    Raises:
        ConfigError: the network cannot be built as configured, the device has no float64, the
            user's file cannot be run, or a call took longer than the time limit.
    """
    module = config.reference.module
    custom = None if module is None else load_custom(module, limit_s)
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
    if custom is not None:
        rows = chain(
            _compare_custom(custom),
            _compare_all(config, network, images, len(dataset.classes), shapes, custom),
        )
    if not as_json:
        numbers = f"{' x '.join(map(str, shape))} random numbers, float64"
        print(f"{name} on {numbers}, {device.type}\n", flush=True)
        kinds = [(layer, _layer_kind(network, layer)) for layer in shapes]
        kinds += [("loss", config.train.loss), ("network", name)]
        if custom is not None:
            kinds += [
                (kind, title) for kind in custom.classes for title, _ in list_checks(custom, kind)
            ]
        rows = _print_rows(rows, kinds)
    # What the user's code prints must not come between the lines of JSON.
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        rows = list(rows)
    failed = [row for row in rows if row.is_wrong]
    if as_json:
        compared = [_to_plain(row) for row in rows]
        report = {"model": name, "passed": not failed, "compared": compared}
        print(json.dumps(report, indent=2))
    else:
        _print_notes(rows, failed, custom)
    return EXCEEDED if failed else 0


def _to_plain(row: Row) -> dict[str, object]:
    plain = {**asdict(row), "beyond": row.beyond}
    if not row.problems:
        del plain["problems"]
    return plain


def _layer_kind(network: nn.Module, layer: str) -> str:
    return type(network.get_submodule(layer)).__name__


def _compare_all(
    config: Config,
    network: nn.Module,
    images: torch.Tensor,
    num_classes: int,
    shapes: Mapping[str, torch.Size],
    custom: CustomModule | None = None,
) -> Iterator[Row]:
    """Yield the rows of the layers in the order of their calls, of the loss and of the network."""
    if custom is not None:  # the user's dropout has other masks than PyTorch's
        classes = {kind: value for kind, value in custom.classes.items() if kind != "Dropout"}
        custom = replace(custom, classes=classes)
    for name, shape in shapes.items():
        layer = network.get_submodule(name)
        kind = _layer_kind(network, name)
        if find_twin(layer, custom):
            yield _try(name, kind, partial(compare_layer, layer, shape, images.device, custom))
        else:
            yield Row(name, kind, None)
    reference_loss = make_losses(config.train, reference=True, custom=custom).loss
    torch_loss = make_losses(config.train).loss
    logits = torch.randn(len(images), num_classes, dtype=torch.float64, device=images.device)
    labels = torch.randint(num_classes, (len(images),), device=images.device)
    yield _try(
        "loss",
        config.train.loss,
        lambda: compare(
            lambda x: reference_loss(x, labels), lambda x: torch_loss(x, labels), logits
        ),
    )
    try:
        differences, rounding = compare_network(network, images, custom)
    except CustomCodeError as error:
        yield Row("network", config.model.name, None, problems=(str(error),))
        return
    allowed = asdict(TOLERANCE)
    for name, value in asdict(rounding).items():
        allowed[name] = max(allowed[name], TIMES_ROUNDING * value)
    yield Row("network", config.model.name, differences, Differences(**allowed))


def _compare_custom(custom: CustomModule) -> Iterator[Row]:
    """Yield the rows of the user's classes, on small inputs that show mistakes."""
    for kind in custom.classes:
        tolerance = OPTIMIZER_TOLERANCE if kind in OPTIMIZERS else TOLERANCE
        *rows, last = (
            _try(kind, title, check, tolerance) for title, check in list_checks(custom, kind)
        )
        yield from rows
        problems = tuple(explain(custom, kind)) or last.problems
        yield replace(last, problems=problems)


def _try(
    name: str,
    kind: str,
    check: Callable[[], Differences | WeightDifference],
    tolerance: Differences | WeightDifference = TOLERANCE,
) -> Row:
    """Return the row of a comparison, which fails if a class of the user fails."""
    try:
        return Row(name, kind, check(), tolerance)
    except CustomCodeError as error:
        return Row(name, kind, None, problems=(str(error),))


def _print_rows(rows: Iterable[Row], kinds: Sequence[tuple[str, str]]) -> list[Row]:
    """Print each row as soon as it is computed, then the tolerances; return the rows.

    `kinds` has the name and kind of each row, from which the widths of the columns follow.
    """
    names, kind_names = zip(*kinds, strict=True)
    widest = max((*names, NETWORK_TOLERANCE), key=len), max(kind_names, key=len), *HEADER[2:]

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


def _print_notes(rows: Sequence[Row], failed: Sequence[Row], custom: CustomModule | None) -> None:
    whose = "reference implementation"
    if custom is not None:
        whose = f"classes in {custom.path.name} and of the {whose}"
    print(
        f"\nThe largest differences of the {whose}: from torch's outputs, from "
        "the gradients of autograd,\nand from numerical derivatives, each as a share of the "
        "largest number there is."
    )
    torch_only = {row.kind for row in rows if row.differences is None and not row.problems}
    if torch_only:
        kinds = ", ".join(sorted(torch_only))
        print(f"Without a reference implementation, torch's in both: {kinds}.")
    for text, rows_of_kind in (
        ("Beyond the tolerance", [row for row in failed if row.beyond]),
        ("Not computed", [row for row in failed if row.differences is None]),
    ):
        if rows_of_kind:
            print(f"{text}: {', '.join(dict.fromkeys(row.name for row in rows_of_kind))}.")
    if custom is not None:
        _print_problems(rows, custom)


def _print_problems(rows: Sequence[Row], custom: CustomModule) -> None:
    """Print what looks wrong in each class of the user, or else what fails in the network."""
    last = {row.name: row for row in rows if row.name in custom.classes}
    wrong = [row for row in last.values() if row.problems]
    wrong = wrong or [row for row in rows if row.problems]
    if wrong:
        print(f"\nWhat looks wrong in {custom.path.name}:")
    for problem in dict.fromkeys(problem for row in wrong for problem in row.problems):
        print(f"- {problem}")


def _format_row(row: Row) -> tuple[str, ...]:
    found = asdict(row.differences) if row.differences else {}
    values = (f"{found[name]:.1e}" if name in found else "" for name in HEADER[2:5])
    mark = "BEYOND" if row.beyond else "WRONG"
    return row.name, row.kind, *values, mark if row.is_wrong else ""
