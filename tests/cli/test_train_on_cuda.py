"""Training on an NVIDIA GPU: captured steps, memory and reproducibility."""

import csv
import json
from pathlib import Path

import pytest
import torch
from helpers.command import Command, find_only_run

from cnnbench.training import checkpoint

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

SMALL = (
    "data=sample",
    "device=cuda",
    "train.epochs=2",
    "data.train_examples=1000",
    "data.test_examples=300",
)


def rows(folder: Path) -> list[dict[str, str]]:
    with (find_only_run(folder) / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "options",
    [
        ("model=lenet_relu",),
        ("model=bn_lenet", "device.precision=fp16"),
        ("model=bn_lenet", "device.precision=fp32", "device.deterministic=true"),
        ("model=bn_lenet", "optimizer=muon"),
        (
            "model=bn_lenet",
            "optimizer=adamw",
            "train.grad_clip_norm=1",
            "train.ema_decay=0.9",
            "train.tta=hflip",
        ),
        (
            "model=bn_lenet",
            "augment=hflip_translate",
            "augment.random_erasing=0.5",
            "augment.cutout=8",
            "augment.mixup=0.2",
        ),
        ("model=bn_lenet", "augment=cutmix", "device.channels_last=true"),
        ("model=bn_lenet", "device.compile=on"),
        ("model=alexnet", "data.resize=96", "train.batch_size=64"),
        ("model=googlenet", "data.resize=32", "model.auxiliary=false", "train.batch_size=64"),
        ("model=resnet9", "scheduler=onecycle"),
    ],
    ids=" ".join,
)
def test_steps_are_captured(options: tuple[str, ...], within: Command, tmp_path: Path) -> None:
    done = within(*SMALL, *options)
    assert done.returncode == 0, done.stderr
    assert (
        json.loads((find_only_run(tmp_path) / "environment.json").read_text())["engine"] == "graph"
    )
    assert all(float(row["train_loss"]) > 0 for row in rows(tmp_path))


def test_captured_dropout_and_augmentation_follow_the_seed(within: Command, tmp_path: Path) -> None:
    options = (
        *SMALL,
        "model=alexnet",
        "data.resize=67",
        "augment=hflip_translate",
        "device.deterministic=true",
    )
    losses = []
    for name in ("first", "second"):
        assert within(*options, f"hydra.run.dir=outputs/{name}").returncode == 0
        with (tmp_path / "outputs" / name / "metrics.csv").open() as file:
            losses.append([row["train_loss"] for row in csv.DictReader(file)])
    assert losses[0] == losses[1]


def test_alexnet_at_224_pixels_trains_within_three_gib(within: Command, tmp_path: Path) -> None:
    done = within(*SMALL, "model=alexnet", "data.resize=224", "train.batch_size=128")
    assert done.returncode == 0, done.stderr
    assert max(float(row["peak_gib"]) for row in rows(tmp_path)) < 3


@pytest.mark.parametrize("graph", ["true", "false"])
def test_run_resumed_within_an_epoch_is_bit_identical(
    graph: str, within: Command, tmp_path: Path
) -> None:
    options = (
        "model=bn_lenet",
        "augment=hflip_translate",
        "device.deterministic=true",
        f"device.cuda_graphs={graph}",
    )
    assert within(*SMALL, *options, "train.checkpoint_every.steps=3").returncode == 0
    run = find_only_run(tmp_path)
    whole, last = rows(tmp_path), checkpoint.load_checkpoint(run / "checkpoints" / "last.pt")
    (run / "checkpoints" / "last.pt").unlink()  # previous.pt is from within the last epoch
    (run / "status.json").write_text('{"state": "interrupted"}')
    assert within("resume", str(run)).returncode == 0
    measured = ("epoch_s", "examples_per_s", "peak_gib")
    for row, resumed_row in zip(whole, rows(tmp_path), strict=True):
        assert all(row[key] == resumed_row[key] for key in row if key not in measured)
    weights = checkpoint.load_checkpoint(run / "checkpoints" / "last.pt")["model"]
    assert all(torch.equal(last["model"][key], value) for key, value in weights.items())


def test_out_of_memory_error_names_batch_and_memory(within: Command) -> None:
    done = within(
        "data=sample", "device=cuda", "model=vgg19", "data.resize=1024", "train.batch_size=4500"
    )
    assert done.returncode == 2
    assert "a batch of 4500 images of 1024 x 1024 pixels" in done.stderr
    assert "GiB" in done.stderr
