"""Measure the seconds to an accuracy: train an experiment with several seeds, in new processes.

    python benchmarks/time_to_accuracy.py EXPERIMENT [--seeds 5] [--first-seed 0] [--goal 0.94]
        [OVERRIDE...]

Trains on all training examples and evaluates on the test set in each epoch. Nothing is chosen on
the test set: the accuracy is that after the last epoch. A recipe that was chosen by the accuracies
of some seeds is measured with others: --first-seed. Prints three clocks of each seed, and the mean
and standard deviation of all:

    training alone  the training steps, without evaluation: `train` of wall_s in result.json
    to the result   from the program's first line to its result: `total` of wall_s
    to the prompt   from Return to the prompt: the whole process, with the start of Python

and two parts of these: training and evaluation is the sum of epoch_s in metrics.csv; preparation is
done once ahead of training: warm-up, capture and compilation.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CLOCKS = {  # fields of Run
    "training_s": "training alone",
    "result_s": "to the result",
    "prompt_s": "to the prompt",
    "epochs_s": "training and evaluation",
    "preparation_s": "preparation",
}


@dataclass(frozen=True)
class Run:
    """The figures of one seed.

    `prompt_s` is None if the process trained more than this seed. `label` says if the accuracy is
    with test-time augmentation.
    """

    accuracy: float
    training_s: float
    result_s: float
    prompt_s: float | None
    epochs_s: float
    preparation_s: float
    label: str
    machine: str


def train(experiment: str, seed: int, overrides: Sequence[str], folder: Path) -> Run:
    """Train one seed in a new process; `folder` is its run directory.

    Raises:
        CalledProcessError: the process failed; it has printed why.
    """
    # the last value of a key counts, so that overrides cannot change the benchmark's settings
    settings = [*overrides, f"seed={seed}", "data.validation=0", f"hydra.run.dir={folder}"]
    command = [sys.executable, "-m", "cnnbench", f"experiment={experiment}", *settings]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return read_run(folder, time.perf_counter() - began)


def read_run(folder: Path, prompt_s: float | None = None) -> Run:
    result = json.loads((folder / "result.json").read_text())
    environment = json.loads((folder / "environment.json").read_text())
    with (folder / "metrics.csv").open() as file:
        epochs_s = sum(float(row["epoch_s"]) for row in csv.DictReader(file))
    machine = (
        "{device} ({chip}), {threads} threads, {precision}, {engine}, compile={compile}, "
        "torch {torch}"
    )
    return Run(
        accuracy=result["test_accuracy"],
        training_s=result["wall_s"]["train"],
        result_s=result["wall_s"]["total"],
        prompt_s=prompt_s,
        epochs_s=epochs_s,
        preparation_s=result["wall_s"]["preparation"],
        label=" with TTA hflip" if result["tta"] == "hflip" else "",
        machine=machine.format(**environment),
    )


def mean_and_std(values: Sequence[float], digits: int) -> str:
    std = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{std}"


def format_runs(runs: Sequence[Run]) -> str:
    """Return the accuracy and the clocks in one line; of several runs mean and std."""
    parts = [mean_and_std([run.accuracy for run in runs], 4) + runs[0].label]
    for field, clock in CLOCKS.items():
        seconds = [getattr(run, field) for run in runs]
        if None not in seconds:
            parts.append(f"{clock} {mean_and_std(seconds, 2)} s")
    return ", ".join(parts)


def count_reached(runs: Sequence[Run], goal: float) -> str:
    number = sum(run.accuracy >= goal for run in runs)
    return f"{number} of {len(runs)} seeds ({number / len(runs):.0%})"


def format_goal(runs: Sequence[Run], goal: float) -> str:
    """Return whether the mean reaches the goal, and which share of the seeds does."""
    is_reached = statistics.mean(run.accuracy for run in runs) >= goal
    by_mean = "reached" if is_reached else "not reached"
    return f"goal {goal:g}: {by_mean} by the mean, reached by {count_reached(runs, goal)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--goal", type=float, help="accuracy to reach, such as 0.94")
    parser.add_argument("overrides", nargs="*")
    parsed = parser.parse_intermixed_args()
    if parsed.seeds < 1:
        parser.error(f"--seeds {parsed.seeds} must be at least 1")
    if parsed.goal is not None and not 0 < parsed.goal < 1:
        parser.error(f"--goal {parsed.goal} must be between 0 and 1, such as 0.94")
    runs = []
    last_seed = parsed.first_seed + parsed.seeds - 1
    with tempfile.TemporaryDirectory() as name:
        for seed in range(parsed.first_seed, last_seed + 1):
            folder = Path(name) / f"seed{seed}"
            try:
                runs.append(train(parsed.experiment, seed, parsed.overrides, folder))
            except subprocess.CalledProcessError as error:
                sys.exit(f"seed {seed} ended with exit code {error.returncode}")
            print(f"seed {seed}: {format_runs(runs[-1:])}", flush=True)
    print(f"mean of seeds {parsed.first_seed} to {last_seed}: {format_runs(runs)}")
    if parsed.goal is not None:
        print(format_goal(runs, parsed.goal))
    print(" ".join([f"experiment={parsed.experiment}", *parsed.overrides]))
    print(runs[0].machine)


if __name__ == "__main__":
    main()
