"""Time the cost of checkpoints: runs with periodic checkpoints against runs with one at the end.

    python benchmarks/saving.py [--rounds 3] [OVERRIDE...]

Runs both in turn and prints for each round the seconds of training and evaluation per epoch (the
median of the epochs after the first), and the share of the wall time that training waited for
checkpoints, closing included. Fashion-MNIST must be on this machine.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

NEVER = [f"train.checkpoint_every.{key}=null" for key in ("epochs", "steps", "minutes")]


def run(overrides: list[str]) -> tuple[float, float]:
    """Return the seconds of an epoch, and the share of the wall time spent on checkpoints."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        command = [sys.executable, "-m", "cnnbench", *overrides, f"hydra.run.dir={folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with Path(folder, "run", "metrics.csv").open() as file:
            epochs = [float(row["epoch_s"]) for row in csv.DictReader(file)]
        wall = json.loads(Path(folder, "run", "result.json").read_text())["wall_s"]
    return statistics.median(epochs[1:] or epochs), wall["checkpoints"] / wall["total"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    ratios = []
    # with a validation set, each new best epoch is saved as well
    overrides = ["data.validation=0", "train.epochs=5", *options.overrides]
    print(f"{'round':>5}  {'without':>9}  {'with':>9}  {'ratio':>5}  waited")
    for number in range(1, options.rounds + 1):
        without, _ = run([*overrides, *NEVER])
        with_them, waited = run(overrides)
        ratios.append(with_them / without)
        seconds = f"{without:>7.3f} s  {with_them:>7.3f} s"
        print(f"{number:>5}  {seconds}  {ratios[-1]:>5.3f}  {waited:.3%}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
