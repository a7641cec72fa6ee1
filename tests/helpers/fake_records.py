"""Runs of an experiment as `read_records` would give them, with figures that are made up, and no files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnbench.runs.records import Record

__all__ = ["make_records", "make_record"]

GROUPS = ("model", "optimizer", "data")


def make_record(
    experiment: str,
    values: dict[str, str],
    seed: int = 0,
    accuracy: float = 0.8,
    train_accuracy: float | None = None,
    earlier: Sequence[float] = (),
    test_losses: Sequence[float] = (),
    epoch_s: float = 2.0,
    state: str = "finished",
    environment: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
    **status: Any,
) -> Record:
    """`values` are overrides by key, `earlier` the accuracies of the epochs before the last, `test_losses` of all."""
    overrides = [
        f"experiment={experiment}",
        *(f"{key}={value}" for key, value in values.items()),
        f"seed={seed}",
    ]
    rows = [
        {
            "epoch": epoch,
            "test_accuracy": reached,
            "train_accuracy": reached if train_accuracy is None else train_accuracy,
            "epoch_s": epoch_s,
            "peak_gib": 1.5,
        }
        for epoch, reached in enumerate((*earlier, accuracy), start=1)
    ]
    for row, loss in zip(rows, test_losses, strict=False):
        row["test_loss"] = loss
    figures = {"test_accuracy": accuracy, "device": "cpu", "wall_s": {"total": 10.0}}
    return Record(
        Path("sweep") / "_".join(overrides).replace("/", "_"),
        state,
        overrides,
        {} if state == "not begun" else configuration(values, seed),
        {"state": state, **status},
        {**figures, **(result or {})} if state == "finished" else {},
        rows if state == "finished" else [],
        {
            "device": "cpu",
            "chip": "a chip",
            "precision": "fp32",
            "torch": "2.9",
            **(environment or {}),
        },
    )


def configuration(values: dict[str, str], seed: int) -> dict[str, Any]:
    nested: dict[str, Any] = {"seed": seed}
    for key, value in values.items():
        *groups, last = f"{key}.name".split(".") if key in GROUPS else key.split(".")
        node = nested
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = float(value) if last == "lr" else value
    return nested


def make_records(
    experiment: str, values: dict[str, str], accuracies: Sequence[float], **others: Any
) -> list[Record]:
    """A run for each accuracy, each with a seed of its own."""
    return [
        make_record(experiment, values, seed, accuracy, **others)
        for seed, accuracy in enumerate(accuracies)
    ]
