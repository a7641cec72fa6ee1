"""Runs on the command line with the layers, loss and optimizer of the reference implementation."""

import csv
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.compare_runs import find_differences

SMALL = (
    *("data=sample", "data.train_examples=60", "data.test_examples=20", "data.validation=20"),
    *("train.epochs=2", "train.batch_size=16"),
    *("device=cpu", "device.threads=1", "device.precision=fp64"),
)
TIMES = ("epoch_s", "examples_per_s", "peak_gib")


def read_metrics(run: Path) -> list[dict[str, float]]:
    metrics = []
    with (run / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            metrics.append({key: float(row[key]) for key in row if key not in TIMES})
    return metrics


def train(within: Command, name: str, *overrides: str) -> list[dict[str, float]]:
    result = within(*SMALL, *overrides, f"hydra.run.dir={name}")
    assert result.returncode == 0, result.stderr
    return read_metrics(Path(name))


@pytest.mark.parametrize(
    ("reference", "shared"),
    [
        (["reference.layers=true"], ["model=lenet", "optimizer.lr=0.5"]),
        (["reference.layers=true"], ["model=bn_lenet", "scheduler=cosine"]),
        (["reference.layers=true"], ["model=lenet_relu", "optimizer=adam", "augment=mixup"]),
        (["reference.loss=true"], ["train.label_smoothing=0.1", "train.l1=0.001"]),
        (["reference.loss=true"], ["train.loss=nll"]),
        (["reference.loss=true"], ["train.loss=mse", "augment=cutmix"]),
        (["reference.optimizer=true"], ["optimizer=sgd", "optimizer.weight_decay=0.01"]),
        (["reference.optimizer=true"], ["optimizer=momentum", "scheduler=onecycle"]),
        (["reference.optimizer=true"], ["optimizer=adagrad", "scheduler.warmup_epochs=1"]),
        (["reference.optimizer=true"], ["optimizer=adam", "train.grad_clip_norm=1"]),
        (
            ["reference=all"],
            ["model=simple_cnn", "train.ema_decay=0.9", "train.on_nonfinite_loss=skip"],
        ),
    ],
    ids=str,
)
def test_reference_run_has_the_same_metrics_within_rounding(
    within: Command, reference: list[str], shared: list[str]
) -> None:
    library = train(within, "torch", *shared)
    expected = [pytest.approx(row, abs=1e-9, rel=1e-9) for row in library]
    assert train(within, "reference", *shared, *reference) == expected


@pytest.mark.parametrize(
    "optimizer",
    [
        "momentum",
        "adam",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("sgd", "adagrad")),
    ],
)
def test_resumed_reference_run_has_the_same_bits(within: Command, optimizer: str) -> None:
    overrides = (f"optimizer={optimizer}", "reference.optimizer=true", "reference.layers=true")
    train(within, "whole", *overrides)
    train(within, "parts", *overrides, "train.epochs=1")
    assert within("resume", "parts", "train.epochs=2").returncode == 0
    assert set(find_differences(Path("whole"), Path("parts"))) <= {"best.pt.config.train.epochs"}


def evaluate(within: Command, *arguments: str) -> str:
    result = within("evaluate", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.partition("most confused")[0]


def test_reference_run_can_be_evaluated_with_torch_layers(within: Command) -> None:
    train(within, "run", "reference.layers=true", "model=simple_cnn")
    assert evaluate(within, "run", "reference=none") == evaluate(within, "run")


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_precision_auto_and_fp32_compute_in_fp32(within: Command, precision: str) -> None:
    result = within(
        *SMALL, "reference.layers=true", f"device.precision={precision}", "train.epochs=1"
    )
    assert result.returncode == 0, result.stderr
    assert "), fp32, channels first, 1 thread" in result.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["reference.layers=hand"], "reference.layers=hand is not true or false"),
        (["reference=some"], "reference=some is not known. Allowed: all, none."),
        (
            ["optimizer=muon", "reference=all"],
            "reference.optimizer=true is for adagrad, adam, momentum, sgd, not for muon.",
        ),
        (
            ["reference.layers=true", "device.precision=bf16"],
            "reference.layers=true computes in fp32, tf32 or fp64",
        ),
        (
            ["reference.layers=true", "device.sync_batchnorm=true"],
            "both replace batch normalization",
        ),
    ],
    ids=str,
)
def test_settings_that_are_not_implemented_are_refused(
    within: Command, overrides: list[str], message: str
) -> None:
    result = within(*overrides)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
