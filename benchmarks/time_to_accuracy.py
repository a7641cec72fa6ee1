"""Seconds to an accuracy: train an experiment with several seeds, each in a process of its own.

    python benchmarks/time_to_accuracy.py EXPERIMENT [--seeds 5] [--goal 0.94] [OVERRIDE...]

Trains on all training examples and measures the test set each epoch; nothing is chosen on it, so the accuracy is that
after the last epoch. Three times are printed: `epochs`, the sum of epoch_s in metrics.csv, training and evaluation;
`preparation`, warm-up, capture and compilation, which come before; and `whole`, from the start of the process to its
end, with imports and data. The goal is for the mean over the seeds.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """The figures of one seed; `label` says if its accuracy is that of more than one pass over the test set."""

    accuracy: float
    epochs_s: float
    preparation_s: float
    whole_s: float
    label: str
    machine: str


def train(experiment: str, seed: int, overrides: list[str], folder: Path) -> Run:
    # Overrides come before what the benchmark is about, which they cannot change.
    settings = [*overrides, f"seed={seed}", "data.validation=0", f"hydra.run.dir={folder}"]
    command = [sys.executable, "-m", "cnnbench", f"experiment={experiment}", *settings]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"seed {seed} ended with exit code {done.returncode}")
    return read(folder, time.perf_counter() - began)


def read(folder: Path, whole_s: float) -> Run:
    result, environment = (
        json.loads((folder / name).read_text()) for name in ("result.json", "environment.json")
    )
    with (folder / "metrics.csv").open() as file:
        epochs_s = sum(float(row["epoch_s"]) for row in csv.DictReader(file))
    return Run(
        accuracy=result["test_accuracy"],
        epochs_s=epochs_s,
        preparation_s=result["wall_s"]["preparation"],
        whole_s=whole_s,
        label=" with TTA hflip" if result["tta"] == "hflip" else "",
        machine="{device} ({chip}), {precision}, {engine}, compile={compile}, torch {torch}".format(
            **environment
        ),
    )


def line(run: Run) -> str:
    times = f"epochs {run.epochs_s:.2f} s, preparation {run.preparation_s:.2f} s, whole {run.whole_s:.2f} s"
    return f"{run.accuracy:.4f}{run.label}, {times}"


def mean_and_sd(values: list[float], digits: int) -> str:
    sd = f" +- {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{sd}"


def summary(runs: list[Run], goal: float | None) -> str:
    accuracies = [run.accuracy for run in runs]
    times = {"epochs": [run.epochs_s for run in runs], "whole": [run.whole_s for run in runs]}
    spent = ", ".join(f"{name} {mean_and_sd(seconds, 2)} s" for name, seconds in times.items())
    lines = [f"mean of {len(runs)}: {mean_and_sd(accuracies, 4)}{runs[0].label}, {spent}"]
    if goal is not None:
        reached = "reached" if statistics.mean(accuracies) >= goal else "not reached"
        lines.append(f"goal {goal:g}: {reached}")
    return "\n".join([*lines, runs[0].machine])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--goal", type=float)
    parser.add_argument("overrides", nargs="*")
    parsed = parser.parse_intermixed_args()
    if parsed.seeds < 1:
        parser.error(f"--seeds {parsed.seeds} must be at least 1")
    if parsed.goal is not None and not 0 < parsed.goal < 1:
        parser.error(f"--goal {parsed.goal} must be between 0 and 1, such as 0.94")
    runs = []
    with tempfile.TemporaryDirectory() as name:
        for seed in range(parsed.seeds):
            runs.append(
                train(parsed.experiment, seed, parsed.overrides, Path(name) / f"seed{seed}")
            )
            print(f"seed {seed}: {line(runs[-1])}", flush=True)
    print(summary(runs, parsed.goal))


if __name__ == "__main__":
    main()
