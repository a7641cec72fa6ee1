"""Measure the overhead of a sweep's job in time, and the growth of memory from job to job.

    python benchmarks/sweep.py [--jobs 100] [OVERRIDE...]

One process trains LeNet for one epoch on the sample, seed after seed. Prints the memory of the
process (RSS) after every tenth job, then the overhead by part: the seconds between the beginnings
of two jobs without training and evaluation, as the median of all jobs after the first. The time
before the first job, such as checking all jobs, is divided by their number.
"""

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from cnnbench.cli.hydra_app import HydraJob
from cnnbench.cli.main import main as command_line

PAGE = os.sysconf("SC_PAGE_SIZE")
TRAINING = ("train", "evaluation", "preparation")


def rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1024**2


class Clock:
    """The time at which each job began and ended, and the memory of the process at its end."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []
        self.memory: list[float] = []

    def watch_jobs(self) -> None:
        call = HydraJob.__call__

        def timed(*args: Any) -> Any:
            self.began.append(time.perf_counter())
            try:
                return call(*args)
            finally:
                self.ended.append(time.perf_counter())
                self.memory.append(rss_mib())
                if len(self.ended) % 10 == 0:
                    line = f"{len(self.ended):>5} jobs  {self.memory[-1]:7.1f} MiB"
                    print(line, file=sys.stderr, flush=True)

        HydraJob.__call__ = timed  # type: ignore[method-assign]  # for the time of each job


@contextmanager
def in_empty_folder() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def split_overhead(clock: Clock, started: float) -> dict[str, float]:
    """Return the median seconds of each part of the overhead, without the first job."""
    paths = sorted(Path("outputs").rglob("result.json"), key=lambda path: path.stat().st_mtime)
    walls = [json.loads(path.read_text())["wall_s"] for path in paths][1:]
    assert len(walls) == len(clock.began) - 1, "a job has failed"
    jobs = [end - begin for begin, end in zip(clock.began[1:], clock.ended[1:], strict=True)]
    gaps = [begin - end for begin, end in zip(clock.began[1:], clock.ended, strict=False)]
    parts = {
        "listing and checking it, before the first": (clock.began[0] - started) / len(clock.began),
        "Hydra composes it": statistics.median(gaps),
    }
    for part in ("start", "data", "records", "checkpoints"):
        parts[part] = statistics.median(wall.get(part, 0.0) for wall in walls)
    trained = [sum(wall.get(part, 0.0) for part in TRAINING) for wall in walls]
    beside = statistics.median(job - train for job, train in zip(jobs, trained, strict=True))
    parts["the rest of the job"] = beside - sum(list(parts.values())[2:])
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    clock = Clock()
    clock.watch_jobs()
    seeds = f"seed=range(0,{options.jobs})"
    sys.argv = ["cnnbench", "-m", seeds, "data=sample", "train.epochs=1", *options.overrides]
    with in_empty_folder():
        started = time.perf_counter()
        with redirect_stdout(io.StringIO()):
            code = command_line()
        if code != 0:
            sys.exit(code)
        parts = split_overhead(clock, started)
    early, late = clock.memory[9], clock.memory[-1]
    growth = f"RSS after 10 jobs {early:.1f} MiB, after {options.jobs} {late:.1f} MiB"
    print(f"{growth}: {late / early:.3f}")
    print(f"{'a job beside training and evaluation':<44} {sum(parts.values()):.3f} s")
    for name, seconds in parts.items():
        print(f"  {name:<42} {seconds:.3f} s")


if __name__ == "__main__":
    main()
