"""What a job of a sweep costs beside its training, and whether memory grows from job to job.

    python benchmarks/sweep.py [--jobs 100] [OVERRIDE...]

One process runs LeNet for one epoch on the sample, seed after seed. Prints the memory of the process (RSS) after every
tenth job; then, as the median of all jobs after the first, the seconds of a job beside training and evaluation, and
where they went.
"""

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from hydra.plugins.sweeper import Sweeper

from cnnbench import cli
from cnnbench.cli import composing

PAGE = os.sysconf("SC_PAGE_SIZE")
TRAINING = ("train", "evaluation", "preparation")


def rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1024**2


class Clock:
    """The seconds in some functions of this process, and the times at which jobs begin and end."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.began: list[float] = []
        self.ended: list[float] = []
        self.memory: list[float] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds.setdefault(part, []).append(time.perf_counter() - began)

        return wrapped

    def job(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.began.append(time.perf_counter())
            try:
                return function(*args, **kwargs)
            finally:
                self.ended.append(time.perf_counter())
                self.memory.append(rss_mib())
                if len(self.ended) % 10 == 0:
                    print(f"{len(self.ended):>5} jobs  {self.memory[-1]:7.1f} MiB", file=sys.stderr, flush=True)

        return wrapped


@contextmanager
def in_an_empty_folder() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def parts_of_a_job(clock: Clock) -> dict[str, float]:
    """The median seconds of each part, of the jobs after the first; the last part is what is in no other."""
    walls = [json.loads(path.read_text())["wall_s"] for path in Path("outputs").rglob("result.json")]
    assert len(walls) == len(clock.began), "a job has failed"
    jobs = [ended - began for began, ended in zip(clock.began[1:], clock.ended[1:], strict=True)]
    between = [began - ended for began, ended in zip(clock.began[1:], clock.ended, strict=False)]
    parts = {
        "Hydra composes and validates the job": clock.seconds["validate"][0] / len(clock.began),
        "Hydra prepares the job": statistics.median(between),
        "check": statistics.median(clock.seconds["check"][1:]),
    }
    walls = [
        wall for wall in walls if wall["total"] < max(each["total"] for each in walls)
    ]  # the first imports PyTorch
    parts["start, less check"] = statistics.median(wall["start"] for wall in walls) - parts["check"]
    for part in ("data", "records", "checkpoints"):
        parts[part] = statistics.median(wall.get(part, 0.0) for wall in walls)
    trained = statistics.median(sum(wall.get(part, 0.0) for part in TRAINING) for wall in walls)
    known = sum(list(parts.values())[2:])
    parts["the rest of the job"] = statistics.median(jobs) - trained - known
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    clock = Clock()
    Sweeper.validate_batch_is_legal = clock.timed("validate", Sweeper.validate_batch_is_legal)  # type: ignore[method-assign]  # to time it
    cli.check = clock.timed("check", cli.check)
    composing.Job.__call__ = clock.job(composing.Job.__call__)  # type: ignore[method-assign]  # to time it
    sys.argv = ["cnnbench", "-m", f"seed=range(0,{options.jobs})", "data=sample", "train.epochs=1", *options.overrides]
    with in_an_empty_folder():
        with redirect_stdout(io.StringIO()):
            code = cli.main()
        if code != 0:
            sys.exit(code)
        parts = parts_of_a_job(clock)
    print(f"RSS after 10 jobs {clock.memory[9]:.1f} MiB, after {options.jobs} {clock.memory[-1]:.1f} MiB: ", end="")
    print(f"{clock.memory[-1] / clock.memory[9]:.3f}")
    print(f"{'a job beside training and evaluation':<40} {sum(parts.values()):.3f} s")
    for name, seconds in parts.items():
        print(f"  {name:<38} {seconds:.3f} s")


if __name__ == "__main__":
    main()
