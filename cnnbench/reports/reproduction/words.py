"""Figures in sentences and tables, with the deviation over seeds where there are several."""

import statistics
from collections.abc import Sequence

from cnnbench.analysis.format import format_bytes, three_digits
from cnnbench.analysis.verdicts import Figure
from cnnbench.reports.reproduction.arms import Arm

__all__ = ["NONE", "accuracy", "loss", "memory", "points", "seconds", "times"]

NONE = "not measured"


def accuracy(values: Sequence[float]) -> str:
    """Such as ``0.8812 ± 0.0031``."""
    if not values:
        return NONE
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"


def seconds(values: Sequence[float]) -> str:
    """Such as ``1.23 s``, the mean over runs."""
    return f"{three_digits(statistics.fmean(values))} s" if values else NONE


def memory(arm: Arm) -> str:
    """What was worked out and, of runs on a GPU, the most that was measured."""
    if arm.memory_bytes is None:
        return NONE
    measured = f" (measured at most {max(arm.peaks_gib):.2f} GiB)" if arm.peaks_gib else ""
    return format_bytes(arm.memory_bytes) + measured


def points(figure: Figure | None, signed: bool = False) -> str:
    """A difference of accuracies in points, with its margin."""
    if figure is None:
        return NONE
    margin = "" if figure.margin is None else f" ± {100 * figure.margin:.1f}"
    value = round(100 * figure.value, 1) + 0.0  # which makes 0.0 of -0.0
    return f"{value:{'+' if signed else ''}.1f}{margin} points"


def loss(figure: Figure | None, signed: bool = False) -> str:
    """A difference of losses, with its margin."""
    if figure is None:
        return NONE
    margin = "" if figure.margin is None else f" ± {figure.margin:.3f}"
    return f"{figure.value:{'+' if signed else ''}.3f}{margin}"


def times(figure: Figure | None) -> str:
    """A ratio, with its margin."""
    if figure is None:
        return NONE
    margin = f" ± {figure.margin:.2f}" if figure.margin else ""
    return f"{figure.value:.2f}{margin} times"
