"""The epochs of a run as a plot needs them: the lines, the best epoch, the scale of an axis."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

__all__ = [
    "Lines",
    "Rows",
    "Scale",
    "choose_scale",
    "evaluated_part",
    "find_best_row",
    "metric_lines",
    "take_valid_rows",
]

Rows = Sequence[Mapping[str, float]]  # the rows of metrics.csv, one for each epoch
Lines = Mapping[str, Sequence[float]]  # the values over the epochs, by part of the data

_MIN_LATER_EPOCHS = 4  # with fewer epochs after it, the first epoch is always shown


def take_valid_rows(rows: Iterable[Mapping[str, float]]) -> Rows:
    """Return the rows before the first invalid row.

    The rows may come from an untrusted run directory. A row is invalid if a loss or an accuracy is
    missing or out of range.
    """
    return list(takewhile(_is_valid, rows))


def _is_valid(row: Mapping[str, float]) -> bool:
    for part in ("train", evaluated_part([row])):
        loss = row.get(f"{part}_loss", math.nan)
        accuracy = row.get(f"{part}_accuracy", math.nan)
        if not (abs(loss) < 1e300 and 0 <= accuracy <= 1):
            return False
    return True


def evaluated_part(rows: Rows) -> str:
    """Return the part evaluated after each epoch: "validation", or "test" without validation."""
    return "validation" if "validation_accuracy" in rows[0] else "test"


def metric_lines(rows: Rows, quantity: str) -> Lines:
    """Return the loss or the accuracy over the epochs, of train and of the evaluated part."""
    lines = {}
    for part in ("train", evaluated_part(rows)):
        lines[part] = [row[f"{part}_{quantity}"] for row in rows]
    return lines


def find_best_row(rows: Rows, select_by: str = "accuracy") -> Mapping[str, float] | None:
    """Return the row of the best epoch, or None without a validation set.

    As in training, the best epoch is the first with the highest validation accuracy or, with
    train.select_by=loss, the lowest validation loss.
    """
    if evaluated_part(rows) != "validation":
        return None
    if select_by == "loss":
        return min(rows, key=lambda row: row["validation_loss"])
    return max(rows, key=lambda row: row["validation_accuracy"])


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis with the values from `low` to `high`."""

    low: float
    high: float
    log: bool

    def position(self, value: float) -> float:
        """Return the position of a value: 0 at `low`, 1 at `high`, outside [0, 1] if not shown."""
        low, high = self._to_axis(self.low), self._to_axis(self.high)
        return (self._to_axis(value) - low) / (high - low)

    def at(self, position: float) -> float:
        """Return the value at a position, the inverse of `position`."""
        low, high = self._to_axis(self.low), self._to_axis(self.high)
        on_axis = low + position * (high - low)
        if not self.log:
            return on_axis
        return math.exp(max(-700.0, min(on_axis, 700.0)))  # exp(710) overflows a float

    def _to_axis(self, value: float) -> float:
        if not self.log:
            return value
        return math.log(value) if value > 0 else -math.inf


def choose_scale(lines: Lines, may_be_log: bool = True) -> Scale:
    """Return the scale for the values of all epochs, or of all epochs but the first.

    The first epoch is left out if the later epochs would get less than a quarter of the axis. This
    happens if the loss begins in the thousands. The caller must mark in the plot that a value is
    not shown.
    """
    scale = _fit_scale([value for line in lines.values() for value in line], may_be_log)
    later = [value for line in lines.values() for value in line[1:]]
    if len(later) >= _MIN_LATER_EPOCHS * len(lines):
        share = scale.position(max(later)) - scale.position(min(later))
        if 0 < share < 0.25:
            return _fit_scale(later, may_be_log)
    return scale


def _fit_scale(values: Sequence[float], may_be_log: bool) -> Scale:
    """Return the scale from the smallest to the largest value.

    It is logarithmic if a quarter of the values would lie in the lowest tenth of a linear axis. A
    few small values are not enough: a cosine schedule ends near 0, and only a linear axis shows its
    shape.
    """
    ascending = sorted(values)
    low, high = ascending[0], ascending[-1]
    if low == high:
        return Scale(low - (0.5 * abs(low) or 0.5), high + (0.5 * abs(high) or 0.5), log=False)
    quartile = ascending[math.ceil(len(ascending) / 4)]
    return Scale(low, high, log=may_be_log and low > 0 and high > 10 * quartile)
