"""Accuracy and loss over the epochs as text, for the end of a run on a terminal."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

from cnnbench.analysis.epochs import (
    Lines,
    Rows,
    Scale,
    choose_scale,
    find_best_row,
    metric_lines,
    take_valid_rows,
)
from cnnbench.analysis.format import printable
from cnnbench.errors import ConfigError
from cnnbench.runs.reading import look_up, read_config
from cnnbench.runs.records import read_rows

__all__ = ["plot", "plot_run"]

HEIGHT = 10  # lines of a chart, without its heading and the epochs below it
MIN_WIDTH, MAX_WIDTH = 28, 60  # columns of a chart, with its labels
GAP = 3  # columns between charts that are side by side

Dots = set[tuple[int, int]]  # coordinates from the left and from the top


def _braille(train: Dots, other: Dots, column: int, line: int) -> str:
    """Return a character with eight dots.

    The train curve is solid. The other curve is dashed: every second column leaves it out.
    """
    dots = train if column % 2 else train | other
    bits = ((1, 8), (2, 16), (4, 32), (64, 128))
    corner_x, corner_y = 2 * column, 4 * line
    places = product(range(2), range(4))
    shown = sum(bits[y][x] for x, y in places if (corner_x + x, corner_y + y) in dots)
    return chr(0x2800 + shown) if shown else " "


def _letter(train: Dots, other: Dots, column: int, line: int) -> str:
    return " .o8"[((column, line) in train) + 2 * ((column, line) in other)]


@dataclass(frozen=True)
class _Pen:
    """The characters of a chart. Each shows `across` x `down` dots of two curves."""

    across: int
    down: int
    character: Callable[[Dots, Dots, int, int], str]
    # left of a line with a label, left of a line without one, corner, axis, mark of the best epoch
    frame: tuple[str, ...]
    # the legend's samples: train, the other curve and, where characters can show it, both
    curves: tuple[str, ...]


_BRAILLE = _Pen(2, 4, _braille, tuple("┤│└─▲"), ("⠒⠒⠒", "⠒ ⠒"))
_ASCII = _Pen(1, 1, _letter, tuple("+|+-^"), (".", "o", "8"))


def plot(rows: Rows, columns: int, unicode: bool, select_by: str = "accuracy") -> str:
    """Return charts of accuracy and loss, side by side if `columns` are enough for both.

    They are drawn in braille or, without `unicode`, in ASCII. Either shows without color which
    curve is which.
    """
    pen = _BRAILLE if unicode and len(rows) > 1 else _ASCII  # a single dot shows no dashes
    is_side_by_side = columns >= 2 * MIN_WIDTH + GAP
    available = (columns - GAP) // 2 if is_side_by_side else columns
    width = max(MIN_WIDTH, min(available, MAX_WIDTH))
    accuracy, loss = (
        _chart(rows, quantity, width, pen, select_by) for quantity in ("accuracy", "loss")
    )
    pairs = [left.ljust(width + GAP) + right for left, right in zip(accuracy, loss, strict=True)]
    parts = (*metric_lines(rows, "loss"), "both")
    entries = [f"{curve} {part}" for curve, part in zip(pen.curves, parts, strict=False)]
    best = find_best_row(rows, select_by)
    if best is not None:
        value = best["validation_accuracy"]
        epoch = rows.index(best) + 1
        entries.append(f"{pen.frame[-1]} best: epoch {epoch}, validation accuracy {value:.4f}")
    legend = "   ".join(entries)
    lines = pairs if is_side_by_side else [*accuracy, *loss]
    lines += [legend] if len(legend) <= columns else entries
    return "\n".join(line.rstrip() for line in lines)


def _chart(rows: Rows, quantity: str, width: int, pen: _Pen, select_by: str) -> list[str]:
    """Return the lines of a chart: a heading, the curves, the epochs. All have at most `width`."""
    curves = metric_lines(rows, quantity)
    scale = choose_scale(curves, may_be_log=quantity == "loss")
    form = ".4f" if quantity == "accuracy" else ".4g"
    high, low = format(scale.high, form), format(scale.low, form)
    margin = max(len(high), len(low))
    columns = width - margin - 1
    dots = (columns * pen.across, HEIGHT * pen.down)
    train, other = (_trace(values, scale, *dots) for values in curves.values())
    labeled, plain, corner, below, mark = pen.frame
    edges = [" " * margin + plain] * HEIGHT
    edges[0], edges[-1] = high.rjust(margin) + labeled, low.rjust(margin) + labeled
    drawn = []
    for line, edge in enumerate(edges):
        characters = [pen.character(train, other, column, line) for column in range(columns)]
        drawn.append(edge + "".join(characters))
    axis = [below] * columns
    best = find_best_row(rows, select_by)
    if best is not None:
        x = _x_of_epoch(rows.index(best), len(rows), columns * pen.across)
        axis[x // pen.across] = mark
    last = str(len(rows)) if len(rows) > 1 else ""
    epochs = "1" + "epoch".center(columns - 1 - len(last)) + last
    indent = " " * (margin + 1)
    heading = indent + _heading(quantity, curves, scale)
    return [heading, *drawn, " " * margin + corner + "".join(axis), indent + epochs]


def _heading(quantity: str, curves: Lines, scale: Scale) -> str:
    first = [scale.position(values[0]) for values in curves.values()]
    notes = ["log scale"] if scale.log else []
    notes += ["epoch 1 above"] if max(first) > 1 else []
    notes += ["epoch 1 below"] if min(first) < 0 else []
    return f"{quantity} ({', '.join(notes)})" if notes else quantity


def _x_of_epoch(index: int, num_epochs: int, dots: int) -> int:
    """Return the distance of an epoch from the left, in dots."""
    return round(index * (dots - 1) / max(1, num_epochs - 1))


def _trace(values: Sequence[float], scale: Scale, across: int, down: int) -> Dots:
    """Return the dots of a curve through the values that the scale shows."""
    places = []
    for index, position in enumerate(map(scale.position, values)):
        if 0 <= position <= 1:
            y = round((1 - position) * (down - 1))
            places.append((_x_of_epoch(index, len(values), across), y))
    dots = set(places)
    for (x, y), (next_x, next_y) in pairwise(places):
        right, below = next_x - x, next_y - y
        steps = max(right, abs(below), 1)
        dots |= {(x + round(k * right / steps), y + round(k * below / steps)) for k in range(steps)}
    return dots


def plot_run(run: Path, named: bool) -> None:
    """Plot the epochs of a run on the terminal, if it has any.

    If `named` is true, the name of its directory is the heading.
    """
    rows = take_valid_rows(read_rows(run))
    if not rows:
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        unicode = bool("┤⠿▲".encode(encoding))
    except UnicodeEncodeError:
        unicode = False
    heading = f"{printable(run.name)}\n" if named else ""
    heading = heading.encode(encoding, "replace").decode(encoding)
    try:
        select_by = look_up(read_config(run), "train", "select_by") or "accuracy"
    except (OSError, ConfigError):
        select_by = "accuracy"
    columns = shutil.get_terminal_size().columns
    # one call of print, since parallel jobs print as well
    print(f"\n{heading}{plot(rows, columns, unicode, select_by)}", flush=True)
