"""Time cnnbench and other tools in turns: the same network, batch size and images.

    pip install lightning keras tensorflow jax
    pip install --no-deps d2l==1.0.3
    pip install pandas scipy matplotlib-inline ipython requests
    python benchmarks/peers.py [--tools d2l,cnnbench] [--rounds 3] [--epochs 1] [--beside 0,1]
        [--examples 60000 10000] [--write docs/speed.md] [--json FILE] [OVERRIDE...]

Each tool trains LeNet on Fashion-MNIST in a new process, or the network of the overrides, such as
model=alexnet data.resize=224 train.batch_size=128. Measured is the wall time of an epoch with
loading and the evaluation on the test images, after a first epoch, which is not counted. --beside
gives the numbers of busy Python loops that run meanwhile. With --examples all use only the first
examples. An override for cnnbench alone, such as device.threads=1, leaves the other tools as they
are. benchmarks/peer_loops/ has their loops. Tools that are not installed are skipped and named.

Prints a table of medians and ranges. --write puts it between the two comments of a page. --json
writes each process's epochs to a file.
"""

import argparse
import csv
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).with_name("peer_loops")))
from table import Measurement, describe, describe_load, format_table, replace_block
from task import Task

if TYPE_CHECKING:
    from cnnbench.config import Config

CONF = Path(__file__).parents[1] / "conf"
LOOPS = Path(__file__).with_name("peer_loops")
D2L = ("d2l", "pandas", "matplotlib_inline", "IPython", "requests")
D2L_INSTALL = (
    "pip install --no-deps d2l==1.0.3; pip install pandas scipy matplotlib-inline ipython requests"
)
KERAS_TENSORFLOW = (("keras", "tensorflow"), "pip install keras tensorflow")
# by tool: the modules it needs, and the command that installs them
TOOLS: dict[str, tuple[tuple[str, ...], str]] = {
    "d2l": (D2L, D2L_INSTALL),
    "pytorch": (("torchvision",), "pip install torchvision"),
    "pytorch_memory": ((), ""),
    "pytorch_tuned": ((), ""),
    "pytorch_tuned_bf16": ((), ""),
    "lightning": (("lightning",), "pip install lightning"),
    "keras_tensorflow": KERAS_TENSORFLOW,
    "keras_tensorflow_xla": KERAS_TENSORFLOW,
    "keras_jax": (("keras", "jax"), "pip install keras jax"),
    "cnnbench": ((), ""),
}
LENET_ALONE = ("keras_tensorflow", "keras_tensorflow_xla", "keras_jax")


def load_settings(overrides: list[str]) -> "Config":
    """Return the configuration that the command has with these overrides.

    The command's own modules are not imported: they set how OpenMP waits, which all would inherit.
    """
    from hydra import compose, initialize_config_dir

    from cnnbench import config

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return config.load_config(config.to_plain(compose("train", overrides=overrides)))


def make_task(settings: "Config", examples: list[int], epochs: int, device: str) -> Task:
    """Return the task of the settings, with one epoch more than are counted."""
    if settings.data.name != "fashion_mnist":
        sys.exit(f"The tools train on Fashion-MNIST, not on data={settings.data.name}.")
    optimizer = settings.optimizer
    if optimizer.name != "sgd" or optimizer.momentum != 0 or optimizer.weight_decay != 0:
        sys.exit(
            "The tools train by plain SGD. Add optimizer=sgd optimizer.momentum=0 "
            "optimizer.weight_decay=0."
        )
    return Task(
        model=settings.model.name,
        arguments=settings.model.arguments,
        image_size=settings.data.resize,
        batch_size=settings.train.batch_size,
        lr=optimizer.lr,
        num_train=examples[0],
        num_test=examples[1],
        epochs=1 + epochs,
        device=device,
    )


def find_skipped(tools: list[str], is_lenet: bool) -> dict[str, str]:
    """Return the tools that cannot be measured here, and the reasons."""
    skipped = {}
    for tool in tools:
        modules, install = TOOLS[tool]
        if any(find_spec(module) is None for module in modules):
            skipped[tool] = f"not installed: {install}"
        elif tool in LENET_ALONE and not is_lenet:
            skipped[tool] = "has LeNet at 28 pixels alone"
    return skipped


def place_files(folder: Path) -> None:
    """Write the verified files where d2l looks: ../data/FashionMNIST/raw."""
    from cnnbench.data import catalog
    from cnnbench.data.public_files import find_files

    raw = folder / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    found = find_files(catalog.get("fashion_mnist"))
    if found.missing:
        sys.exit(f"{found.missing[0]} is not on this machine; run: cnnbench data fashion_mnist")
    for name, content in found.contents.items():
        (raw / name).write_bytes(content)


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Run Python loops beside the block, which begins once all of them work."""
    loop = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    with ExitStack() as stack:
        for _ in range(number):
            process = stack.enter_context(subprocess.Popen(loop, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
        yield


def run_in_folder(command: list[str], folder: Path) -> str:
    """Return the output of a command that runs in the folder `work`.

    Raises:
        subprocess.CalledProcessError: the command failed; it has the error output.
    """
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return subprocess.run(command, cwd=work, check=True, text=True, capture_output=True).stdout


def measure_loop(tool: str, beside: int, task: Task, folder: Path) -> Measurement:
    """Train by the loop of a tool in a new process."""
    command = [sys.executable, str(LOOPS), tool, json.dumps(asdict(task))]
    result = json.loads(run_in_folder(command, folder).splitlines()[-1])
    return Measurement(tool, beside, **result)


def measure_cnnbench(beside: int, task: Task, overrides: list[str], folder: Path) -> Measurement:
    """Train by the command as a user types it; the figures are those of its run directory."""
    sizes = [f"data.train_examples={task.num_train}", f"data.test_examples={task.num_test}"]
    command = [sys.executable, "-m", "cnnbench", *overrides, f"train.epochs={task.epochs}"]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        run = Path(name) / "run"
        run_in_folder([*command, "data.validation=0", *sizes, f"hydra.run.dir={run}"], folder)
        with (run / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        result = json.loads((run / "result.json").read_text())
        environment = json.loads((run / "environment.json").read_text())
    return Measurement(
        tool="cnnbench",
        beside=beside,
        epoch_s=[float(row["epoch_s"]) for row in rows[1:]],
        test_accuracy=result["test_accuracy"],
        parameters=result["parameters"],
        versions={name: environment[name] for name in ("cnnbench", "torch")},
        details="{precision}, {engine}, {threads} threads".format(**environment),
    )


def measure_in_turns(
    options: argparse.Namespace, task: Task, skipped: dict[str, str]
) -> list[Measurement]:
    """Measure all tools in each round; a tool that fails is added to `skipped`."""
    measured: list[Measurement] = []
    turns = [(beside, tool) for beside in options.beside for tool in options.tools]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place_files(folder)
        for beside, tool in turns * options.rounds:
            if tool in skipped:
                continue
            try:
                with busy_processes(beside):
                    if tool == "cnnbench":
                        done = measure_cnnbench(beside, task, options.overrides, folder)
                    else:
                        done = measure_loop(tool, beside, task, folder)
            except subprocess.CalledProcessError as error:
                print(error.stderr, file=sys.stderr)
                reason = error.stderr.strip().rpartition("\n")[2] or f"code {error.returncode}"
                skipped[tool] = f"failed: {reason}"
                continue
            if measured and done.parameters != measured[0].parameters:
                sys.exit(
                    f"{tool} trained {done.parameters:,} parameters, and {measured[0].tool} "
                    f"{measured[0].parameters:,}: the networks differ."
                )
            measured.append(done)
            seconds = f"{statistics.median(done.epoch_s):.2f} s an epoch"
            line = f"{describe_load(beside)}: {tool} {seconds}, accuracy {done.test_accuracy:.3f}"
            print(line, file=sys.stderr, flush=True)
    return measured


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tools", default=",".join(TOOLS), help="%(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1, help="counted epochs of each process")
    parser.add_argument("--beside", default="0,1", help="numbers of busy processes: 0,1")
    parser.add_argument(
        "--examples", type=int, nargs=2, default=[60_000, 10_000], metavar=("TRAIN", "TEST")
    )
    parser.add_argument("--write", type=Path, metavar="PAGE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    options.tools = options.tools.split(",")
    options.beside = [int(number) for number in options.beside.split(",")]
    unknown = [tool for tool in options.tools if tool not in TOOLS]
    if unknown:
        parser.error(f"there is no tool {unknown[0]}. Tools: {', '.join(TOOLS)}")
    return options


def main() -> None:
    options = read_options()
    settings = load_settings(options.overrides)
    from cnnbench.runs.machine import usable_cpus
    from cnnbench.training.device import device_config, resolve_device

    device = resolve_device(device_config(settings))
    task = make_task(settings, options.examples, options.epochs, device.torch_device.type)
    is_lenet = settings.model == load_settings([]).model and task.image_size == 28
    skipped = find_skipped(options.tools, is_lenet)
    measured = measure_in_turns(options, task, skipped)
    if not measured:
        sys.exit(f"Nothing was measured: {skipped}")
    command = shlex.join(["python", "benchmarks/peers.py", *sys.argv[1:]])
    machine = f"{task.device} ({device.describe()}), {usable_cpus()} cores"
    below = list(describe(measured, skipped, task, machine))
    lines = [*format_table(measured), "", f"    {command}", "", *below]
    print("\n".join(lines))
    if options.write:
        options.write.write_text(replace_block(options.write.read_text(), lines))
    if options.json:
        record = {"command": command, "machine": machine, "task": asdict(task)}
        record |= {"skipped": skipped, "measured": [asdict(each) for each in measured]}
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
