"""Time plain PyTorch, d2l 1.0.3 and cnnbench on an idle machine and beside busy processes.

    pip install --no-deps d2l==1.0.3
    pip install pandas scipy requests matplotlib-inline ipython
    python benchmarks/busy.py [--rounds 3] [--examples 5120 1000]
        [--also GOMP_SPINCOUNT=0] [--also device.threads=1]

Each of them trains LeNet at batch 256 on Fashion-MNIST in a new process. Measured is the second
epoch with evaluation and (for d2l) loading. The neighbors are pure-Python loops, or trainings in
plain PyTorch with its defaults. --also measures cnnbench once more, with an environment variable or
an override. Prints a table of medians, with the range of the rounds below each.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

BATCH_SIZE = 256
NEIGHBORS = {
    "idle": ("", 0),
    "1 Python loop": ("python", 1),
    "2 Python loops": ("python", 2),
    "1 training": ("plain", 1),
    "2 trainings": ("plain", 2),
}


def plain_epochs(examples: list[int]) -> Iterator[float]:
    """Yield the seconds of each epoch of a tutorial's training loop, with its data in memory."""
    import torch
    from torch import nn

    from cnnbench import models
    from cnnbench.data import catalog, download

    _, arrays = download.load_public_dataset(catalog.get("fashion_mnist"))
    num_train, num_test = examples
    images = torch.tensor(arrays[0][:num_train]).unsqueeze(1) / 255
    labels = torch.tensor(arrays[1][:num_train]).long()
    test_images = torch.tensor(arrays[2][:num_test]).unsqueeze(1) / 255
    test_labels = torch.tensor(arrays[3][:num_test]).long()
    net, criterion = models.build("lenet"), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.9)
    while True:
        began = time.perf_counter()
        for batch in torch.randperm(len(images)).split(BATCH_SIZE):
            optimizer.zero_grad()
            criterion(net(images[batch]), labels[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            for batch in torch.arange(len(test_images)).split(BATCH_SIZE):
                (net(test_images[batch]).argmax(1) == test_labels[batch]).sum().item()
        yield time.perf_counter() - began


def d2l_epochs(examples: list[int]) -> Iterator[float]:
    """Yield the seconds of each epoch of the book's loop."""
    import torch
    from against_d2l import peer_epoch_s, settings_for

    settings = settings_for("lenet", [f"train.batch_size={BATCH_SIZE}"])
    while True:
        yield peer_epoch_s(settings, examples, torch.device("cpu"))


LOOPS = {"plain": plain_epochs, "d2l": d2l_epochs}


def second_epoch_s(program: str, setting: str, examples: list[int], folder: Path) -> float:
    """Return the seconds of the second epoch of a new process.

    `setting` is an environment variable if its name is in capitals, otherwise an override.
    """
    if program in LOOPS:
        command = [sys.executable, __file__, "--loop", program, "--examples", *map(str, examples)]
        done = subprocess.run(command, cwd=folder, check=True, text=True, stdout=subprocess.PIPE)
        return float(done.stdout.split()[-1])
    environment, overrides = dict(os.environ), []
    name, _, value = setting.partition("=")
    if name.isupper():
        environment[name] = value
    elif setting:
        overrides.append(setting)
    sizes = [f"data.train_examples={examples[0]}", f"data.test_examples={examples[1]}"]
    command = [sys.executable, "-m", "cnnbench", "device=cpu", "train.epochs=2"]
    command += [f"train.batch_size={BATCH_SIZE}", *sizes, "data.validation=0", *overrides]
    with tempfile.TemporaryDirectory() as run:
        command.append(f"hydra.run.dir={run}/run")
        output = subprocess.DEVNULL
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=output)
        with (Path(run) / "run" / "metrics.csv").open() as file:
            return float(list(csv.DictReader(file))[-1]["epoch_s"])


@contextmanager
def neighbors(kind: str, number: int, examples: list[int], folder: Path) -> Iterator[None]:
    """Run busy processes beside the block, which begins once all of them work."""
    loop = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    if kind == "plain":
        options = ["--forever", "--examples", *map(str, examples)]
        loop = [sys.executable, __file__, "--loop", "plain", *options]
    with ExitStack() as stack:
        for _ in range(number):
            process = subprocess.Popen(loop, cwd=folder, stdout=subprocess.PIPE)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
        yield


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--examples", type=int, nargs=2, default=[5120, 1000], metavar=("TRAIN", "TEST")
    )
    parser.add_argument("--also", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--forever", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        for epoch, epoch_s in enumerate(LOOPS[options.loop](options.examples), 1):
            print(epoch_s, flush=True)
            if epoch == 2 and not options.forever:
                return
    programs = [("plain", ""), ("d2l", ""), ("cnnbench", "")]
    programs += [("cnnbench", setting) for setting in options.also]
    seconds: dict[tuple[str, str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        from against_d2l import place_files

        place_files(Path(name))
        work = Path(name) / "work"
        work.mkdir()
        for _ in range(options.rounds):
            for situation, (kind, number) in NEIGHBORS.items():
                for program in programs:
                    with neighbors(kind, number, options.examples, work):
                        epoch_s = second_epoch_s(*program, options.examples, work)
                    seconds.setdefault((situation, *program), []).append(epoch_s)
                    line = f"{situation}: {' '.join(program)} {epoch_s:.2f} s"
                    print(line, file=sys.stderr, flush=True)
    headings = [" ".join(program).strip() for program in programs]
    print(f"| beside | {' | '.join(headings)} |")
    print("| --- |" + " --- |" * len(programs))
    for situation in NEIGHBORS:
        cells = [seconds[(situation, *program)] for program in programs]
        medians = [f"{statistics.median(cell):.2f}" for cell in cells]
        ranges = [f"{min(cell):.2f}-{max(cell):.2f}" for cell in cells]
        print(f"| {situation} | {' | '.join(medians)} |")
        print(f"| | {' | '.join(ranges)} |")


if __name__ == "__main__":
    main()
