"""Rows of results.csv with made-up figures."""

from collections.abc import Sequence
from typing import Any

from cnnbench.reports.reproduction.stored_runs import StoredRun

__all__ = ["make_run", "make_runs"]


def make_run(
    experiment: str,
    values: dict[str, str],
    seed: int = 0,
    accuracy: float | None = 0.8,
    **columns: Any,
) -> StoredRun:
    """Return a run. `values` has overrides by key. Without an accuracy the run diverged."""
    known: dict[str, Any] = {
        "experiment": experiment,
        "overrides": " ".join(f"{key}={value}" for key, value in values.items()),
        "seed": seed,
        "state": "diverged" if accuracy is None else "finished",
        "accuracy": accuracy,
        "epoch_s": None if accuracy is None else 2.0,
        "seconds": 10.0,
        "steps": 100,
        "recipe_steps": 100,
        "device": "cpu",
        "chip": "a chip",
        "precision": "fp32",
        "torch": "2.9",
    }
    return StoredRun(**(known | columns))


def make_runs(
    experiment: str, values: dict[str, str], reached: Sequence[float], **columns: Any
) -> list[StoredRun]:
    """Return a run for each accuracy in `reached`, with seeds from 0."""
    return [
        make_run(experiment, values, seed, accuracy, **columns)
        for seed, accuracy in enumerate(reached)
    ]
