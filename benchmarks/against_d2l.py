"""Time cnnbench against d2l 1.0.3, the package of the book, in turns.

    pip install --no-deps d2l==1.0.3
    pip install pandas scipy matplotlib-inline ipython requests
    python benchmarks/against_d2l.py [--model lenet] [--rounds 3]
        [--examples 60000 10000] [OVERRIDE...]

Network, batch size and image size are the same. Measured is the wall time of an epoch with loading
and the evaluation on the test images. The book's training function is unchanged, except that it
does not plot. With --examples both use only the first examples, if a whole epoch would take hours.
Prints each round, the medians and their ratio, and the device and precision of cnnbench.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, Subset

from cnnbench import config, models
from cnnbench.data import catalog
from cnnbench.data.public_files import find_files

warnings.filterwarnings("ignore")


def settings_for(model: str, overrides: list[str]) -> config.Config:
    OmegaConf.register_new_resolver("job_directory", str)
    with initialize_config_dir(str(Path(__file__).parents[1] / "conf"), version_base="1.3"):
        composed = compose("train", overrides=[f"model={model}", *overrides])
        return config.load_config(config.to_plain(composed))


def place_files(folder: Path) -> None:
    """Write the verified files where d2l looks: ../data/FashionMNIST/raw."""
    dataset = catalog.get("fashion_mnist")
    raw = folder / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    found = find_files(dataset)
    if found.missing:
        sys.exit(f"{found.missing[0]} is not on this machine; run: cnnbench data fashion_mnist")
    for name, content in found.contents.items():
        (raw / name).write_bytes(content)


def peer_epoch_s(settings: config.Config, examples: list[int], device: torch.device) -> float:
    from d2l import torch as d2l

    class Silent:
        def __init__(self, *args: object, **kwargs: object) -> None: ...
        def add(self, *args: object) -> None: ...

    d2l.Animator = Silent
    size, batch_size = settings.data.resize, settings.train.batch_size
    resize = None if size == 28 else size
    whole_loaders = d2l.load_data_fashion_mnist(batch_size, resize=resize)
    loaders = []
    for loader, number in zip(whole_loaders, examples, strict=True):
        part = Subset(loader.dataset, range(number))
        shuffle = isinstance(loader.sampler, RandomSampler)
        workers = d2l.get_dataloader_workers()
        loaders.append(DataLoader(part, batch_size, shuffle=shuffle, num_workers=workers))
    train_iter, test_iter = loaders
    arguments = settings.model.arguments
    network: nn.Module = models.build(settings.model.name, image_size=size, **arguments)
    began = time.perf_counter()
    d2l.train_ch6(network, train_iter, test_iter, 1, settings.optimizer.lr, device)
    return time.perf_counter() - began


def our_epoch_s(model: str, examples: list[int], overrides: list[str], folder: Path) -> float:
    sizes = [f"data.train_examples={examples[0]}", f"data.test_examples={examples[1]}"]
    command = [sys.executable, "-m", "cnnbench", f"model={model}", "data.validation=0"]
    command += ["train.epochs=2", *sizes, *overrides, f"hydra.run.dir={folder}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with (folder / "metrics.csv").open() as file:
        return statistics.mean(float(row["epoch_s"]) for row in csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--examples", type=int, nargs=2, default=[60_000, 10_000], metavar=("TRAIN", "TEST")
    )
    parser.add_argument("overrides", nargs="*")
    parsed = parser.parse_intermixed_args()
    settings = settings_for(parsed.model, parsed.overrides)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place_files(folder)
        (folder / "work").mkdir()
        for number in range(1, parsed.rounds + 1):
            os.chdir(folder / "work")
            run = folder / f"run{number}"
            theirs.append(peer_epoch_s(settings, parsed.examples, device))
            ours.append(our_epoch_s(parsed.model, parsed.examples, parsed.overrides, run))
            environment = json.loads((run / "environment.json").read_text())
            seconds = f"d2l {theirs[-1]:.2f} s, cnnbench {ours[-1]:.2f} s an epoch"
            print(f"round {number}: {seconds}", flush=True)
    median, peer = statistics.median(ours), statistics.median(theirs)
    print(f"median: d2l {peer:.2f} s, cnnbench {median:.2f} s, ratio {peer / median:.2f}")
    print("{chip}, {precision}, {engine}, torch {torch}, {threads} threads".format(**environment))


if __name__ == "__main__":
    main()
