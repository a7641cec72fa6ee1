"""Records of runs with made-up figures, as `read_records` returns them, without files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.runs.records import Record

__all__ = ["FakeEpochs", "make_record", "make_records"]

GROUPS = ("model", "optimizer", "data")


@dataclass(frozen=True)
class FakeEpochs:
    """The epochs of a run: `earlier` accuracies before the last, `test_losses` of all epochs.

    Without `train_accuracy` the accuracies on train and test set are the same.
    """

    earlier: Sequence[float] = ()
    test_losses: Sequence[float] = ()
    train_accuracy: float | None = None
    epoch_s: float = 2.0

    def rows(self, accuracy: float) -> list[dict[str, float]]:
        rows = []
        for epoch, reached in enumerate((*self.earlier, accuracy), start=1):
            row = {"epoch": epoch, "test_accuracy": reached, "train_accuracy": reached}
            if self.train_accuracy is not None:
                row["train_accuracy"] = self.train_accuracy
            rows.append(row | {"epoch_s": self.epoch_s, "peak_gib": 1.5})
        for row, loss in zip(rows, self.test_losses, strict=False):
            row["test_loss"] = loss
        return rows


def make_record(
    experiment: str,
    values: dict[str, str],
    seed: int = 0,
    accuracy: float = 0.8,
    state: str = "finished",
    epochs: FakeEpochs | None = None,
    **files: dict[str, Any],
) -> Record:
    """Return a record of a run.

    `values` has overrides by key. `files` has values to add to what the files result,
    environment and status of the run hold.
    """
    overrides = [f"experiment={experiment}"]
    overrides += [f"{key}={value}" for key, value in values.items()]
    overrides.append(f"seed={seed}")
    rows = (epochs or FakeEpochs()).rows(accuracy)
    figures = {"test_accuracy": accuracy, "device": "cpu", "wall_s": {"total": 10.0}}
    machine = {"device": "cpu", "chip": "a chip", "precision": "fp32", "torch": "2.9"}
    is_finished = state == "finished"
    return Record(
        Path("sweep") / "_".join(overrides).replace("/", "_"),
        state,
        overrides,
        {} if state == "not begun" else make_config(values, seed),
        {"state": state} | files.get("status", {}),
        figures | files.get("result", {}) if is_finished else {},
        rows if is_finished else [],
        machine | files.get("environment", {}),
    )


def make_config(values: dict[str, str], seed: int) -> dict[str, Any]:
    config: dict[str, Any] = {"seed": seed}
    for key, value in values.items():
        *groups, last = f"{key}.name".split(".") if key in GROUPS else key.split(".")
        node = config
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = float(value) if last == "lr" else value
    return config


def make_records(
    experiment: str, values: dict[str, str], accuracies: Sequence[float], **others: Any
) -> list[Record]:
    """Return a record for each accuracy, with seeds from 0."""
    return [
        make_record(experiment, values, seed, accuracy, **others)
        for seed, accuracy in enumerate(accuracies)
    ]
