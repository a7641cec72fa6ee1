"""The rows of steps.csv: metrics over every N training steps, for train.log_every=N."""

import math
from typing import Any

import torch

from cnnbench.training.metric_sums import MetricSums

__all__ = ["COLUMNS", "StepLog"]

COLUMNS = ("step", "epoch", "lr", "train_loss", "train_accuracy")


class StepLog:
    """Means over each `every` steps, counted from the first step of the run; None for no rows.

    A row is of the steps since the row before it, also where an epoch ends between them. Its epoch
    is a fraction: 1.5 in the middle of the second epoch.
    """

    def __init__(self, every: int | None) -> None:
        self.every = every
        self.rows: list[dict[str, float]] = []
        # The sums of losses, correct and non-finite examples, and the number of examples, at the
        # last row. They are negative if the last row is of an earlier epoch.
        self.at_last_row = torch.zeros(4, dtype=torch.float64)

    def is_due(self, step: int) -> bool:
        return self.every is not None and step % self.every == 0

    def add(self, step: int, epoch: float, lr: float, metrics: MetricSums) -> dict[str, float]:
        """Add and return the row that ends with `step`. Waits for the device."""
        sums = _read(metrics)
        loss, correct, num_nonfinite, examples = (sums - self.at_last_row).tolist()
        self.at_last_row = sums
        counted = examples - num_nonfinite
        values = (step, epoch, lr, loss / counted if counted else math.nan, correct / examples)
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))
        return self.rows[-1]

    def begin_epoch(self, metrics: MetricSums) -> None:
        """Keep the steps since the last row, before the sums of the epoch are reset."""
        if self.every is not None and metrics.examples:
            self.at_last_row = self.at_last_row - _read(metrics)

    def state(self) -> dict[str, Any]:
        """Return the rows and the sums at the last one, for a checkpoint."""
        rows = [[row[column] for column in COLUMNS] for row in self.rows]
        values = torch.tensor(rows, dtype=torch.float64).view(len(rows), len(COLUMNS))
        return {"rows": values, "at_last_row": self.at_last_row}

    def load_state(self, state: Any) -> None:
        """Load a state that `state` returned. It may come from an untrusted file.

        Raises:
            ValueError: the tensors have other shapes.
        """
        rows, at_last_row = state["rows"], state["at_last_row"]
        if rows.ndim != 2 or rows.shape[1] != len(COLUMNS) or at_last_row.shape != (4,):
            raise ValueError("the rows of steps.csv have other columns")
        self.at_last_row = at_last_row.double()
        self.rows = []
        for step, *values in rows.double().tolist():
            self.rows.append(dict(zip(COLUMNS, (round(step), *values), strict=True)))


def _read(metrics: MetricSums) -> torch.Tensor:
    """Return the sums of `metrics` and their number of examples: float64 (4) in host memory."""
    return torch.tensor([*metrics.total().tolist(), metrics.examples], dtype=torch.float64)
