"""What pictures of a run's epochs share: the lines, the best epoch, the scale of an axis."""

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

Rows = Sequence[Mapping[str, float]]  # of metrics.csv, one for each epoch from 1 on
Lines = Mapping[str, Sequence[float]]  # the values of each part over the epochs

_MIN_LATER_EPOCHS = 4  # epochs that may do without the first


def take_valid_rows(rows: Iterable[Mapping[str, float]]) -> Rows:
    """The rows up to the first that has not the figures of an epoch: they may come from anyone's metrics.csv."""
    return list(takewhile(_is_valid, rows))


def _is_valid(row: Mapping[str, float]) -> bool:
    parts = ("train", evaluated_part([row]))
    losses, accuracies = (
        [row.get(f"{part}_{name}", math.nan) for part in parts] for name in ("loss", "accuracy")
    )
    return all(abs(loss) < 1e300 for loss in losses) and all(
        0 <= accuracy <= 1 for accuracy in accuracies
    )


def evaluated_part(rows: Rows) -> str:
    """The part that was measured after each epoch: validation or, where nothing is held out, test."""
    return "validation" if "validation_accuracy" in rows[0] else "test"


def metric_lines(rows: Rows, quantity: str) -> Lines:
    """The loss or the accuracy: first that of train, then that of what is held out."""
    return {
        part: [row[f"{part}_{quantity}"] for row in rows]
        for part in ("train", evaluated_part(rows))
    }


def find_best_row(rows: Rows) -> Mapping[str, float] | None:
    """The row that training chooses, the first with the best accuracy on validation; None where nothing is chosen."""
    return (
        max(rows, key=lambda row: row["validation_accuracy"])
        if evaluated_part(rows) == "validation"
        else None
    )


@dataclass(frozen=True)
class Scale:
    """An axis that shows the values from `low` to `high`, linear or logarithmic."""

    low: float
    high: float
    log: bool

    def position(self, value: float) -> float:
        """Where a value is: 0 at `low`, 1 at `high`, and below 0 or above 1 if it is not shown."""
        low, high, on_axis = map(self._on_axis, (self.low, self.high, value))
        return (on_axis - low) / (high - low)

    def at(self, position: float) -> float:
        """The value that is there."""
        low, high = self._on_axis(self.low), self._on_axis(self.high)
        on_axis = low + position * (high - low)
        # as far as a float reaches
        return math.exp(max(-700.0, min(on_axis, 700.0))) if self.log else on_axis

    def _on_axis(self, value: float) -> float:
        if not self.log:
            return value
        return math.log(value) if value > 0 else -math.inf


def choose_scale(lines: Lines, may_be_log: bool = True) -> Scale:
    """The scale for the values of some lines, of all epochs or of all but the first.

    A first epoch far from all that follow, as of a network whose loss begins in the thousands, is not shown if it
    would leave the others less than a quarter of the axis. Whoever draws must say so.
    """
    scale = _fit_scale([value for line in lines.values() for value in line], may_be_log)
    later = [value for line in lines.values() for value in line[1:]]
    if len(later) >= _MIN_LATER_EPOCHS * len(lines):
        share = scale.position(max(later)) - scale.position(min(later))
        if 0 < share < 0.25:
            return _fit_scale(later, may_be_log)
    return scale


def _fit_scale(values: Sequence[float], may_be_log: bool) -> Scale:
    """From the least to the greatest. It is logarithmic if on a linear axis a quarter would lie in the lowest tenth.

    A few that are small are no reason: a cosine ends near 0, and looks like a cosine on a linear axis alone.
    """
    ascending = sorted(values)
    low, high = ascending[0], ascending[-1]
    if low == high:
        return Scale(low - (0.5 * abs(low) or 0.5), high + (0.5 * abs(high) or 0.5), log=False)
    quartile = ascending[math.ceil(len(ascending) / 4)]
    return Scale(low, high, log=may_be_log and low > 0 and high > 10 * quartile)
