"""Train briefly at rising learning rates, and suggest a rate.

Smith, Cyclical learning rates for training neural networks, 2017, section 3.3. As in fastai, the
rate grows geometrically from step to step, and the sweep ends when the smoothed loss exceeds four
times its lowest value.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from cnnbench.config import Config
from cnnbench.data.device_data import Examples, epoch_order
from cnnbench.training.engine import EagerEngine
from cnnbench.training.optimizers import set_lr
from cnnbench.training.state import Row

__all__ = [
    "MIN_FALL",
    "Suggestion",
    "find_guessing_loss",
    "smoothing_window",
    "suggest",
    "sweep_rates",
]

STOP_FACTOR = 4.0  # ends the sweep: the smoothed loss over its lowest value so far
WINDOW_SHARE = 0.05  # of the steps: the losses that count in the smoothed loss
MIN_FALL = 0.01  # share by which the loss must fall, or nothing was learned
SAFETY_FACTOR = 10.0  # the rate of the lowest loss over the suggested rate
MAX_GUESSED = 10_000  # examples whose labels are guessed


@dataclass(frozen=True)
class Suggestion:
    """The rate where the smoothed loss is lowest, and the rate where it falls fastest."""

    lowest_at: float
    steepest_at: float

    @property
    def rate(self) -> float:
        """The rate to train with: a tenth of the rate of the lowest loss, in two digits."""
        return float(f"{self.lowest_at / SAFETY_FACTOR:.2g}")


def sweep_rates(
    engine: EagerEngine, train: Examples, batch_size: int, rates: Sequence[float], config: Config
) -> list[Row]:
    """Train one step at each rate, then restore the state of the engine; return a row for each.

    A row has the step, the rate, the loss of its batch before the update, and the smoothed loss.
    The last row is the first whose smoothed loss is too high or not finite, if there is one.
    Batches are full ones, in the order of training. `batch_size` is at most len(train).
    """
    decay = 1 - 1 / smoothing_window(len(rates))
    rows: list[Row] = []
    average, lowest = 0.0, math.inf
    with engine.preserve_state(), tqdm(total=len(rates), disable=None, leave=False) as bar:
        engine.train_metrics.reset()
        for rate in _train_at(rates, engine, train, batch_size, config):
            loss = engine.train_metrics.compute().loss
            engine.train_metrics.reset()
            bar.update()
            step = len(rows) + 1
            average = decay * average + (1 - decay) * loss
            smoothed = average / (1 - decay**step)  # the average of the losses so far
            rows.append({"step": step, "lr": rate, "loss": loss, "smoothed_loss": smoothed})
            lowest = min(lowest, smoothed)
            if not smoothed <= STOP_FACTOR * lowest:  # also if it is NaN
                break
    set_lr(engine.optimizers, 1.0)
    return rows


def _train_at(
    rates: Sequence[float], engine: EagerEngine, train: Examples, batch_size: int, config: Config
) -> Iterator[float]:
    """Train one step at each rate, epoch after epoch; yield the rate after its step."""
    steps_per_epoch = len(train) // batch_size
    for first in range(0, len(rates), steps_per_epoch):
        part = rates[first : first + steps_per_epoch]
        order = epoch_order(len(train), config.seed, 1 + first // steps_per_epoch)
        lr_factors = [rate / config.optimizer.lr for rate in part]
        steps = engine.steps(train, order[: len(part) * batch_size], batch_size, lr_factors)
        for rate, _ in zip(part, steps, strict=True):
            yield rate


def smoothing_window(steps: int) -> int:
    """Return how many of the last losses count in the smoothed loss of a sweep."""
    return max(2, round(WINDOW_SHARE * steps))


def find_guessing_loss(engine: EagerEngine, labels: torch.Tensor, num_classes: int) -> float:
    """Return the loss of a network that ignores the image and knows the shares of the classes.

    A network may reach it by its last biases alone. `labels` are those of training, int64 (N).
    """
    counts = torch.bincount(labels, minlength=num_classes).to(engine.device.dtype)
    if engine.class_weights is not None:  # as if all classes had equal shares
        counts = torch.ones_like(counts)
    logits = (counts + 1).log()  # the added 1 keeps classes without examples finite
    guessed = labels[:MAX_GUESSED]
    return float(engine.loss(logits.expand(len(guessed), -1), guessed))


def suggest(rows: Sequence[Row], num_rates: int, guessing_loss: float) -> Suggestion | None:
    """Return a suggestion for the rows of a sweep over `num_rates` rates.

    Return None if the smoothed loss does not fall 1 % below `guessing_loss` and below its value
    at the first rates, which are too low to learn.
    """
    window = smoothing_window(num_rates)
    smoothed = [row["smoothed_loss"] for row in rows if math.isfinite(row["smoothed_loss"])]
    if len(smoothed) <= window:
        return None
    lowest = min(range(window, len(smoothed)), key=lambda place: smoothed[place])
    if not smoothed[lowest] < (1 - MIN_FALL) * min(guessing_loss, smoothed[window - 1]):
        return None
    falls = [smoothed[place - window] - smoothed[place] for place in range(window, lowest + 1)]
    middle = falls.index(max(falls)) + window // 2  # of the window of the largest fall
    return Suggestion(rows[lowest]["lr"], rows[middle]["lr"])
