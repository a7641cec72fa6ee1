"""`cnnbench lr-find`: a picture of the loss at rising learning rates, and a suggestion."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

from cnnbench.analysis.format import align, format_count
from cnnbench.config import Config, MuonConfig, to_yaml
from cnnbench.reports.figures import GRAY, draw_figure
from cnnbench.runs.directory import RunDirectory
from cnnbench.runs.stopwatch import Stopwatch
from cnnbench.training.device import cleaned_up
from cnnbench.training.freeze import freeze
from cnnbench.training.preflight import Preflight
from cnnbench.training.rate_sweep import (
    MIN_FALL,
    Suggestion,
    find_guessing_loss,
    smoothing_window,
    suggest,
    sweep_rates,
)
from cnnbench.training.run import build_state
from cnnbench.training.state import Row

__all__ = ["run"]

MAX_TABLE_ROWS = 12
COLORS = {"smoothed": "#0072b2", "rates": "#d55e00"}


@cleaned_up()
def run(
    config: Config,
    run: RunDirectory,
    checked: Preflight,
    min_rate: float,
    max_rate: float,
    steps: int,
) -> None:
    """Train `steps` steps at rates that grow from `min_rate` to `max_rate`; suggest a rate.

    Write lr_find.csv and lr_find.png into the directory. No weights are written.

    Raises:
        CnnbenchError: the data cannot be loaded, or the network cannot be compiled.
    """
    run.write_text("config.yaml", to_yaml(config))
    state = build_state(config, None, checked, Stopwatch(time.perf_counter()))
    engine, train, batch_size = state.engine, state.data.train, state.batch_size
    device = engine.device
    print(run.path)
    print(
        f"{format_count(steps, 'step')} of {format_count(batch_size, 'example')} on "
        f"{device.torch_device.type} ({device.describe()}), {device.precision}; "
        f"scheduler={config.scheduler.name} is not applied",
        flush=True,
    )
    if state.frozen:
        freeze(engine, state.frozen)
    engine.prepare(train, batch_size)
    ratio = (max_rate / min_rate) ** (1 / (steps - 1))
    rates = [min_rate * ratio**step for step in range(steps)]
    rows = sweep_rates(engine, train, batch_size, rates, config)
    guessing_loss = find_guessing_loss(engine, train.labels, len(state.dataset.classes))
    suggestion = suggest(rows, steps, guessing_loss)
    run.write_rows("lr_find.csv", rows)
    title = f"{config.model.name} on {state.dataset.title}, optimizer={config.optimizer.name}"
    _draw(run.path / "lr_find.png", title, rows, steps, suggestion)
    print(_format_table(rows))
    if len(rows) < steps:
        print(f"Ended at a rate of {rows[-1]['lr']:.2g}, where the loss explodes.")
    if suggestion is None:
        print(
            f"No suggestion: the smoothed loss did not fall {100 * MIN_FALL:.0f} % below its "
            f"beginning and below {guessing_loss:.4f}, the loss of guessing without the image.\n"
            f"Try more steps (--steps {4 * steps}) or other rates (--from, --to)."
        )
        return
    print(
        f"The smoothed loss is lowest at {suggestion.lowest_at:.2g} and falls fastest at "
        f"{suggestion.steepest_at:.2g}."
    )
    if suggestion.lowest_at == rates[-1]:
        print("It still falls at the last rate: try a higher one (--to).")
    print("Suggested, a tenth of the rate of the lowest loss:")
    print(_format_overrides(config, suggestion.rate))


def _format_table(rows: Sequence[Row]) -> str:
    """Return a table of at most MAX_TABLE_ROWS rows, from the first to the last."""
    shown = min(len(rows), MAX_TABLE_ROWS)
    places = [round(place * (len(rows) - 1) / max(1, shown - 1)) for place in range(shown)]
    cells = [("step", "lr", "loss", "smoothed")]
    for row in (rows[place] for place in places):
        loss, smoothed = f"{row['loss']:.4f}", f"{row['smoothed_loss']:.4f}"
        cells.append((f"{row['step']:,}", f"{row['lr']:.2g}", loss, smoothed))
    return align(cells, right=range(4))


def _format_overrides(config: Config, rate: float) -> str:
    """Return the overrides for a rate. Muon's second rate keeps its ratio to the first."""
    optimizer = config.optimizer
    if not isinstance(optimizer, MuonConfig):
        return f"optimizer.lr={rate:g}"
    fallback_lr = optimizer.fallback_lr * rate / optimizer.lr
    return f"optimizer.lr={rate:g} optimizer.fallback_lr={fallback_lr:.2g}"


def _draw(
    path: Path, title: str, rows: Sequence[Row], steps: int, suggestion: Suggestion | None
) -> None:
    """Draw the losses over the rates, and mark the suggestion.

    Raises:
        OSError: the file cannot be written.
    """
    rates, losses, smoothed = (
        [row[key] for row in rows] for key in ("lr", "loss", "smoothed_loss")
    )
    note = "" if suggestion else "No suggestion: the loss did not fall."
    with draw_figure(path, title, (8, 4.5), note) as figure:
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="training loss")
        axes.xaxis.set_major_formatter("{x:g}")  # the default labels are formulas
        axes.plot(rates, losses, color=GRAY, linewidth=0.8, alpha=0.6, label="loss of a step")
        axes.plot(rates, smoothed, color=COLORS["smoothed"], label="smoothed loss")
        if suggestion is not None:
            marks = {
                "suggested": (suggestion.rate, "-"),
                "falls fastest": (suggestion.steepest_at, "-."),
                "lowest": (suggestion.lowest_at, ":"),
            }
            for name, (rate, style) in marks.items():
                label = f"{name}: {rate:.2g}"
                axes.axvline(rate, color=COLORS["rates"], linestyle=style, label=label)
        # A loss that explodes is cut off.
        top = max(filter(math.isfinite, losses[: smoothing_window(steps)]), default=1.0)
        bottom = min(filter(math.isfinite, smoothed), default=0.0)
        margin = 0.1 * (top - bottom)
        axes.set_ylim(bottom - margin, top + 2 * margin)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
