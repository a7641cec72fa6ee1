"""Measure cnnbench on a CUDA GPU: one command, about eight minutes, one table.

    python benchmarks/gpu.py [--minutes 8] [--out outputs/gpu.md]
    python benchmarks/gpu.py --tiny             # a trial on the CPU, in about a minute

Prints a Markdown table, row by row, and writes it to a file as well. Four parts share the minutes:

    tests      pytest -m cuda
    networks   epochs with evaluation against the book's package d2l 1.0.3 (benchmarks/peers.py),
               and the share of a large matrix product's speed that a training step reaches
    speedruns  seconds to an accuracy: a seed in a new process, compiled, then many in one process
    sweep      16 LeNets one after another and at once

Whatever fails, is not installed or finds its time over is named in the table with the reason, and
the rest is measured. Fashion-MNIST and MNIST are taken from the cache or from CNNBENCH_DATA.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from side_by_side import LENET, run_at_once, time_sweep
from table_parts import HEADER, Row, attempt, find_reason, measure_part
from time_to_accuracy import Run, count_reached, format_runs, read_run, train

ROOT = Path(__file__).parents[1]
CNNBENCH = (sys.executable, "-m", "cnnbench")
PYTEST = "-m pytest -v -rE --tb=no --color=no -p no:cacheprovider --continue-on-collection-errors"
PROBE = """
import torch
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "")
print(f"torch {torch.__version__}, CUDA {torch.version.cuda}")
"""
# lines of pytest -v: a test with its outcome; in the summary, a file that cannot be imported
OUTCOME = re.compile(r"^(tests/.*) (PASSED|FAILED|ERROR|SKIPPED)\b", re.MULTILINE)
NOT_IMPORTED = re.compile(r"^ERROR (tests/[^:\s]+)(?: |$)", re.MULTILINE)


@dataclass(frozen=True)
class Network:
    """A network, and its goals: how many times as fast as d2l, and the share of the peak.

    `examples` are the numbers of training and test images of an epoch.
    """

    model: str
    image_size: int
    batch_size: int
    times: float
    share: float | None = None
    arguments: tuple[str, ...] = ()
    examples: tuple[int, int] = (12_000, 2_000)

    @property
    def title(self) -> str:
        arguments = "".join(f" {argument}" for argument in self.arguments)
        return f"{self.model}{arguments}, {self.image_size} px, batch {self.batch_size}"

    @property
    def overrides(self) -> tuple[str, ...]:
        sizes = (f"data.resize={self.image_size}", f"train.batch_size={self.batch_size}")
        return (f"model={self.model}", *self.arguments, *sizes)


@dataclass(frozen=True)
class Speedrun:
    """An experiment, and its goal: a mean accuracy in seconds of training and evaluation."""

    experiment: str
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """The measurements: by default all of them. `data` are overrides that d2l does not take."""

    device: str = "cuda"
    data: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    networks: tuple[Network, ...] = (
        Network("lenet", 28, 256, times=40, examples=(60_000, 10_000)),
        Network("alexnet", 224, 128, times=12, share=0.35),
        Network("vgg11", 224, 128, times=8, arguments=("model.width=0.25",)),
        Network("nin", 224, 128, times=10),
        Network("googlenet", 96, 128, times=8),
        Network("d2l_resnet18", 96, 256, times=8),
        Network("d2l_densenet", 96, 256, times=8),
    )
    compile: tuple[str, ...] = ("off", "on")
    speedruns: tuple[Speedrun, ...] = (
        Speedrun("speedrun/fashion_94", 0.94, 1.5),
        Speedrun("speedrun/fashion_95", 0.95, 8.0),
        Speedrun("speedrun/mnist_99_5", 0.995, 1.5),  # last, as its data may be missing
    )
    speedrun_overrides: tuple[str, ...] = ()
    seeds: int = 30
    jobs: int = 16
    at_once: tuple[int, ...] = (4, 8, 16)
    epochs: int = 5

    @property
    def common(self) -> tuple[str, ...]:
        return (f"device={self.device}", *self.data)


TRIAL = Plan(
    device="cpu",
    data=("data=sample",),
    tests=("tests/training/test_cuda_graph.py",),
    networks=(Network("lenet", 28, 64, times=40, examples=(512, 256)),),
    compile=("off",),
    speedrun_overrides=("model=lenet", "train.epochs=1", "data.train_examples=512"),
    seeds=2,
    jobs=2,
    at_once=(2,),
    epochs=1,
)


def run_tests(plan: Plan, deadline: float) -> Iterator[Row]:
    """Run the tests that need a GPU; if their time is over, count those that have ended."""
    command = [sys.executable, "-u", *PYTEST.split(), "-m", "cuda", *plan.tests]
    left_s = deadline - time.perf_counter() - 1
    cut_short = ""
    with tempfile.TemporaryFile("w+") as output:
        try:
            done = subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, timeout=left_s)
        except subprocess.TimeoutExpired:
            cut_short = f"; the others not in {left_s:.0f} s"
        else:
            if done.returncode not in (0, 1):  # 1: tests failed
                cut_short = f"; pytest ended with exit code {done.returncode}"
        output.seek(0)
        text = output.read()
    outcomes = [outcome for _, outcome in OUTCOME.findall(text)]
    failed = [test for test, outcome in OUTCOME.findall(text) if outcome in ("FAILED", "ERROR")]
    failed += [f"{file} (not imported)" for file in NOT_IMPORTED.findall(text)]
    if not outcomes and "exit code" in cut_short:
        raise RuntimeError(find_reason(text))
    passed, skipped = outcomes.count("PASSED"), outcomes.count("SKIPPED")
    measured = f"{passed} passed, {len(failed)} failed, {skipped} skipped{cut_short}"
    if failed:
        measured += f". Failed: {', '.join(failed)}"
    is_reached = passed > 0 and not failed and not cut_short
    yield Row("tests", "pytest -m cuda", measured, "none fails", is_reached)


def measure_networks(plan: Plan, deadline: float) -> Iterator[Row]:
    """Measure d2l and every network without compilation, then all again with it."""
    d2l: dict[Network, float] = {}
    for network in plan.networks:
        yield from attempt("networks", f"{network.title}: d2l", time_d2l(network, plan, d2l))
        yield from attempt("networks", network.title, time_network(network, plan, "off", d2l))
    for compile in plan.compile[1:]:
        for network in plan.networks:
            rows = time_network(network, plan, compile, d2l)
            yield from attempt("networks", f"{network.title}, compiled", rows)


def time_d2l(network: Network, plan: Plan, d2l: dict[Network, float]) -> Iterator[Row]:
    """Yield the examples/s of the book's loop, and add them to `d2l`."""
    numbers = map(str, network.examples)
    script = [sys.executable, str(ROOT / "benchmarks" / "peers.py")]
    options = ["--tools", "d2l", "--rounds", "1", "--beside", "0", "--examples", *numbers]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "peers.json"
        command = [*script, *options, "--json", str(file), f"device={plan.device}"]
        subprocess.run([*command, *network.overrides], check=True, stdout=subprocess.DEVNULL)
        (done,) = json.loads(file.read_text())["measured"]
    d2l[network] = network.examples[0] / statistics.median(done["epoch_s"])
    yield Row("networks", f"{network.title}: d2l", f"{d2l[network]:,.0f} examples/s")


def time_network(
    network: Network, plan: Plan, compile: str, d2l: dict[Network, float]
) -> Iterator[Row]:
    """Yield the examples/s of an epoch, and a row for the share of the peak if it has a goal."""
    num_train, num_test = network.examples
    sizes = [f"data.train_examples={num_train}", f"data.test_examples={num_test}"]
    sizes += ["data.validation=0", f"device.compile={compile}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [*CNNBENCH, "benchmark", *network.overrides, *plan.common, *sizes]
        command += ["--rounds", "3", f"hydra.run.dir={folder}/run"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        result = json.loads((Path(folder) / "run" / "benchmark.json").read_text())
    if "out_of_memory" in result:
        raise RuntimeError(result["out_of_memory"])
    title = f"{network.title}, compiled" if result["compile"] else network.title
    speed = result["epoch"]["examples_per_s"]
    measured = f"{speed:,.0f} examples/s"
    times = None
    if network in d2l:
        times = speed / d2l[network]
        measured += f", {times:.1f} times d2l"
    how = f"{result['precision']}, {result['engine']}"
    share = f"{result['share_of_peak']:.1%} of the {result['precision']} peak"
    is_reached = None if times is None else times >= network.times
    goal = f"{network.times:g} times d2l"
    yield Row("networks", title, f"{measured}, {share} ({how})", goal, is_reached)
    if network.share is not None:
        is_reached = result["precision"] == "bf16" and result["share_of_peak"] >= network.share
        goal = f"{network.share:.0%} of the bf16 peak"
        yield Row("networks", title, share, goal, is_reached)


def measure_speedruns(plan: Plan, deadline: float) -> Iterator[Row]:
    for number, speedrun in enumerate(plan.speedruns):
        now = time.perf_counter()
        until = now + (deadline - now) / (len(plan.speedruns) - number)
        rows = repeat_speedrun(speedrun, plan, until)
        yield from attempt("speedruns", speedrun.experiment, rows)


def repeat_speedrun(speedrun: Speedrun, plan: Plan, until: float) -> Iterator[Row]:
    """Train seed 0 in a new process, compiled, then further seeds in one process.

    Compiling takes long in each run, so the further seeds are not compiled. Those count that end in
    time.
    """
    name, overrides = speedrun.experiment, [*plan.speedrun_overrides, *plan.common]
    first, last = (f"device.compile={mode}" for mode in (plan.compile[0], plan.compile[-1]))
    with tempfile.TemporaryDirectory() as folder:
        run = train(name, 0, [*overrides, last], Path(folder) / "run")
        yield judge_speedrun(speedrun, f"{name}, {last}, seed 0, a new process", [run])
        seeds = f"seed=range(1,{1 + plan.seeds})"
        command = [*CNNBENCH, "-m", f"experiment={name}", *overrides, first, seeds]
        command += ["data.validation=0", f"hydra.sweep.dir={folder}/sweep"]
        with suppress(subprocess.TimeoutExpired):
            left_s = until - time.perf_counter() - 1
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=left_s)
        results = sorted(Path(folder, "sweep").rglob("result.json"))
        runs = [read_run(result.parent) for result in results]
    title = f"{name}, {first}, {len(runs)} of {plan.seeds} seeds, one process"
    if runs:
        yield judge_speedrun(speedrun, title, runs)
    else:
        yield Row("speedruns", title, "not measured: its time is over")


def judge_speedrun(speedrun: Speedrun, title: str, runs: list[Run]) -> Row:
    accuracy = statistics.mean(run.accuracy for run in runs)
    epochs_s = statistics.mean(run.epochs_s for run in runs)
    return Row(
        part="speedruns",
        what=title,
        measured=f"{format_runs(runs)}; {count_reached(runs, speedrun.accuracy)} reached the goal",
        goal=f"{speedrun.accuracy:g} in {speedrun.seconds:g} s of training and evaluation",
        reached=accuracy >= speedrun.accuracy and epochs_s <= speedrun.seconds,
    )


def measure_sweep(plan: Plan, deadline: float) -> Iterator[Row]:
    sweep = [*LENET, *plan.common, f"train.epochs={plan.epochs}", f"seed=range({plan.jobs})"]
    first_s = time_sweep(sweep)
    what = f"{plan.jobs} LeNets, train.epochs={plan.epochs}"
    yield Row("sweep", f"{what}, one after another", f"{first_s:.1f} s")
    for number in plan.at_once:
        seconds = time_sweep([*sweep, *run_at_once(number)])
        measured = f"{seconds:.1f} s, {first_s / seconds:.2f} times as fast"
        yield Row("sweep", f"{what}, {number} at once", measured)


# by part: the function that measures it, and its share of the time
PARTS: dict[str, tuple[Callable[[Plan, float], Iterator[Row]], float]] = {
    "tests": (run_tests, 0.15),
    "networks": (measure_networks, 0.4),
    "speedruns": (measure_speedruns, 0.3),
    "sweep": (measure_sweep, 0.15),
}


def describe_machine(plan: Plan) -> str:
    """Return the names of GPU, driver and torch.

    Raises:
        SystemExit: there is no torch, or no GPU although the plan needs one.
    """
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    if probe.returncode != 0:
        sys.exit(find_reason(probe.stderr))
    gpu, versions = probe.stdout.splitlines()
    if plan.device == "cpu":
        return f"CPU, {versions}"
    if not gpu:
        sys.exit("torch finds no CUDA GPU here. Try the script on the CPU: --tiny")
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    driver = "unknown"
    with suppress(OSError, subprocess.CalledProcessError):
        driver = subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
    return f"{gpu}, driver {driver}, {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8, help="of all parts together")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu.md"), metavar="FILE")
    parser.add_argument("--tiny", action="store_true", help="a trial on the CPU")
    options = parser.parse_args()
    plan = TRIAL if options.tiny else Plan()
    began = time.perf_counter()
    # this checkout is measured, from any folder
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    machine = describe_machine(plan)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", encoding="utf-8") as file:

        def report(line: str) -> None:
            print(line, flush=True)
            print(line, file=file, flush=True)

        report(f"{machine}\n")
        if options.tiny:
            report("A trial with tiny sizes: no figure below says anything about speed.\n")
        report(HEADER)
        shares = {part: share for part, (_, share) in PARTS.items()}
        for part, (measure, share) in PARTS.items():
            left_s = began + 60 * options.minutes - time.perf_counter()
            seconds = left_s * share / sum(shares.values())
            del shares[part]
            for row in measure_part(part, partial(measure, plan), seconds):
                if options.tiny:
                    row = replace(row, part=f"{part} (trial)", reached=None)
                report(str(row))
        report(f"\nMeasured in {(time.perf_counter() - began) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
