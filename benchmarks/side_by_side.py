"""Small networks side by side against one after another: the wall time of a sweep, by jobs at once.

    python benchmarks/side_by_side.py --at-once 2 --rounds 3 data=sample train.epochs=5
    python benchmarks/side_by_side.py --at-once 4,8,16 device=cuda train.epochs=5       # on a GPU

Each round runs the same sweep over seeds with Hydra's own launcher and with joblib's, each in a directory of its own.
Prints medians, and how many times faster side by side is. The times include starting the processes.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

LENET = ("model=lenet", "train.checkpoint_every.epochs=null")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--at-once", default="2", help="numbers of processes, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    sweep = [*LENET, *options.overrides, f"seed=range({options.jobs})"]
    ways = {"one after another": []} | {
        f"{number} at once": ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={number}"]
        for number in options.at_once.split(",")
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, launcher in ways.items():
            times[way].append(seconds([*sweep, *launcher]))
    first, *_ = (statistics.median(each) for each in times.values())
    for way, each in times.items():
        median = statistics.median(each)
        spread = f"{min(each):.1f}-{max(each):.1f}"
        print(f"{way:>18}  {median:7.1f} s  ({spread})  x {first / median:.2f}")


def seconds(sweep: list[str]) -> float:
    """How long a sweep takes, from the command to its end."""
    command = [sys.executable, "-m", "cnnbench", "-m", *sweep]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
