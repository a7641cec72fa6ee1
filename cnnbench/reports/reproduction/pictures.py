"""Learning curves as SVG that stands in a page: in its colours, light or dark, and with nothing that runs."""

import io
import re
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from cnnbench.reports.reproduction.results import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["learning_curves"]

INK = "#123456"  # stands for the colour of the page's text
# seen on white and on black
COLOURS = ("#2f86d1", "#e0701c", "#17976a", "#c0559e", "#9c8410", "#d1495b", "#7a6ff0", "#1797a8", "#8a7968", "#6b8e23")
MARKERS = "os^DvPX*<>"


def learning_curves(curves: Sequence[Curve]) -> str:
    """The mean test accuracy of each after each epoch, and the range over seeds, as an svg element."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    drawn = io.StringIO()
    settings: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": "cnnbench", "font.size": 10}
    settings |= dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with rc_context(cast("Any", settings)):
        figure = Figure(figsize=(7.2, max(3.2, 0.3 + 0.21 * len(curves))), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        for number, curve in enumerate(curves):
            _plot(axes, curve, number)
        axes.set(xlabel="epoch", ylabel="test accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25, color=INK)
        axes.patch.set_visible(False)
        legend = figure.legend(loc="outside right upper", frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'(<svg [^>]*?)width="[^"]*pt" height="[^"]*pt"', r"\1", svg, count=1, flags=re.DOTALL)


def _plot(axes: "Axes", curve: Curve, number: int) -> None:
    """Each epoch that all runs have come to."""
    epochs = range(1, 1 + min(map(len, curve.runs)))
    columns = [[run[epoch - 1] for run in curve.runs] for epoch in epochs]
    colour = COLOURS[number % len(COLOURS)]
    means = [statistics.fmean(column) for column in columns]
    every = max(1, len(means) // 10)
    marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]  # with each colour another one in each round
    label = curve.label.lstrip("_") or "(no name)"  # Matplotlib leaves out names that begin so
    axes.plot(epochs, means, color=colour, label=label, marker=marker, markersize=4, markevery=every, linewidth=1.6)
    if len(curve.runs) > 1:
        axes.fill_between(
            epochs, list(map(min, columns)), list(map(max, columns)), color=colour, alpha=0.18, linewidth=0
        )
