"""Measure the seconds to an accuracy: train an experiment with several seeds, in new processes.

    python benchmarks/time_to_accuracy.py EXPERIMENT [--seeds 5] [--goal 0.94] [OVERRIDE...]

Trains on all training examples and evaluates on the test set in each epoch. Nothing is chosen on
the test set: the accuracy is that after the last epoch. Prints three times. `epochs` is the sum of
epoch_s in metrics.csv: training and evaluation. `preparation` is the time before: warm-up, capture
and compilation. `whole` is the time of the process, with imports and data. The mean over the seeds
must reach the goal.
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
    """The figures of one seed. `label` says if the accuracy is with test-time augmentation."""

    accuracy: float
    epochs_s: float
    preparation_s: float
    whole_s: float
    label: str
    machine: str


def train(experiment: str, seed: int, overrides: list[str], folder: Path) -> Run:
    # the last value of a key counts, so that overrides cannot change the benchmark's settings
    settings = [*overrides, f"seed={seed}", "data.validation=0", f"hydra.run.dir={folder}"]
    command = [sys.executable, "-m", "cnnbench", f"experiment={experiment}", *settings]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"seed {seed} ended with exit code {done.returncode}")
    return read_run(folder, time.perf_counter() - began)


def read_run(folder: Path, whole_s: float) -> Run:
    result = json.loads((folder / "result.json").read_text())
    environment = json.loads((folder / "environment.json").read_text())
    with (folder / "metrics.csv").open() as file:
        epochs_s = sum(float(row["epoch_s"]) for row in csv.DictReader(file))
    machine = "{device} ({chip}), {precision}, {engine}, compile={compile}, torch {torch}"
    return Run(
        accuracy=result["test_accuracy"],
        epochs_s=epochs_s,
        preparation_s=result["wall_s"]["preparation"],
        whole_s=whole_s,
        label=" with TTA hflip" if result["tta"] == "hflip" else "",
        machine=machine.format(**environment),
    )


def format_run(run: Run) -> str:
    times = f"epochs {run.epochs_s:.2f} s, preparation {run.preparation_s:.2f} s"
    return f"{run.accuracy:.4f}{run.label}, {times}, whole {run.whole_s:.2f} s"


def mean_and_std(values: list[float], digits: int) -> str:
    std = f" +- {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{std}"


def summarize(runs: list[Run], goal: float | None) -> str:
    accuracies = [run.accuracy for run in runs]
    times = {"epochs": [run.epochs_s for run in runs], "whole": [run.whole_s for run in runs]}
    spent = ", ".join(f"{name} {mean_and_std(seconds, 2)} s" for name, seconds in times.items())
    lines = [f"mean of {len(runs)}: {mean_and_std(accuracies, 4)}{runs[0].label}, {spent}"]
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
            folder = Path(name) / f"seed{seed}"
            runs.append(train(parsed.experiment, seed, parsed.overrides, folder))
            print(f"seed {seed}: {format_run(runs[-1])}", flush=True)
    print(summarize(runs, parsed.goal))


if __name__ == "__main__":
    main()
