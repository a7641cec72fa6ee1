"""Time a sweep of small networks with parallel jobs against one job after another.

    python benchmarks/side_by_side.py --at-once 2 --rounds 3 data=sample train.epochs=5
    python benchmarks/side_by_side.py --at-once 4,8,16 device=cuda train.epochs=5       # on a GPU

Each round runs the same sweep over seeds with Hydra's basic launcher and with joblib's, each in a
new directory. Prints median wall times and speedups. The times include the start of the processes.
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
    launchers: dict[str, list[str]] = {"one after another": []}
    for number in options.at_once.split(","):
        launchers[f"{number} at once"] = run_at_once(int(number))
    times: dict[str, list[float]] = {name: [] for name in launchers}
    for _ in range(options.rounds):
        for name, launcher in launchers.items():
            times[name].append(time_sweep([*sweep, *launcher]))
    first = statistics.median(times["one after another"])
    for name, walls in times.items():
        median = statistics.median(walls)
        spread = f"{min(walls):.1f}-{max(walls):.1f}"
        print(f"{name:>18}  {median:7.1f} s  ({spread})  x {first / median:.2f}")


def run_at_once(number: int) -> list[str]:
    """Return the overrides that run this number of jobs of a sweep at once."""
    return ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={number}"]


def time_sweep(sweep: list[str]) -> float:
    """Return the seconds of a sweep, from the command to its end."""
    command = [sys.executable, "-m", "cnnbench", "-m", *sweep]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
